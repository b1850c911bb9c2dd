"""What serves an output directory: arrivals in, windows of Snakemake, results out."""
