"""Networks with exits: stages, heads and what they cost."""
