"""Runs a notebook from top to bottom and stores its outputs.

  python scripts/run_notebook.py notebooks/explore.ipynb [OUT.ipynb]

The working directory is the notebook's own, as in Jupyter.
"""

import pathlib
import sys

import nbclient
import nbformat


def main(path: str, out: str) -> None:
  notebook = nbformat.read(path, as_version=4)
  nbclient.NotebookClient(
    notebook,
    timeout=600,
    record_timing=False,
    coalesce_streams=True,
    resources={'metadata': {'path': pathlib.Path(path).parent}},
  ).execute()
  notebook.metadata.language_info = {'name': 'python'}  # without a version
  nbformat.write(notebook, out)


if __name__ == '__main__':
  main(sys.argv[1], sys.argv[-1])
