# make demo: from bundled structures to a trained model.   make test, make lint: what CI runs.
# make complexes: the same of two complexes, with a multimer network.
# make learning: from two Debian packages to a model that has learnt from thousands of chains; hours.
# make bench BASE=COMMIT: this tree's training step against that of another commit.
# Tests run two files at a time (make test JOBS=1 where memory is short), and in two halves: what XLA
# compiled stays in a process until its end. Files begin in the order of tests/conftest.py: xdist's
# own, by the number of tests, would leave the longest for the end.
# An environment that exists already can be named: make test VENV=/path/to/venv
PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
FIRST_HALF := tests/model tests/losses tests/test_golden.py
TESTS := pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder
BIN := $(VENV)/bin
DEMO := demo_output
COMPLEXES := complexes_output
LEARNING := learning_output
BASE ?= HEAD
export TF_CPP_MIN_LOG_LEVEL ?= 3

.PHONY: demo complexes learning test lint bench clean-demo

demo: $(VENV)/.installed-cpu
	$(BIN)/python examples/demo/run.py --output $(DEMO)

complexes: $(VENV)/.installed-cpu
	$(BIN)/python examples/complexes/run.py --output $(COMPLEXES)

learning: $(VENV)/.installed-cpu
	$(BIN)/python -m examples.learning.run --output $(LEARNING)

test: $(VENV)/.installed-test
	$(BIN)/python -m $(TESTS) $(FIRST_HALF)
	$(BIN)/python -m $(TESTS) $(addprefix --ignore=,$(FIRST_HALF))

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .

bench: $(VENV)/.installed-cpu
	$(BIN)/python benchmarks/ratios.py --base $(BASE)

clean-demo:
	rm -rf $(DEMO)

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-cpu: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[cpu]'
	touch $@

$(VENV)/.installed-test: setup.cfg pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q -e '.[cpu,plan,relax,test]'
	touch $@ $(VENV)/.installed-cpu
