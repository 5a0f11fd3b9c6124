"""Image classification sets made of folders: one folder for each class."""
