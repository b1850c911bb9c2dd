"""`python -m tigerflow`."""

from tigerflow import main

main()
