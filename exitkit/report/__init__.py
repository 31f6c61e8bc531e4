"""What a run is worth: tables, figures, one page; without torch."""
