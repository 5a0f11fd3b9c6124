# make demo   trains on digits and prints the held-out accuracy
# make test   tests every module, in ten minutes; make test-all, all there is
# make lint   what CI checks first
# make docs   builds the pages of docs/ into docs/_build
# make notebook   runs notebooks/*.ipynb and stores what they show
# Each makes .venv and installs what it needs, once. For another Python:
# make test PYTHON=python3.12 VENV=.venv-3.12

PYTHON ?= python3
VENV := .venv
WORKDIR := runs/demo
# Python compiles what is imported when it is; pip would compile everything, for
# a third of the time of an installation.
PIP_INSTALL = $(VENV)/bin/python -m pip install --quiet --no-compile

PYTEST = $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 \
  --dist=loadfile --durations=10

.PHONY: demo test test-all lint format docs notebook

demo: $(VENV)/installed
	$(VENV)/bin/python train.py --config=configs/digits.py --workdir=$(WORKDIR)

test: $(VENV)/installed-dev
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/installed-dev
	$(PYTEST)

lint: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(VENV)/bin/mypy
	! grep -rnE '^.{81,}' --include='*.h' --include='*.cc' --include='*.cu*' \
	  convmixer_jax tests

format: $(VENV)/installed-dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/installed-docs
	$(VENV)/bin/sphinx-build -W --keep-going -n -q -c docs . docs/_build
	@echo docs/_build/docs/index.html

notebook: $(VENV)/installed-dev
	$(VENV)/bin/python scripts/run_notebook.py notebooks/explore.ipynb
	$(VENV)/bin/python scripts/run_notebook.py notebooks/train_own_images.ipynb
	$(VENV)/bin/python scripts/run_notebook.py notebooks/patches.ipynb

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Python 3.11 or newer is needed: make PYTHON=python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV)

.PHONY: same-python
same-python: | $(VENV)/bin/python
	@[ '$(origin PYTHON)' = file ] || \
	  [ "$$($(PYTHON) -V)" = "$$($(VENV)/bin/python -V)" ] || \
	  { echo 'PYTHON=$(PYTHON), but $(VENV) has another; give VENV=.venv-NAME'; \
	  exit 1; }

$(VENV)/installed: requirements.txt | same-python
	$(PIP_INSTALL) -r requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt requirements-prepare.txt \
  $(VENV)/installed
	$(PIP_INSTALL) -r requirements-dev.txt
	touch $@

$(VENV)/installed-docs: requirements-docs.txt | same-python
	$(PIP_INSTALL) -r requirements-docs.txt
	touch $@
