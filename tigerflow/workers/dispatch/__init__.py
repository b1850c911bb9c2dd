"""The end that has the files: hosts, pools, and how they start and reach workers."""
