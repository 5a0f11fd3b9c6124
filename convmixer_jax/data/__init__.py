"""From records on disk to batches in host memory. Knows nothing of models."""
