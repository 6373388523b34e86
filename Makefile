# Every target needs Python 3.11 or newer and make, nothing else.

PYTHON ?= python3
BIN := .venv/bin
UPGRADE ?= --upgrade
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
LOCK := .venv/uv/bin/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 --generate-hashes --no-header

# Without compiled files, each start of Python compiles everything again, and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test tools bench soak format rules dashboards pictures copies locks release clean

demo: .venv/runtime
	@$(BIN)/pipeline-exporter demo

# Lint, types and unit tests, for each change: under a minute.
check: .venv/development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "unit and not timing" --numprocesses 2

# Everything that CI runs.
test: .venv/development
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest -m 'not timing' --numprocesses 3 --dist worksteal
	HYPOTHESIS_PROFILE=ci $(BIN)/python -m pytest -m timing

# Gets what some tests run and Debian has too old or not at all: programs, which needs Go, and Grafana's types, which needs
# npm. Without them, these tests are skipped; in CI, without the programs, they fail.
tools:
	GOBIN=$(CURDIR)/.tools/bin go install github.com/prometheus/prometheus/cmd/prometheus@v0.316.0
	GOBIN=$(CURDIR)/.tools/bin go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0
	GOBIN=$(CURDIR)/.tools/bin go install helm.sh/helm/v3/cmd/helm@v3.22.0
	npm install --prefix .tools --no-save --no-audit --no-fund --ignore-scripts @grafana/schema@13.2.3 typescript@5.9.3 axe-core@4.14.1

# Measures polls, pages, streaks and the state. benchmarks/README.md has the figures of one machine. With JSON_EXPORTER=path of its
# binary, json_exporter is measured too.
bench: .venv/development
	@$(BIN)/python -m benchmarks.polls --json benchmarks/results/polls.json $(addprefix --json-exporter ,$(JSON_EXPORTER))
	@$(BIN)/python -m benchmarks.pages --json benchmarks/results/pages.json
	@$(BIN)/python -m benchmarks.status_page --json benchmarks/results/status_page.json
	@$(BIN)/python -m benchmarks.streaks --json benchmarks/results/streaks.json
	@$(BIN)/python -m benchmarks.state --json benchmarks/results/state.json

# Searches for exceptions to the laws of accounting 25 times as long as `make test`, plays days of runs in minutes, and
# kills the process. Each run must be counted exactly once.
soak: .venv/development
	HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/property tests/unit/tracking --numprocesses 2
	$(BIN)/python -m tests.soak --pipelines 2000 --days 1 --calm
	$(BIN)/python -m tests.soak --pipelines 2000 --days 1
	$(BIN)/python -m tests.soak --cloud flow --pipelines 300 --days 0.5
	$(BIN)/python -m tests.soak --kills 200

# Writes the rule files for Prometheus and Grafana from deploy/rules.
rules: .venv/bin/python
	$(BIN)/python -m deploy.rules $(RUNBOOKS)

# Writes the dashboards for Grafana from deploy/dashboards.
dashboards: .venv/development
	$(BIN)/python -W ignore::DeprecationWarning -m deploy.dashboards

# Takes the pictures of the status page in docs/images, of simulated clouds in a headless Chromium.
pictures: .venv/development
	$(BIN)/python -m tests.pictures
	$(BIN)/python -m tests.pictures --pipelines 10000

# Copies rules and dashboards to where the chart and the manifests need them, and the version to files that name it.
copies: .venv/bin/python
	$(BIN)/python -m deploy.copies

# Builds what a release consists of into dist/, from the last commit: the same commit gives the same bytes.
release: .venv/development
	rm -rf dist
	$(BIN)/python -m deploy.release dist

format: .venv/development
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.13 …")'
	$(PYTHON) -m venv .venv

# pip refuses files with other hashes.
.venv/runtime: .venv/bin/python pyproject.toml requirements/run.txt
	$(INSTALL) --require-hashes --requirement requirements/run.txt
	$(INSTALL) --no-deps --editable .
	@touch $@

.venv/development: .venv/bin/python pyproject.toml requirements/development.txt requirements/build.txt
	$(INSTALL) --require-hashes --requirement requirements/development.txt --requirement requirements/build.txt
	$(INSTALL) --no-deps --editable .
	@touch $@ .venv/runtime

# Renews the tested versions: the newest ones that pyproject.toml allows. With UPGRADE= it only adds and removes packages,
# for a change of pyproject.toml.
locks: .venv/bin/python
	$(PYTHON) -m venv .venv/uv
	.venv/uv/bin/pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml --output-file requirements/run.txt
	$(LOCK) pyproject.toml --extra dev --constraint requirements/run.txt --output-file requirements/development.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"])' \
		| $(LOCK) - --constraint requirements/development.txt --output-file requirements/build.txt
	rm -r .venv/uv

clean:
	rm -rf .venv .tools dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
