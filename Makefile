# make demo and make test set up what they need in .venv; nothing has to be installed before.

VENV := .venv
PYTHON := $(VENV)/bin/python
TASK := speech
MODE = $(if $(filter text,$(TASK)),generate,recognize)
DEMO := build/demo
DEMO_PYTHON := .venv/bin/python

# exact versions of everything, here and in the projects that are rendered below
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install test test-long test-quick demo bench screenshots weigh lint clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /	/' | expand -t 14

install: $(VENV)/.installed ## the tools, into .venv

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(PYTHON) || python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip
	$(PYTHON) -m pip install --quiet --group test
	touch $@

# two workers on two cores: more threads would only wait for each other
test: export OMP_NUM_THREADS ?= 1
test: install lint ## all tests but the long ones
	$(PYTHON) -m pytest -n 2 -m 'not long'

test-long: export OMP_NUM_THREADS ?= 1
test-long: install ## what takes minutes, 2,000 random inputs and 20 kills, with a new seed
	$(PYTHON) -m pytest -m long
	$(PYTHON) -m tests.fuzz 2000
	$(PYTHON) -m tests.kills 20

test-quick: install ## without the slow ones
	$(PYTHON) -m pytest -m 'not slow and not long'

demo: install ## a project in build/demo: rendered, installed, trained, used; or TASK=vision, blank, text
	rm -rf $(DEMO)
	$(PYTHON) -m copier copy --quiet --defaults --vcs-ref HEAD --data project_name=Demo --data task=$(TASK) . $(DEMO)
	cd $(DEMO) && env -u VIRTUAL_ENV -u CONDA_PREFIX -u CONDA_DEFAULT_ENV $(MAKE) --no-print-directory dryrun
	cd $(DEMO) && $(DEMO_PYTHON) train.py model=tiny training=fastrun name=demo
	cd $(DEMO) && $(DEMO_PYTHON) train.py mode=evaluate checkpoint=runs/demo
	cd $(DEMO) && $(DEMO_PYTHON) train.py mode=$(MODE) checkpoint=runs/demo input=$(CURDIR)/tests/examples/$(TASK)

bench: install ## the figures that README.md claims, into benchmarks/RESULTS.md
	$(PYTHON) -m benchmarks

screenshots: install ## those of README.md, into docs/pictures; needs Chromium
	$(PYTHON) -m benchmarks.screenshots

weigh: install ## files and lines of renderings, against their budgets
	$(PYTHON) -m benchmarks.weigh

lint: install ## format, lint and types of this repository
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

clean: ## everything that make made
	rm -rf build $(VENV) .mypy_cache .pytest_cache .ruff_cache
