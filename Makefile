# Every target installs what it needs into .venv by itself; a second run reuses it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: demo test check results bench clean

demo: $(VENV)/.user
	$(BIN)/exitkit demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/guards
	$(BIN)/python tests/wheel.py

results: $(VENV)/.dev
	$(BIN)/python -m exitkit.report.results

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/engine.py --write
	$(BIN)/python benchmarks/train_step.py --write

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("exitkit needs Python >= 3.11") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.user: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[all]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e ".[all,trt-rtx,dev]"
	touch $@ $(VENV)/.user

clean:
	rm -rf $(VENV) build dist
