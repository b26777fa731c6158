PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A process a core, a thread each: half the time of one process. Each has a run of neighbouring
# tests, which share what is costly to make; whoever is done first takes over some of the other's.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --maxprocesses 8 --dist worksteal
# Most of what is installed is never imported: Python compiles the rest when it is.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile -c constraints.txt
# Where this is set, every process would compile anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo demo-local check format messages test test-slow test-all fuzz docs clean

demo: $(VENV)/.local
	$(BIN)/japagen run configs/quickstart.yaml --out runs/quickstart

demo-local: $(VENV)/.local
	$(BIN)/japagen run configs/quickstart_local.yaml --out runs/quickstart-local

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --num-workers 2

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Takes new texts into the catalogue, to be translated there, and drops those that are gone.
messages: $(VENV)/.dev
	$(BIN)/python -m tests.messages

test: $(VENV)/.dev
	$(PYTEST) $(if $(SLOW),,-m "not slow")

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

# Both at once: no process waits for the other's last test, and collecting takes its time once.
test-all: SLOW = 1
test-all: test

# 100,000 inputs for the readers of answers, replies and files.
fuzz: $(VENV)/.dev
	JAPAGEN_FUZZ=100000 $(BIN)/pytest tests/fuzz

# The site, in docs/_build/html: whatever Sphinx warns of is an error, and nothing is fetched.
docs: $(VENV)/.dev
	$(BIN)/sphinx-build -W --keep-going -q -E -d docs/_build/doctrees docs docs/_build/html
	! grep -rEl '(src=|<link[^>]* href=|url\()"?https?:' docs/_build/html --include='*.html' --include='*.css'

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[local]'
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) -e '.[local,openai,anthropic,gemini,hf,onnx,review,privacy,ray,docs,dev]'
	touch $@

clean:
	rm -rf $(VENV) runs docs/_build .mypy_cache .ruff_cache .pytest_cache
