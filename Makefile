# make repro   the experiment on the shipped sample: fine-tune, export, quantize, index, map, score, report
# make test    linters, types and tests
# make lock    write constraints.txt anew, from the environment as it is
# All create the environment in .venv first if it is not there. PYTHON=python3.12 chooses the interpreter;
# CONSTRAINTS= takes the newest packages in place of those that are known to work together.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
# One known build of PyTorch; on machines without a GPU, pip takes a processor build of it where its index offers one.
TORCH ?= torch==2.13.0

.PHONY: env repro test lint lock clean

env: $(VENV)/ready

$(VENV)/ready: pyproject.toml $(CONSTRAINTS)
	@echo "Making the environment in $(VENV): some minutes, and about 3 GB the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade pip
	@$(PIP) install "$(TORCH)" $(CONSTRAINTS:%=--constraint %)
	@$(PIP) install --editable ".[train,spacy,xlsx,dev]" $(CONSTRAINTS:%=--constraint %)
	@touch $@

repro: env
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/dvc repro
	@echo
	@echo "Made: experiments/models (the encoder, fp32 and int8), umls_index (the index of the sample)"
	@echo "Look at experiments/report.html; ask: $(BIN)/deft map \"vision double\""

test: lint
	@$(BIN)/pytest

lint: env
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

lock: env
	@$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf experiments/prepared experiments/models experiments/vectors umls_index
