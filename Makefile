# make run      sets up .venv and serves http://127.0.0.1:9191
# make test     all tests, in parallel
# make torture  what breaks in operation, at full length: kill -9, lost power, full disks, races
# make lint     ruff, and the format
# make install  only sets up .venv, with what tests and lint need
# make bench    how fast it is, against a bare Flask route
# make coverage the tests again, with branch coverage
# make format   what lint asks for, as far as ruff can

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN = .venv/bin

.PHONY: run test torture lint install bench coverage format

run: .venv/run
	@$(BIN)/gunicorn 'registry:create_app()'

test: .venv/dev
	$(BIN)/pytest -n auto

torture: .venv/dev
	TORTURE=1 $(BIN)/pytest -n auto --dist worksteal tests/faults

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

.venv/run: requirements.txt
	@test -n "$(PYTHON)" || { echo "This needs Python 3.11 or newer: set PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up .venv (once, and when requirements.txt changes) …"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev: .venv/run requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
