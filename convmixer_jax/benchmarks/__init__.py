"""Measures speed: of the input, of the network, of an accelerator."""
