# Everything runs in a virtual environment in this folder, made on first use with nothing but python3.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check mutants docs man venv clean

demo: venv
	PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: venv
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Small wrong changes to one room, and which of them its tests notice: make mutants ROOM=container SAMPLE=60 SEED=0
ROOM ?= container
SAMPLE ?= 60
SEED ?= 0
MINUTES ?= 60
mutants: venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,mutants]'
	$(BIN)/python tests/mutants/run.py $(ROOM) --sample $(SAMPLE) --seed $(SEED) --minutes $(MINUTES) $(OPTIONS)

docs: venv
	$(BIN)/python docs/reference.py site
	@echo "Open site/index.html"

man: venv
	$(BIN)/python docs/man_pages.py man/man1
	@echo "Read them with: man -M man nac-compress"

venv: $(VENV)/ready

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo man site *.egg-info
