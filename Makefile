# Every target works on a clean clone: what is missing is first put into .tools (uv) and .venv (the rest).
# Needed beforehand: Python 3.11 or newer with pip, and make.

.DEFAULT_GOAL := help
.PHONY: help setup demo example check docs format lint types imports coverage test bench fuzz nightly

UV := .tools/bin/uv
BIN := .venv/bin
MCP_SERVERS := .tools/mcp-servers/node_modules/.package-lock.json
# Tests of servers and processes wait more than they compute: two of them share a processor.
PROCESSES := $(shell echo $$((2 * $$(nproc 2>/dev/null || sysctl -n hw.ncpu || echo 2))))
PYTEST := $(BIN)/pytest --numprocesses $(PROCESSES) --maxprocesses 8 --dist loadscope
# One test may take an hour here; the long ones are in the files that come first.
NIGHTLY := HYPOTHESIS_PROFILE=nightly $(PYTEST) --no-loadscope-reorder --override-ini faulthandler_timeout=7200
TYPED := $(sort $(dir $(wildcard tests/*.py examples/*.py benchmarks/*.py)))
# By file times, uv notices that a module was added or changed, but not that one was moved or removed.
MODULES := find . -name '*.py' -o -name '*.pyi' -o -name '*.lua' -o -path './web/static/*' -type f | sort

# The project's own environment, whatever the caller's shell has active.
unexport VIRTUAL_ENV PYTHONHOME PYTHONPATH
export UV_PROJECT_ENVIRONMENT := .venv
export UV_PYTHON_DOWNLOADS := never

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | awk -F '\t' '{ printf "make %-9s %s\n", $$1, $$2 }'

$(UV): .ci/bootstrap
	@echo "Setting up .tools and .venv, once." && .ci/bootstrap && touch $@

$(MCP_SERVERS): .ci/mcp-servers/package-lock.json | $(UV)
	@.ci/mcp-servers/install

setup: $(UV) ## create or update .venv from uv.lock
	@test -x $(BIN)/python || $(UV) venv --quiet --clear --python .tools/bin/python
	@$(UV) sync --frozen --quiet
	@test "$$(cd src && $(MODULES))" = "$$(cd build/__editable__*/outlast 2>/dev/null && $(MODULES))" \
		|| $(UV) sync --frozen --quiet --reinstall-package outlast

demo: setup ## see agents survive the death of their process
	@$(BIN)/outlast demo

example: setup ## run an example: make example NAME=handoff
	@$(BIN)/python examples/$(or $(NAME),handoff).py

check: lint types imports coverage docs ## check format, style, strict types, imports, the coverage of the core and the docs

test: coverage $(MCP_SERVERS) ## run every test once
	$(PYTEST) --ignore tests/core

format: setup ## rewrite the sources in the house style
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format

lint: setup ## check format and style
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: setup ## check types, strictly
	$(BIN)/mypy --package outlast
	$(BIN)/mypy $(TYPED)

imports: setup ## check that imports point one way
	$(BIN)/lint-imports --no-logo

docs: $(UV) ## build the site of the docs into build/site
	@UV_PROJECT_ENVIRONMENT=.tools/docs $(UV) sync --frozen --quiet --only-group docs
	@ln -sfn ../../src .tools/docs/outlast
	.tools/docs/bin/zensical build --strict --clean
	@! grep -rE '<(script|link|img)[^>]+(src|href)="(https?:)?//' --include='*.html' build/site || \
		{ echo "A page loads something from elsewhere when it is read; put a copy into docs." >&2; false; }

coverage: setup ## run tests/core, and check that they alone cover the core
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses auto --maxprocesses 8 tests/core
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: setup ## compare a turn with bare drivers and with peers, and measure the rest: one table
	$(BIN)/python -m benchmarks --json benchmarks.json

fuzz: setup $(MCP_SERVERS) ## run the property tests with 2000 examples each: two hours
	$(NIGHTLY) -m hypothesis

nightly: fuzz ## run these, and the tests that take long: crowds, chaos, and processes killed at 50 random moments
	$(NIGHTLY) -m "(nightly or crash) and not hypothesis"
	$(BIN)/python -m outlast.testing.simulation --nightly 100000 --processes $$(nproc 2>/dev/null || sysctl -n hw.ncpu)
