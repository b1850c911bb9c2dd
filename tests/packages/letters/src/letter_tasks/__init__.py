"""Tasks that look at letters."""
