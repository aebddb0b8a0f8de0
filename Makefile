# On a fresh machine two commands are enough: `make run` and `make test`.

# Where things are, and on which ports (make run PORT=11113 DIR=/tmp/dicom HTTP=127.0.0.1:9465).
DIR  ?= dicom
PORT ?= 11112
HTTP ?= 127.0.0.1:9464
# More for pytest (make test ARGS='-k header') or for listener bench.
ARGS ?=
# The Python that makes the environment; found when not named.
export PYTHON

BIN  := .venv/bin
RUN  := .venv/.made-run
DEV  := .venv/.made-dev

.DEFAULT_GOAL := help
.PHONY: help run test soak check format docs bench lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN) ## start storescp and listener on ./dicom, and say what to do next (PORT=, DIR=, HTTP=)
	@.ci/need dcmtk || .ci/environment pynetdicom
	@exec $(BIN)/python -m listener.quickstart --dir "$(DIR)" --port "$(PORT)" --http "$(HTTP)"

test: $(DEV) ## run all tests (ARGS= for pytest)
	@.ci/need dcmtk || echo "Tests that need DCMTK will be skipped."
	@.ci/need promtool || echo "Tests that need promtool will be skipped."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadgroup --durations=10 $(ARGS)

soak: $(DEV) ## run what takes minutes: kills, power cuts, half a million files, 100,000 mutated ones (ARGS= for pytest)
	@PATH="$(CURDIR)/$(BIN):$$PATH" LISTENER_TEST_SOAK=1 LISTENER_TEST_FUZZ=100000 $(BIN)/python -m pytest -m "" \
		-o timeout=900 -n 2 --dist=loadgroup -rA --durations=10 tests/faults tests/test_fuzz_reader.py $(ARGS)

check: $(DEV) ## look at format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/environment .ci/lock .ci/need .ci/python .ci/run

format: $(DEV) ## put the code into its format, and mend what can be mended by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: $(RUN) ## write the generated parts of the documentation anew
	@$(BIN)/python docs/generate.py

bench: $(RUN) ## measure this machine (ARGS= for listener bench)
	@$(BIN)/listener bench $(ARGS)

lock: $(DEV) ## pin the newest dependencies, by version and hash
	@.ci/lock

clean: ## remove the environment and everything made, but not ./dicom
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find listener tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN): requirements.lock .ci/build.lock .ci/environment pyproject.toml
	@.ci/environment run
	@touch $@

$(DEV): $(RUN) .ci/dev.lock
	@.ci/environment dev
	@touch $@
