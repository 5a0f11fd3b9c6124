"""Configs: data, one file per data set; `default.py` explains every knob."""
