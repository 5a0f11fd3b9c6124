"""Trained networks from runs, files of weights and the Hugging Face Hub."""
