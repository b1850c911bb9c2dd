"""What stands in an output directory, for people to read."""
