# make repro   the experiment on the shipped sample: fine-tune, export, quantize, index, map, score, report
# make test    linters, types and tests
# Both create the environment in .venv first if it is not there. PYTHON=python3.12 chooses the interpreter.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One known build of PyTorch; on machines without a GPU, pip takes a processor build of it where its index offers one.
TORCH ?= torch==2.13.0

.PHONY: env repro test lint clean

env: $(VENV)/ready

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[train,spacy,xlsx,dev]"
	touch $@

repro: env
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dvc repro
	@echo "Look at experiments/report.html"

test: env lint
	$(BIN)/pytest

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf experiments/prepared experiments/models experiments/vectors umls_index
