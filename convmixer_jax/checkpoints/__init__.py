"""The run directory: checkpoints, checksums, metrics.csv, the config."""
