# The only list of commands. `make` alone prints it. Needs Python 3.11+ (set PYTHON to choose one) and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
PROFILE ?= smoke
TRACE ?=
RUN_ARGS ?=
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  --no-annotate pyproject.toml
TEST_ARGS ?=
BENCH ?=
BENCH_ARGS ?=

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(READY) ## Create .venv with everything pinned and hash-checked

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"yottabench needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. Say: make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lock: ## Resolve pyproject.toml anew into requirements/ (needs uv)
	$(LOCK) --extra all --group dev --output-file requirements/dev.txt
	$(LOCK) --extra all --constraint requirements/dev.txt --output-file requirements/run.txt

generate: $(READY) ## Rebuild generated/ from openapi/serverless.yaml
	@$(BIN)/python openapi/generate.py

reference: $(READY) ## Rebuild the reference in docs/cli.md from the commands
	@$(BIN)/python -m tests.docs.cli_reference

verify: $(READY) ## Fail if generated/ is not exactly what the spec gives
	@$(BIN)/python openapi/generate.py --check

lint: $(READY) ## Style, spelling, who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/codespell
	@$(BIN)/lint-imports --no-cache

types: $(READY) ## Pyright, strict, over src/ and loadtest/
	@$(BIN)/basedpyright

spec-changelog: $(READY)
	@$(BIN)/python openapi/changelog.py

check: lint types spec-changelog ## Everything a commit needs besides the tests

test: $(READY) ## The default suite: under 5 minutes on 2 cores
	@$(BIN)/python -m pytest -n 2 --dist worksteal $(TEST_ARGS)

load: $(READY) ## Start the emulator, run a load test, write a report: make load [PROFILE=smoke] [TRACE=file]
	@$(BIN)/yottabench load run $(PROFILE) $(if $(TRACE),--trace "$(TRACE)") $(RUN_ARGS)

load-full: $(READY) ## The load harness's long tests: every profile, planted faults, a stalling server, memory (about 20 minutes)
	@LOAD_FULL=1 $(BIN)/python -m pytest tests/load/test_full.py tests/load/test_ends.py \
	  tests/load/test_profiles_run.py tests/load/test_users_slider.py tests/load/test_compare.py

serve: $(READY) ## Run the emulator on http://127.0.0.1:8080
	@$(BIN)/yottabench serve

bench: $(READY) ## Ratios against named peers, measured side by side: make bench [BENCH="submissions queues"]
	@$(BIN)/python -m bench $(BENCH) $(BENCH_ARGS)

bench-docs: $(READY) ## make bench, and its figures into docs/performance.md
	@$(BIN)/python -m bench $(BENCH) $(BENCH_ARGS) --docs docs/performance.md

lock-bench: ## Resolve bench/peers/requirements.in anew (needs uv)
	$(filter-out pyproject.toml,$(LOCK)) bench/peers/requirements.in --output-file bench/peers/requirements.txt

conformance: $(READY) ## Spec, client and emulator held to each other, or: TARGET=url [WRITE=1] YOTTA_API_KEY=key
ifdef TARGET
	@$(BIN)/yottabench conformance --target "$(TARGET)" $(if $(filter-out 0,$(WRITE)),--write) $(RUN_ARGS)
else
	@CONFORMANCE=full $(BIN)/python -m pytest -n 2 --dist worksteal tests/spec tests/conformance
endif

spec-diff: $(READY) ## What differs between our document and another of the same API: SPEC=file or url
	@$(BIN)/yottabench spec diff openapi/serverless.yaml "$(SPEC)"

surface: $(READY) ## Accept the present public surface of the generated client, and show what changed
	@$(BIN)/python -m tests.spec.surface --accept

mutation: $(READY) ## Change validators and state machines a little and see whether a test notices (about an hour)
	@$(BIN)/python -m tests.mutation

coverage: $(READY) ## The default suite with its branch coverage of src/: at least 95 %
	@rm -f .cache/coverage/data*
	@mkdir -p .cache/coverage
	@status=0; $(BIN)/coverage run -m pytest -n 2 --dist worksteal $(TEST_ARGS) || status=$$?; \
	  $(BIN)/coverage combine --quiet; $(BIN)/coverage report; exit $$status

torture: $(READY) ## Thousands of simulated lives, crashes, losses of power and kills
	@TORTURE=full SIMULATION_SEEDS=2000 $(BIN)/python -m pytest -n 2 --dist worksteal tests/simulation tests/torture

soak: $(READY) ## Two hours at 70 % load: nothing may grow, nothing be lost; SOAK_S=600 for ten minutes
	@$(BIN)/python -m tests.torture.soak

clean: ## Remove what these targets made (not generated/)
	rm -rf .venv .cache dist runs .ruff_cache .pytest_cache .hypothesis .coverage*

.PHONY: help install lock generate reference verify lint types check test load load-full serve bench bench-docs lock-bench conformance spec-changelog spec-diff surface mutation coverage torture soak clean
