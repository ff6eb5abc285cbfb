# The ways in. A fresh machine needs python3 and make; each target sets up what it needs.
# ARGS= passes more on, e.g. `make run ARGS="--epochs=5"` or
# `make bench ARGS="ops --dataset=yelp"`.

PYTHON ?= python3
BIN := .venv/bin

# What cannot run here is left out by its mark, so that no test is skipped in the run itself.
LEFT_OUT := $(if $(wildcard ../shared/data),,not_data)
LEFT_OUT += $(if $(shell command -v nvidia-smi),,not_gpu)
LEFT_OUT += $(if $(shell command -v chromium || command -v google-chrome),,not_browser)
space := $(subst ,, )
ALL := $(subst _, ,$(subst $(space),_and_,$(strip $(LEFT_OUT))))
FAST := not slow and not data and not gpu

.PHONY: run test check docs bench fuzz test-oldest clean

run: .venv/ready
	$(BIN)/python run_recbole_lightgnn.py --model=LightGNN --dataset=ml-100k $(ARGS)

# Two processes of one thread each are faster than one process of two threads.
test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "$(ALL)" $(ARGS)

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n 2 -m "$(FAST)" $(ARGS)

# The documentation site; a warning, such as a dead link, is an error.
docs: .venv/ready
	$(BIN)/sphinx-build -q -W --keep-going docs docs/_build/html $(ARGS)
	@echo "docs/_build/html/index.html"

bench: .venv/ready
	$(BIN)/recbole-lightgnn bench $(or $(ARGS),ops)

# Damaged files at the readers of imports and of exported models, then random settings of runs; five
# minutes each, or ARGS="--minutes=60".
fuzz: .venv/ready
	$(BIN)/python tests/helpers/fuzz_readers.py $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python tests/helpers/fuzz_settings.py $(ARGS)

test-oldest: .venv-oldest/ready
	OMP_NUM_THREADS=1 .venv-oldest/bin/pytest -q -n 2 -m "$(FAST)" $(ARGS)

clean:
	rm -rf .venv .venv-oldest dist build docs/_build docs/_generated .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/ready: constraints.txt pyproject.toml
.venv-oldest/ready: constraints-oldest.txt pyproject.toml

# torch comes first and with what it requires: where pip finds a CUDA build, that is the CUDA
# libraries. The rest of the list is complete, and pip resolves nothing (constraints.txt says why).
PIP := bin/pip install -qq --no-input --disable-pip-version-check
%/ready:
	@echo "Setting up $* (once; a minute or two)"
	@$(PYTHON) -m venv $*
	@$*/$(PIP) -c $< torch
	@$*/$(PIP) --no-deps -r $<
	@$*/$(PIP) --no-deps --no-build-isolation -e .
	@$*/bin/python -c "import torch" || { echo "error: torch is installed in $*, but does not" \
		"import here (above). Install a build for this machine, such as a CPU build, with" \
		"'$*/bin/pip install --force-reinstall', and run make again." >&2; exit 1; }
	@touch $@
