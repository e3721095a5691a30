# make demo: the whole path on this machine.   make test: everything CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test test-fast fuzz check docs bench format clean

demo: $(VENV)/.demo
	$(BIN)/splitrt demo --plot demo.png

# On both cores, a file at a time; a Ray cluster has the machine for itself.
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not ray"
	$(BIN)/python -m pytest -m ray

test-fast: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not torch and not ray and not slow"

# Properties on examples that nobody has seen yet.
fuzz: $(VENV)/.dev
	$(BIN)/python -m pytest --hypothesis-profile=fuzz tests/policy tests/codec tests/server tests/test_*.py

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation into site/, a warning being an error; first the pages that are written from commands and results.
docs: $(VENV)/.dev
	$(BIN)/python scripts/cli_page.py
	$(BIN)/python scripts/results_page.py
	$(BIN)/python -m mkdocs build --strict

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# What docs/results holds. Needs the data sets for `rate`: make bench DATA=folder
bench: $(VENV)/.dev
	for claim in frame head plan zoo $(if $(DATA),codec control exits rate width); do \
	  $(BIN)/splitrt bench $$claim $(if $(DATA),--data $(DATA)) \
	    --json docs/results/$$claim.json --plot docs/results/$$claim.png || exit 1; \
	done

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) --editable '.[demo]'
	touch $@

# torch first and by its exact version: any other spelling may bring gigabytes of CUDA.
$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) torch==2.13.0
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
