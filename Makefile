# What a developer does with this project. `make help` lists it.
#
#   make run ARGS="--port 7000"           arguments for the server
#   make test PYTHON=python3.13 VENV=.venv-3.13
#   make test-python TESTS="tests/test_cli.py -x"
#
# Needs Python 3.10 or newer and cargo; everything else goes into $(VENV), or where cargo puts
# it (CARGO_TARGET_DIR is respected).

PYTHON ?= python3
VENV ?= .venv
CARGO ?= cargo
ARGS ?=
TESTS ?=

bin := $(VENV)/bin
python := $(bin)/python
# What the native module is built from.
rust := $(shell find src -name '*.rs') $(wildcard Cargo.toml Cargo.lock build.rs .cargo/config.toml)
# Without Python the crate is the protocol and the engine alone: no libpython is needed to link
# its tests.
pure := --no-default-features
# As on systems without epoll and io_uring; rustdoc builds the crate once more and must be told too.
portable := --cfg rakit_ws_portable_poller

.PHONY: help run test test-rust test-python test-shards check check-format check-lint check-types check-floors \
	check-rust coverage autobahn fuzz soak valgrind bench compare bench-guard docs format clean

help:
	@echo 'make run      build what is needed and start the server (ARGS="--port 7000")'
	@echo 'make test     build what is needed and run the tests of both languages'
	@echo 'make test-shards the Python tests with two shards'
	@echo 'make check    format, lint, types, floors, stub test'
	@echo 'make bench    a short form of the benches'
	@echo 'make compare  beside other servers, an hour (ARGS=--quick: some minutes)'
	@echo 'make bench-guard instructions of fixed work, beside the committed ones (ARGS=--update)'
	@echo 'make autobahn the conformance suite, where there is a Python 2.7 (ARGS="6.4.* 9.3.1")'
	@echo 'make fuzz     cargo-fuzz, where there is one (ARGS="decoder", FUZZ_SECONDS=600)'
	@echo 'make soak     ten minutes of churn, and what they leave behind (ARGS="--minutes 0.5")'
	@echo 'make valgrind tests of the native module under valgrind, where there is one'
	@echo 'make docs     write the generated parts of README and docs/ anew'
	@echo 'make format   format the code of both languages'
	@echo 'make coverage what the Python tests reach'
	@echo 'make clean    remove everything that was built'

run: $(VENV)/.native
	@exec $(python) -m rakit_ws run $(ARGS)

test: test-rust test-python

# The second time with the poller of systems without epoll, which Linux can run too.
test-rust:
	$(CARGO) test $(pure)
	RUSTFLAGS="$$RUSTFLAGS $(portable)" RUSTDOCFLAGS="$$RUSTDOCFLAGS $(portable)" $(CARGO) test $(pure)

test-python: $(VENV)/.dev
	$(python) -m pytest $(TESTS)

# The same with the connections in two shards.
test-shards: $(VENV)/.dev
	TEST_SHARDS=2 $(python) -m pytest $(TESTS)

# `make -k check` goes on behind the first complaint.
check: check-format check-lint check-types check-floors check-rust

check-format: $(VENV)/.dev
	$(python) -m ruff format --check
	$(CARGO) fmt --check

check-lint: $(VENV)/.dev
	$(python) -m ruff check

# The peers of the benches have types too.
check-types: $(VENV)/.dev $(VENV)/.bench
	$(python) -m mypy
	$(python) -m mypy.stubtest rakit_ws._core --mypy-config-file pyproject.toml

check-floors: $(VENV)/.dev
	$(bin)/lint-imports

check-rust: $(python)
	PYO3_PYTHON=$(abspath $(python)) $(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy $(pure) --features guard --all-targets -- -D warnings

coverage: $(VENV)/.dev
	$(python) -m coverage run -m pytest $(TESTS)
	$(python) -m coverage report

autobahn: $(VENV)/.dev
	$(python) tests/compliance/autobahn/run.py $(ARGS)

soak: $(VENV)/.bench
	$(python) tests/soak/soak.py $(ARGS)

valgrind: $(VENV)/.dev
	$(python) tests/valgrind/run.py $(ARGS)

fuzz:
	fuzz/run.sh $(ARGS)

bench: $(VENV)/.bench
	$(python) benches/decode.py --quick
	$(python) benches/load.py --quick

# Needs valgrind.
bench-guard: $(VENV)/.native
	$(python) benches/guard.py $(ARGS)

# Without npm its peers are named and left out.
compare: $(VENV)/.bench benches/peers/node_modules
	$(python) benches/compare.py $(ARGS)

docs: $(VENV)/.dev
	$(python) tests/test_readme.py

format: $(VENV)/.dev
	$(python) -m ruff format
	$(python) -m ruff check --fix-only
	$(CARGO) fmt

clean:
	$(CARGO) clean
	rm -rf $(VENV) .venv* dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
	rm -f python/rakit_ws/*.so
	find python tests benches examples -name __pycache__ -prune -exec rm -rf {} +

# --- The virtual environment ------------------------------------------------------------------

# Each is a stamp: what it stands for was done later than its prerequisites changed. maturin
# builds the native module into python/, and installs the package in editable form with what it
# needs; cargo then builds only what has changed.
maturin := PIP_QUIET=1 VIRTUAL_ENV=$(abspath $(VENV)) $(bin)/maturin develop --release

$(VENV)/.native: pyproject.toml $(rust) | $(bin)/maturin
	$(maturin)
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.native
	$(maturin) --extras dev
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.native
	$(maturin) --extras bench
	@touch $@

benches/peers/node_modules: benches/peers/package.json
	@if command -v npm >/dev/null; then \
	  npm install --prefix benches/peers --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; \
	else echo 'npm is missing: ws and Bun are not among the peers'; fi

$(bin)/maturin: | $(python)
	$(python) -m pip install --quiet --disable-pip-version-check 'maturin>=1.9.4,<2'

$(python):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("rakit_ws needs Python 3.10 or newer; try make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
