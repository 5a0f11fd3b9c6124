# make demo   trains on digits and prints the held-out accuracy
# make test   runs all tests
# make lint   what CI checks first
# make notebook   runs notebooks/explore.ipynb and stores what it shows
# Each makes .venv and installs what it needs, once.

PYTHON ?= python3
VENV := .venv

.PHONY: demo test lint format notebook

demo: $(VENV)/installed
	$(VENV)/bin/python train.py --config=configs/digits.py --workdir=runs/demo

test: $(VENV)/installed-dev
	$(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 \
	  --dist=loadfile --durations=10

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

notebook: $(VENV)/installed-dev
	$(VENV)/bin/python tests/run_notebook.py notebooks/explore.ipynb

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	touch $@
