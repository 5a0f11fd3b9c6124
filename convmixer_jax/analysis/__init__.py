"""Numbers and pictures of a network: FLOPs, receptive fields, plots."""
