# Every target needs Python 3.11 or newer and make, nothing else.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

# Without compiled files, each start of Python compiles everything again, and the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo check test tools bench soak format rules dashboards copies constraints clean

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
	npm install --prefix .tools --no-save --no-audit --no-fund --ignore-scripts @grafana/schema@13.2.3 typescript@5.9.3

# Measures polls, pages and the state. benchmarks/README.md has the figures of one machine. With JSON_EXPORTER=path of its
# binary, json_exporter is measured too.
bench: .venv/development
	@$(BIN)/python -m benchmarks.polls --json benchmarks/results/polls.json $(addprefix --json-exporter ,$(JSON_EXPORTER))
	@$(BIN)/python -m benchmarks.pages --json benchmarks/results/pages.json
	@$(BIN)/python -m benchmarks.state --json benchmarks/results/state.json

# Searches for exceptions to the laws of accounting ten times as long as `make test`, plays days of runs in minutes, and
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

# Copies rules and dashboards to where the chart and the manifests need them.
copies: .venv/bin/python
	$(BIN)/python -m deploy.copies

format: .venv/development
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.13 …")'
	$(PYTHON) -m venv .venv

.venv/runtime: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) .
	@touch $@

.venv/development: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) '.[dev]'
	@touch $@ .venv/runtime

# Renews the tested versions: the newest ones that pyproject.toml allows.
constraints:
	$(PYTHON) -m venv .venv/fresh
	.venv/fresh/bin/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	.venv/fresh/bin/pip freeze --exclude-editable --exclude setuptools > constraints.txt
	rm -r .venv/fresh

clean:
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
