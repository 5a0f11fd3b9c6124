"""Reads data sets and makes batches in host memory; independent of models."""
