# `make demo` and `make test` each work from a bare clone: they create .venv and install what they need.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint types unit slow docs bench bench-quick clean

.venv/base: pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "cvxnn needs Python 3.11 or newer: make PYTHON=python3.11"'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[plot]'
	touch $@

# torch is optional everywhere: its tests are skipped where no CPU wheel is to be had.
.venv/test: .venv/base
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[test]'
	$(BIN)/python -c 'import torch' 2>/dev/null || \
		$(BIN)/python -m pip install -q --disable-pip-version-check 'torch==2.13.0+cpu' 2>/dev/null || \
		echo 'no CPU build of torch found: the torch tests are skipped'
	touch $@

.venv/docs: .venv/base
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[docs]'
	touch $@

demo: .venv/base
	$(BIN)/cvxnn demo

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test
	$(BIN)/mypy

# One BLAS thread for each of two workers is faster than two threads for one.
PYTEST := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

unit: .venv/test
	$(PYTEST) -m 'not slow'

# The other tests, see tests/slow.py; continuous integration runs both.
slow: .venv/test
	$(PYTEST) -m slow

test: lint types unit

# The site in docs/_build/html, offline: the gallery runs its examples (those that have changed since the last
# build), every warning is an error, and every link and anchor is followed.
docs: .venv/docs
	rm -rf docs/_build
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -n -q -E docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

# Peers side by side (hours); one core for each run. BENCH passes options on, see benchmarks/README.md.
bench: .venv/test
	$(BIN)/python -m benchmarks.run --suite relu --jobs 2 --resume $(BENCH)

bench-quick: .venv/test
	$(BIN)/python -m benchmarks.run --quick --jobs 2 $(BENCH)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis demo docs/_build docs/auto_examples docs/api/generated
