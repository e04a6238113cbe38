# `make demo` and `make test` need nothing but Python 3.11 or 3.12 and make: the first run sets up .venv.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_OUT := out/demo
# A machine with a GPU often has a Python with torch already, and no network: gpu-check installs nothing.
GPU_PYTHON ?= python3
GPU_OUT := out/gpu-check
PEERS_DEVICE := cpu
PEERS_OUT := out/peers.json
# Two test workers share the cores; torch must not add threads of its own to each.
# Tests start Pythons by the dozen, which would compile all sources each time where no bytecode may be written.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help setup demo test browser picture answers optima check-times gpu-check lint format types contracts wheel-check bench peers ci clean clean-compiled

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## create .venv and install Loadahead into it

$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	for candidate in $${PYTHON:-} python3.11 python3.12 python3 python; do \
	  if $$candidate -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  fi; \
	done; \
	if [ -z "$${python:-}" ]; then \
	  echo "Loadahead needs Python 3.11 or 3.12; none was found. Install one, or name it: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$($$python --version); this is done once."; \
	$$python -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## the main job end to end on this machine: sweep, plan, run, compare, report
	@$(BIN)/loadahead demo -o $(DEMO_OUT)

test: $(STAMP) ## all tests; none compares clock times, so that a busy machine does not matter
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2 --dist worksteal

browser: ## what the tests of pages in a browser need: Debian's Chromium, axe-core from npm
	@.ci/browser

picture: $(STAMP) ## make the README's figure anew
	PYTHONPATH=. $(BIN)/python docs/images/make_picture.py

answers: $(STAMP) ## make docs/answers.md anew: what offloading does to each model on each machine; takes minutes
	$(TEST_ENV) PYTHONPATH=. $(BIN)/python -m tests.answers

optima: $(STAMP) ## prove the best plans of small instances with OR-tools, where they are new or changed; all: OPTIMA=--all
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,optima]'
	$(TEST_ENV) PYTHONPATH=. $(BIN)/python -m tests.optima $(OPTIMA)

check-times: $(STAMP) ## on a quiet machine: step times beside predictions, start-up and copies, with their spread
	$(TEST_ENV) $(BIN)/python -m tests.times

gpu-check: ## on an NVIDIA GPU, no network: its tests, then predictions against runs beside peers; GPU_PART=tests|validate DRY_RUN=1
	@GPU_PYTHON="$(GPU_PYTHON)" OUT="$(GPU_OUT)" LIMIT="$(LIMIT)" PROBE="$(PROBE)" \
	  .ci/gpu-check $(GPU_PART) $(if $(DRY_RUN),--dry-run)

lint: $(STAMP) ## ruff, rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP) ## mypy, strict
	$(BIN)/mypy

contracts: $(STAMP) ## who may import whom
	$(BIN)/lint-imports

wheel-check: $(STAMP) ## build sdist and wheel, install into an empty environment, use it from another folder
	PYTHON=$(BIN)/python .ci/wheel-check

bench: $(STAMP) ## operations per second of planner, verifier and engines; points per second of a sweep; host time of a step
	$(BIN)/python tests/bench/bench_engines.py
	$(BIN)/python tests/bench/bench_sweep.py
	$(BIN)/python tests/bench/bench_axes.py
	$(BIN)/python tests/bench/bench_transfers.py
	$(BIN)/python tests/bench/bench_trace.py
	PYTHONPATH=. $(BIN)/python tests/bench/bench_export.py
	PYTHONPATH=. $(BIN)/python tests/bench/bench_tune.py
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tests/bench/bench_host.py

peers: $(STAMP) ## step time and peak memory beside torch's checkpoint, save_on_cpu, TRL and DeepSpeed; PEERS_DEVICE=cuda
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python -m tests.bench.bench_peers --device $(PEERS_DEVICE) -o $(PEERS_OUT)

ci: ## everything that must hold
	.ci/run

clean-compiled: ## forget what numba compiled, of this and of former sources
	rm -rf sim/__pycache__/compiled-*
	find sim -name '*.nb[ic]' -delete

clean: ## remove what was generated, .venv included
	rm -rf $(VENV) out dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache tests/browser/node_modules
