"""What a run will take on chips that are not there: `tools/plan.py`."""
