"""Everything that stands in an output directory: where it is, and how it is read."""
