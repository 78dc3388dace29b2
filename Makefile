# make run      sets up .venv and serves http://127.0.0.1:9191
# make test     every promise, with samples of the large products, in at most five minutes
# make test-all all tests, with every case of the large products
# make torture  what breaks in operation, at full length: kill -9, lost power, full disks, races
# make ui-test  the tests in a real browser, after installing one where apt-get can
# make lint     ruff, and the format
# make setup    only sets up .venv, with what serving and the commands need
# make install  the same, and what tests and lint need
# make bench    how fast it is, against a bare Flask route
# make coverage the tests again, with branch coverage
# make format   what lint asks for, as far as ruff can
# make audit    the pinned packages against the advisories published for them; needs a network
# make pins     the hashes anew, after a version in a requirements file has changed; needs a network

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN = .venv/bin
AUDIT = .venv-audit/bin
# What holds promises of docs/reliability.md outside tests/faults.
PROMISED = damaged_records migrations openapi recovery replication server
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --require-hashes
# For every Python from 3.11 on, and every platform.
COMPILE = $(AUDIT)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --no-strip-extras

.PHONY: run setup test test-all torture ui-test lint install bench coverage format audit pins

run: .venv/run
	@$(BIN)/gunicorn 'registry:create_app()'

setup: .venv/run

test: .venv/dev
	$(BIN)/pytest -n auto --dist worksteal -m 'not exhaustive'

test-all: .venv/dev
	MODEL_EXAMPLES=150 $(BIN)/pytest -n auto --dist worksteal

torture: .venv/dev
	TORTURE=1 $(BIN)/pytest -n auto --dist worksteal tests/faults $(PROMISED:%=tests/test_%.py)

ui-test: .venv/dev
	@tests/install_browser.sh
	$(BIN)/pytest -n auto -m browser -rs

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: .venv/dev

bench: .venv/dev
	$(BIN)/python -m bench

coverage: .venv/dev
	$(BIN)/pytest -n auto --cov --cov-report=term-missing

audit: .venv-audit/done
	@$(AUDIT)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements.txt -r requirements-dev.txt -r requirements-audit.txt \
		|| { echo "Not passed: advisories above, or, where none are, the index of advisories was not reached." >&2; exit 1; }

pins: .venv-audit/done
	@$(COMPILE) requirements.txt -o .pins && { sed -n '/^#/p' requirements.txt; cat .pins; } > .pinned
	@mv .pinned requirements.txt
	@$(COMPILE) requirements-dev.txt -o .pins \
		$$(sed -n 's/^\([A-Za-z0-9._-]*\)[^=]*==.*/--no-emit-package \1/p' requirements.txt) \
		&& { sed -n '/^#/p; /^-r/p' requirements-dev.txt; cat .pins; } > .pinned
	@mv .pinned requirements-dev.txt
	@$(COMPILE) requirements-audit.txt -o .pins && { sed -n '/^#/p' requirements-audit.txt; cat .pins; } > .pinned
	@mv .pinned requirements-audit.txt
	@rm .pins

.venv/run: requirements.txt
	@test -n "$(PYTHON)" || { echo "This needs Python 3.11 or newer: set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv (once, and when requirements.txt changes) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python $(PIP_INSTALL) -r requirements.txt
	@touch $@

.venv/dev: .venv/run requirements-dev.txt
	@$(BIN)/python $(PIP_INSTALL) -r requirements-dev.txt
	@touch $@

.venv-audit/done: requirements-audit.txt
	@test -n "$(PYTHON)" || { echo "This needs Python 3.11 or newer: set PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(AUDIT)/python || $(PYTHON) -m venv .venv-audit
	@$(AUDIT)/python $(PIP_INSTALL) -r requirements-audit.txt
	@touch $@
