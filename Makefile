# Needs Python 3.11 or newer and make; everything else is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help install demo test test-all lint types layers unit slow docs format clean

help:
	@echo "make demo     install, then run the whole story on a phantom cohort into demo/"
	@echo "make test     install, then lint, type-check, check the layers, build the docs and run all but the slow tests"
	@echo "make test-all the same, then the slow tests"
	@echo "make docs     build the documentation strictly into build/site"
	@echo "make install  only create $(VENV) with the package in it"
	@echo "make format   rewrite the sources in the house style"
	@echo "make clean    remove $(VENV) and caches"

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev,dask,docs,explain,itk,onnx,postgres,serve,ssl,volume]'
	@touch $@

install: $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/voco2d demo --out demo

test: lint types layers docs unit

test-all: test slow

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# a file's tests stay in one process, which makes their cohorts and runs once
PYTEST := $(BIN)/pytest -n 2 --dist loadfile

unit: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow"

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $$(grep -rl --include='test_*.py' mark.slow tests)  # importing the others would take a while

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build/site .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
