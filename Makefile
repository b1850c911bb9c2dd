# `make demo` shows what TigerFlow does; `make test` checks that it does it, and
# `make unit` what can be checked in about a minute.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test unit lint clean test-slurm test-rest

demo: $(VENV)/demo-installed
	rm -rf $(DEMO)
	sh examples/words/demo.sh $(DEMO) $(CURDIR)/$(BIN)

test: lint
	sh tests/system-packages.sh slurm
	sh tests/system-packages.sh zsh
	sh tests/system-packages.sh browser
	sh tests/system-packages.sh software
	# Both wait most of the time.
	$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync=target test-slurm test-rest

test-slurm test-rest: $(VENV)/test-installed
	$(BIN)/python -m pytest -q --durations=20 -m $(if $(filter %-slurm,$@),slurm,"not slurm")

# For the work of a minute.
unit: lint
	$(BIN)/python -m pytest -q tests/unit

lint: $(VENV)/test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) $(DEMO)

$(VENV)/demo-installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[examples]'
	touch $@

$(VENV)/test-installed: pyproject.toml $(wildcard tests/packages/letters/src/*/*)
$(VENV)/test-installed: | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[examples,report,test]'
	# Apart, so that its tasks are in no other list; with what its modules import only.
	$(BIN)/python -m pip install --quiet --no-deps --upgrade \
		--target $(VENV)/third-party tigerflow-ml==0.2.0 langdetect==1.0.9 six
	$(BIN)/python -m pip install --quiet --no-deps --upgrade \
		--target $(VENV)/letter-tasks tests/packages/letters
	touch $@ $(VENV)/demo-installed

$(BIN)/python:
	sh tests/system-packages.sh python $(PYTHON)
	$(PYTHON) -m venv $(VENV)
