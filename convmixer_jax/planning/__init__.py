"""Estimates memory, time and communication of a run without its devices."""
