"""A pipeline file: read, check, and know it."""
