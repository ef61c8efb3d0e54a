# make demo | test | test-slow | tsan | asan | lint | bench | clean      (PYTHON=python3.12 picks another Python)
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SOURCES = setup.py $(filter-out %_v2.pyx %_v3.pyx %_v4.pyx %_generic.pyx, \
          $(shell find sknn -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h'))
JOBS = $(shell getconf _NPROCESSORS_ONLN)
# setuptools warns of every editable install, and would compile all again for it
INSTALL = PYTHONWARNINGS=ignore SKNN_BUILT=1 $(BIN)/python -m pip install --quiet

.PHONY: build demo test test-slow tsan asan lint bench clean

build: $(VENV)/built

$(VENV)/created:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip
	touch $@

$(VENV)/installed: $(VENV)/created pyproject.toml
	$(INSTALL) "setuptools>=77" "cython>=3.1" "numpy>=2.0" "scipy>=1.12" "scikit-learn>=1.9"
	touch $@

# an editable install, built in place: a second `make` compiles only what changed
$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(BIN)/python setup.py --quiet build_ext --inplace --parallel $(JOBS)
	$(INSTALL) --no-build-isolation --no-deps --editable .
	touch $@

$(VENV)/extra-%: $(VENV)/built pyproject.toml
	$(INSTALL) --no-build-isolation --editable ".[$*]"
	touch $@

demo: $(VENV)/extra-demo
	$(BIN)/python examples/quickstart.py

test: $(VENV)/extra-test
	$(BIN)/python -m pytest

test-slow: $(VENV)/extra-test
	$(BIN)/python -m pytest -m slow

# the kernel tests and threaded fits in a copy built for ThreadSanitizer or AddressSanitizer
tsan asan: $(VENV)/extra-test
	sh tests/sanitize.sh $@ $(abspath $(BIN)/python)

lint: $(VENV)/created
	$(INSTALL) --group lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(BIN):$$PATH" cython-lint --exclude '_(v[234]|generic).pyx' sknn

# all into benchmarks/results/<date>.json and .md
bench: $(VENV)/extra-bench
	@for benchmark in benchmarks/bench_*.py; do $(BIN)/python $$benchmark || exit 1; done
	@$(BIN)/python benchmarks/compare.py

clean:
	rm -rf $(VENV) build *.egg-info
	find sknn benchmarks \( -name '*.so' -o -name '*.cpp' -o -name '*_v[234].pyx' -o -name '*_generic.pyx' \) -delete
