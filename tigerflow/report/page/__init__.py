"""A run directory as a page to look at, in one file."""
