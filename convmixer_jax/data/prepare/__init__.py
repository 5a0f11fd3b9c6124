"""Prepares, converts and verifies data sets before a run."""
