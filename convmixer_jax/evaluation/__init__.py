"""Evaluation of trained networks: data sets, protocols, reports, files."""
