"""Data sets of the Hugging Face Hub, by its package `datasets`."""
