"""Checks and measures the project on an accelerator, with one command.

`run.py` goes through the stages; each writes rows of `rows.jsonl` as they
exist. All work on the device is done by processes of their own, one at a time,
that can be killed. `report.py` makes tables and a picture of the rows.
"""
