# make demo: audit the committed ORL model and print where the report is. make test: the default tests, in WORKERS=2
# processes of about 4 GB.
# The first working Python 3.11 or newer is used; make PYTHON=/path/to/python3 chooses another.

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
WORKS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do if $$p -c '$(WORKS)' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := .venv/bin
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadgroup --max-worker-restart=0
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q

# torch, diffusers and jax in one process: Python 3.11, in an environment of its own.
TORCH_CANDIDATES := python3.11 python3 python
IS_311 := import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))
TORCH_PYTHON ?= $(shell for p in $(TORCH_CANDIDATES); do if $$p -c '$(IS_311)' >/dev/null 2>&1; then echo $$p; break; fi; done)

.PHONY: install demo test test-all lint bench parity docs site clean

install: .venv/installed-dev

demo: .venv/installed-demo
	mkdir -p runs
	$(BIN)/python main.py --config=configs/orl.py --workdir=runs/orl

test: .venv/installed-dev
	$(BIN)/python -m pytest $(PARALLEL) --durations=5
	@echo "Left to make test-all: several processes, kill -9, SIGTERM, a full disk, an audit in a bucket, the page in Chromium," \
	"full-size SSCD, training and the notebook. Left to make parity: torch and diffusers, live."

test-all: .venv/installed-browser
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m "not slow and not parity" $(PARALLEL)
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -m slow --durations=10

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed-bench
	$(BIN)/python -m benchmarks.guided_sampling
	$(BIN)/python -m benchmarks.import_target
	$(BIN)/python -m benchmarks.match_faiss
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python -m benchmarks.detector
	$(BIN)/python -m benchmarks.exact_guide
	$(BIN)/python -m benchmarks.report_scale
	$(BIN)/python -m benchmarks.start_up
	$(BIN)/python -m benchmarks.recipes

docs: .venv/installed-dev
	$(BIN)/python -m docs.inputs
	$(BIN)/python -m docs.theory
	$(BIN)/python -m docs.guidance
	$(BIN)/python -m docs.evidence.simulation
	$(BIN)/python -m docs.evidence

# The pages of docs/ as build/site; a warning is an error.
site: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

parity: .venv-torch/installed
	.venv-torch/bin/python -m pytest tests/parity -m parity

clean:
	rm -rf .venv .venv-torch build *.egg-info .pytest_cache .ruff_cache .mypy_cache

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "No working Python 3.11 or newer with venv (tried: $(CANDIDATES)). \
	Install one, or name it: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c '$(WORKS)' || { echo "$(PYTHON) is not a working Python 3.11 or newer with venv."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/installed-demo: .venv/bin/python pyproject.toml
	$(PIP) -e '.[demo]'
	@touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	$(PIP) -e '.[demo,dev]'
	@touch $@

.venv/installed-browser: .venv/installed-dev
	$(PIP) -e '.[browser]'
	@touch $@

.venv/installed-bench: .venv/installed-dev
	$(PIP) -e '.[bench]'
	@touch $@

.venv/installed-docs: .venv/installed-dev
	$(PIP) -e '.[docs]'
	@touch $@

.venv-torch/bin/python:
	@test -n "$(TORCH_PYTHON)" || { echo "No working Python 3.11 with venv (tried: $(TORCH_CANDIDATES)), which make parity \
	needs. Install it, or name it: make parity TORCH_PYTHON=/path/to/python3.11"; exit 1; }
	@$(TORCH_PYTHON) -c '$(IS_311)' || { echo "$(TORCH_PYTHON) is not a working Python 3.11 with venv."; exit 1; }
	$(TORCH_PYTHON) -m venv .venv-torch

.venv-torch/installed: .venv-torch/bin/python pyproject.toml
	.venv-torch/bin/python -m pip --disable-pip-version-check install -q -e '.[dev,parity]'
	@touch $@
