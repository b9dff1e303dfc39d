# Two commands: `make demo` and `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV ?= .venv
# Another index for torch (a CUDA build, say); empty: the one that pip uses.
TORCH_INDEX ?=
ARGS ?=
PYTEST_ARGS ?= -n 3
BIN := $(VENV)/bin

export OMP_NUM_THREADS ?= 1
# Images of CI set it. Without bytecode, each of the tests' many processes compiles all of our source again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-pairs cluster test-cluster check bench-transplant bench-compat bench-cloning bench-generic bench-large bench-serving bench-registry test-faults example-compat test-openapi format clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Graftery needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --constraint constraints.txt "$(shell grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps "$(shell grep '^kserve==' constraints.txt)"
	touch $@

venv: $(VENV)/.installed  ## Make the environment

demo: venv  ## Transplant real handwritten digits over HTTP (ARGS=--exit: end by itself)
	env -u OMP_NUM_THREADS $(BIN)/python -m examples.demo $(ARGS)

# A file a worker: what its tests share is made once.
PYTEST = $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder

test: venv  ## The tests, with real PostgreSQL and Redis (about ten minutes)
	$(PYTEST) -m "not slow" $(PYTEST_ARGS) $(ARGS)

test-slow: venv  ## The others: kills, clusters, whole trips of jobs, several clients at once (about seven minutes)
	$(PYTEST) -m slow $(PYTEST_ARGS) $(ARGS)

test-pairs: venv  ## Transplants between every ordered pair of net families, on the digits (about 3 minutes)
	GRAFTERY_PAIRS=all $(BIN)/python -m pytest $(PYTEST_ARGS) tests/graftery/transplant/test_pairs.py $(ARGS)

test-openapi: venv  ## Many more requests by the OpenAPI document, each time others (about 5 minutes)
	GRAFTERY_OPENAPI=$${GRAFTERY_OPENAPI:-20} $(BIN)/python -m pytest $(PYTEST_ARGS) --timeout 3600 tests/contract/test_operations.py tests/contract/test_workflows.py $(ARGS)

cluster: venv  ## What docker-compose.yml describes, as processes on this machine (ARGS="--port N"; Ctrl-C ends it)
	$(BIN)/python -m tests.support.cluster $(ARGS)

test-cluster: venv  ## Restart every process of the cluster under load (2 to 4 minutes)
	GRAFTERY_CLUSTER=whole $(BIN)/python -m pytest $(PYTEST_ARGS) tests/trips/test_cluster.py $(ARGS)

test-faults: venv  ## Kill, cut, fill and pause everything while it works: 200 jobs, 50 kills (5 to 20 minutes; SEED=N repeats a run)
	GRAFTERY_FAULTS=whole SEED=$(SEED) $(BIN)/python -m pytest -n 0 -s -p no:logging tests/faults $(ARGS)

check: venv  ## Formatting, lint, types, floors, documents
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/contract/test_house.py tests/contract/test_errors.py tests/contract/test_deployment.py tests/contract/test_security.py

DATA ?= $(GRAFTERY_DATA)
bench-transplant: venv  ## The table on CIFAR-10, CamVid and digits (DATA=FOLDER; hours; resumes; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.transplant $(if $(DATA),--data $(DATA)) $(ARGS)

bench-compat: venv  ## Compatible components on CIFAR-10 (DATA=FOLDER; hours; resumes; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.compat $(if $(DATA),--data $(DATA)) $(ARGS)

bench-cloning: venv  ## Partial network cloning on digits, CIFAR-10, MNIST (DATA=FOLDER; hours; resumes; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.cloning $(if $(DATA),--data $(DATA)) $(ARGS)

bench-generic: venv  ## A generic network that grows and is consolidated, on CIFAR-10 (DATA=FOLDER; hours; resumes; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.generic $(if $(DATA),--data $(DATA)) $(ARGS)

bench-large: venv  ## Cost of a step on VGG-16 and ResNet-50; writes docs/results/transplant-large.* (5 minutes without a GPU)
	$(BIN)/python -m benchmarks.transplant.large $(ARGS)

bench-serving: venv  ## Our inference server beside five others; writes docs/results/serving.* (half an hour; resumes; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.serving $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) $(ARGS)

bench-registry: venv  ## The registry under load, beside floors and MLflow; writes docs/results/registry.* (20 minutes; resumes; ARGS=--quick: minutes)
	$(BIN)/python -m benchmarks.registry $(ARGS)

example-compat: venv  ## Uses of compatible components; writes docs/results/compat-applications.* (DATA=FOLDER; resumes; ARGS=--quick: a minute)
	$(BIN)/python -m examples.compat $(if $(DATA),--data $(DATA)) $(ARGS)

format: venv  ## Format the source
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove what these commands made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
