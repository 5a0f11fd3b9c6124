"""Analyses of a network: parameters and FLOPs, receptive fields, plots."""
