# `make demo` shows what TigerFlow does; `make test` checks that it does it, and
# `make unit` what can be checked in about a minute. `make test-snakemake
# SNAKEMAKE=9.20 SLURM_PLUGIN=2.5` tries other versions of Snakemake.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# Tests wait most of the time: a processor has some for several.
JOBS ?= 5
SIDE_BY_SIDE = --numprocesses $(JOBS) --dist loadgroup

.PHONY: demo test test-snakemake unit lint clean

demo: $(VENV)/demo-installed
	rm -rf $(DEMO)
	sh examples/words/demo.sh $(DEMO) $(CURDIR)/$(BIN)

test: lint
	sh tests/system-packages.sh slurm
	sh tests/system-packages.sh zsh
	sh tests/system-packages.sh browser
	sh tests/system-packages.sh software
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) --durations=20
	$(MAKE) --no-print-directory test-snakemake SNAKEMAKE=9.20 SLURM_PLUGIN=2.5
	$(MAKE) --no-print-directory test-snakemake SNAKEMAKE=9.23 SLURM_PLUGIN=2.6

# The contract with Snakemake and its Slurm plugin, on other versions of them.
SNAKEMAKE ?= 9.20
SLURM_PLUGIN ?= 2.5
OTHER = $(VENV)/snakemake-$(SNAKEMAKE)-slurm-$(SLURM_PLUGIN)
CONTRACT = test_snakemake_contract test_plugin_contract

test-snakemake: $(OTHER)/installed
	$(OTHER)/bin/python -m pytest -q $(SIDE_BY_SIDE) \
		$(CONTRACT:%=tests/integration/%.py)

$(OTHER)/installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(OTHER)
	$(OTHER)/bin/python -m pip install --quiet --editable '.[contract]' \
		'snakemake==$(SNAKEMAKE).*' 'snakemake-executor-plugin-slurm==$(SLURM_PLUGIN).*'
	touch $@

# For the work of a minute.
unit: lint
	$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) tests/unit

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
	# Tests start thousands of processes; some environments let none keep what it compiles.
	$(BIN)/python -m compileall -q tigerflow snakemake_executor_plugin_tigerflow
	touch $@ $(VENV)/demo-installed

$(BIN)/python:
	sh tests/system-packages.sh python $(PYTHON)
	$(PYTHON) -m venv $(VENV)
