"""A throw-away Slurm on one machine, for tests."""
