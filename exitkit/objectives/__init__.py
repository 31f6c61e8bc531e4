"""Training objectives: one paper per file, and the sums they form."""
