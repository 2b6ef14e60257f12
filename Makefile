# make demo: audit the committed ORL model and print where the report is. make test: the default tests.
# The first working Python 3.11 or newer is used; make PYTHON=/path/to/python3 chooses another.

CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
WORKS := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do if $$p -c '$(WORKS)' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q

.PHONY: install demo test test-all lint bench clean

install: .venv/installed-dev

demo: .venv/installed-demo
	mkdir -p runs
	$(BIN)/python main.py --config=configs/orl.py --workdir=runs/orl

test: .venv/installed-dev
	$(BIN)/python -m pytest --durations=5
	@echo "Left to make test-all: kill -9 at random moments, the page in Chromium, a step of the full-size default config."

test-all: .venv/installed-dev
	$(BIN)/python -m pytest -m "" --durations=10

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: .venv/installed-dev
	$(BIN)/python benchmarks/guided_sampling.py

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache

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
