"""Measures the speed of the input, of networks and of an accelerator."""
