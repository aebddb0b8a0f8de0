# On a fresh machine two commands are enough: `make run` and `make test`.

# Where things are, and on which ports (make run PORT=11113 DIR=/tmp/dicom HTTP=127.0.0.1:9465).
DIR  ?= dicom
PORT ?= 11112
HTTP ?= 127.0.0.1:9464
# More for pytest (make test ARGS='-k header') or for listener bench.
ARGS ?=
# Where make dashboard-check draws the dashboard.
PICTURES ?= .venv/dashboard
# The Python that makes the environment; found when not named.
export PYTHON

BIN  := .venv/bin
RUN  := .venv/.made-run
DEV  := .venv/.made-dev

.DEFAULT_GOAL := help
.PHONY: help run demo test dashboard-check faults soak tools images image-test cluster-images cluster-test check format docs bench lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(RUN) ## start storescp and listener on ./dicom, and say what to do next (PORT=, DIR=, HTTP=)
	@.ci/need dcmtk || .ci/environment pynetdicom
	@exec $(BIN)/python -m listener.quickstart --dir "$(DIR)" --port "$(PORT)" --http "$(HTTP)"

demo: $(DEV) ## see two faults on a real series: which alerts fire and clear
	@.ci/need dcmtk prometheus
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m tests.observing.demo

test: $(DEV) ## run all tests but those of make faults and make soak (ARGS= for pytest)
	@.ci/need dcmtk || echo "Tests that need DCMTK will be skipped."
	@.ci/need strace || echo "Tests that count system calls will be skipped."
	@.ci/need chromium || echo "Tests that need a browser will be skipped."
	@.ci/need viewers || echo "Tests that need viewers of DICOMweb will be skipped."
	@.ci/need axe-core || echo "The test of accessibility will be skipped."
	@.ci/need promtool prometheus || echo "Tests that need Prometheus will be skipped."
	@.ci/need versitygw azurite fake-gcs-server || echo "Tests of the export that need a store will be skipped."
	@.ci/need rclone aws bsdtar || echo "Tests that read with them what was exported will be skipped."
	@.ci/need orthanc || echo "Tests that need Orthanc will be skipped."
	@.ci/need dicom3tools || echo "Tests of deidentify that ask dciodvfy will be skipped."
	@.ci/need redis nats || echo "Tests of notify that need Redis or NATS will be skipped."
	@.ci/need grafana-schema || echo "The type check of the dashboard will be skipped."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -n auto --maxprocesses=4 --dist=loadgroup --durations=10 $(ARGS)

dashboard-check: $(DEV) ## type-check and lint the dashboard, try every query, draw every row (PICTURES=)
	@.ci/need dcmtk promtool prometheus
	@.ci/need grafana-schema || echo "The type check will be skipped."
	@PATH="$(CURDIR)/$(BIN):$$PATH" LISTENER_TEST_PICTURES="$(abspath $(PICTURES))" $(BIN)/python -m pytest \
		tests/test_dashboard.py tests/test_alerts.py tests/telemetry/test_metric_rows.py
	@echo "The pictures are in $(PICTURES)."

tools: ## fetch what judges the chart and the images: helm 3 and 4, checkov and others
	@.ci/tools

# Status 3: this machine cannot build images, which was said; tests that need them are skipped by name.
images: ## build the images of listener (also with the extra chris) and storescp, without a registry, into build/images, and what is in them (SBOM)
	@.ci/images || [ $$? = 3 ]

image-test: $(DEV) ## run the images hardened: take a file, drain, lose nothing; two builds give one digest
	@.ci/images && .ci/images serve || [ $$? = 3 ]  # 3: not on this machine; the tests are then skipped by name
	@.ci/need redis nats || echo "The test of notify's image will be skipped."
	@PATH="$(CURDIR)/$(BIN):$$PATH" LISTENER_TEST_CONTAINERS=1 $(BIN)/python -m pytest tests/containers $(ARGS)

cluster-images: $(DEV) images ## all that make cluster-test fetches: environment, image archives, the cluster's programs
	@.ci/images export serve || [ $$? = 3 ]
	@.ci/cluster true

cluster-test: $(DEV) ## install the chart into a real Kubernetes: KUBECONFIG and CLUSTER_LOAD, or the one of ../shared/tools
	@.ci/need redis nats || echo "The test of notify will be skipped."
	@PATH="$(CURDIR)/$(BIN):$$PATH" .ci/cluster $(BIN)/python -m pytest tests/cluster $(ARGS)

faults: $(DEV) ## kill and refuse at every system call, cut the power, two machines on one volume (ARGS= for pytest)
	@.ci/need redis nats rabbitmq || echo "Tests of notify that need a broker will be skipped."
	@.ci/need redis juicefs || echo "Tests on JuiceFS will be skipped."
	@.ci/need moosefs || echo "Tests on MooseFS will be skipped."
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m "faults and not soak" \
		-n auto --maxprocesses=4 --dist=loadgroup --durations=10 tests/faults $(ARGS)

soak: $(DEV) ## run what takes minutes: kills, power cuts, half a million files, 100,000 mutated ones (ARGS= for pytest)
	@PATH="$(CURDIR)/$(BIN):$$PATH" LISTENER_TEST_SOAK=1 LISTENER_TEST_FUZZ=100000 $(BIN)/python -m pytest -m "" \
		-o timeout=900 -n 2 --dist=loadgroup -rA --durations=10 tests/faults tests/dicom/test_fuzz_reader.py $(ARGS)

check: $(DEV) ## look at format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/shellcheck -x .ci/environment .ci/lock .ci/need .ci/python .ci/run .ci/images .ci/containers .ci/cluster .ci/tools .ci/common

format: $(DEV) ## put the code into its format, and mend what can be mended by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: $(DEV) ## write the generated parts of the documentation, the plain alert rules, manual pages and completions anew
	@$(BIN)/python docs/generate.py
	@$(BIN)/python docs/dashboard.py
	@$(BIN)/python docs/chart.py
	@$(BIN)/python docs/manual.py
	@$(BIN)/python -m tests.observing.rules

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
