"""What an output directory contains, for people to read: text, JSON or a page."""
