"""What a run will take on chips that are not there: `cli/plan.py`."""
