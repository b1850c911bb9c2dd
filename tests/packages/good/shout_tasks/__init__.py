"""Tasks that shout."""
