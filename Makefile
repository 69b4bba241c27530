# Every target sets up what it needs; the second time that is done at once.
# Nothing needs root. PYTHON=python3.12 takes another interpreter for .venv/.

PYTHON = python3
# Tests at a time. They wait more than they compute: two for each processor.
JOBS = 4
PORT = $(error Name the serial port: make $@ PORT=/dev/ttyUSB0)
BOARD = $(error Name the board, a file of boards/: make $@ BOARD=esp32-generic)

BIN = .venv/bin
SETUP = .venv/.setup-stamp
FUZZER = .venv/.fuzz-stamp
FUZZ_S = 60

.DEFAULT_GOAL = help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-cpython test-micropython test-all test-slow test-hardware \
	fuzz lint types size bench flash docs

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1	\2/p' Makefile | expand -t 18

setup: $(SETUP) ## Make .venv/ and fetch MicroPython for this machine

demo: $(SETUP) ## Take a blank virtual ESP32 to telemetry in a local Aliyun cloud
	$(BIN)/imprint demo --journey aliyun

test: lint types test-cpython test-micropython ## All that must pass before a commit

test-cpython: $(SETUP) ## The tests under CPython, with the virtual bench
	$(BIN)/pytest -n $(JOBS) --dist loadfile

test-micropython: $(SETUP) ## The firmware's tests on 32-bit MicroPython with a small heap
	$(BIN)/python tests/run_on_micropython.py --heap 96k

test-all: lint types test-slow test-micropython fuzz ## The same with every slow sweep whole

test-slow: $(SETUP)
	$(BIN)/pytest -m 'not hardware'

test-hardware: $(SETUP) ## The tests for a real board: PORT=
	$(BIN)/pytest -m hardware --port='$(PORT)'

fuzz: $(FUZZER) ## Fuzz the AT engine and the CoAP parser, FUZZ_S seconds each
	@mkdir -p build/fuzz
	for what in at coap; do \
		PYTHONPATH=firmware:host_tools/imprint_tools/shims/cpython \
		$(BIN)/python tests/fuzz/fuzz_$$what.py -max_total_time=$(FUZZ_S) -verbosity=0 \
			-timeout=20 -artifact_prefix=build/fuzz/$$what- || exit 1; \
	done

lint: $(SETUP) ## Style of host tools, tests and firmware
	$(BIN)/ruff check host_tools tests docs
	$(BIN)/ruff format --check host_tools tests docs
	$(BIN)/ruff check --config firmware/ruff.toml firmware tests/firmware

types: $(SETUP) ## Types of host tools and firmware
	$(BIN)/mypy
	$(BIN)/mypy --config-file firmware/mypy.ini

size: $(SETUP) ## Bytes of .mpy and of heap, by module
	$(BIN)/python tests/size.py

bench: $(SETUP) ## Measure flashing, memory and time to first telemetry
	$(BIN)/python tests/bench/run.py

flash: $(SETUP) ## Flash a real board: PORT= BOARD=
	$(BIN)/imprint flash --port '$(PORT)' --board '$(BOARD)'

docs: $(SETUP) ## Write again what docs/ has from the code
	$(BIN)/python docs/generate.py

$(FUZZER): $(SETUP)
	$(BIN)/pip install --quiet --editable '.[dev,fuzz]'
	@touch $@

$(SETUP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("imprint needs Python 3.11 or newer and $(PYTHON) is " + sys.version.split()[0] + "; name another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	$(BIN)/pip install --quiet --upgrade --target .venv/typings micropython-esp32-stubs
	$(BIN)/imprint runtime install
	@touch $@
