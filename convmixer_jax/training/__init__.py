"""From a batch in host memory to a new state, a metric and a checkpoint."""
