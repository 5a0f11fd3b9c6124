"""Compares networks: size, operations, memory, speed and accuracy.

`run.py` fills the rows, one network after the other; `report.py` makes tables
of them and `picture.py` a plot. `paper.py` has the published comparison.
"""
