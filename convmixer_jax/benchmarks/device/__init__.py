"""Checks and measures the project on an accelerator, with one command.

`run.py` runs the stages; each appends its results to `rows.jsonl` immediately.
Separate processes, which can be killed, do all work on the device, one at a
time. `report.py` makes tables of the rows, and `picture.py` a plot.
"""
