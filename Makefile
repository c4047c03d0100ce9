# Everything works on a fresh machine with Python 3.11 or later, pip and make. A virtual environment is made in .venv by
# the first target that needs one; each target installs only what it needs, and again only if pyproject.toml changed.

PYTHON ?=
VENV := .venv
PY := $(VENV)/bin/python
CANDIDATES := $(or $(PYTHON),python3.14 python3.13 python3.12 python3.11 python3)
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check
ARGS ?=
# Most tests wait for processes to start, to die or to time out: half as many again as there are processors keep those busy.
TESTERS = $(shell echo $$(( ($$(getconf _NPROCESSORS_ONLN) * 3 + 1) / 2 )))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # one pip at a time in one environment, and no tests beside a benchmark
.PHONY: help venv demo test test-all lint type docs bench bench-quick bench-peers bench-gate chaos soak screenshots build clean

help: ## show this list
	@echo "make <target> [PYTHON=/path/to/python3] [ARGS='arguments for the program']"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## make .venv with everything for development

demo: $(VENV)/.demo ## run the demo: a clip through worker processes, with live numbers
	@$(PY) examples/demo.py $(ARGS)

test: $(VENV)/.dev ## run the tests, on all processors
	@$(PY) -m pytest --numprocesses $(TESTERS) --dist worksteal -m 'not slow' $(ARGS)

test-all: $(VENV)/.dev $(VENV)/.docs $(VENV)/.ray ## run all tests, the slow ones as well
	@$(PY) -m pytest --numprocesses auto --dist worksteal $(ARGS)

lint: $(VENV)/.dev ## check the style (ruff)
	@$(PY) -m ruff check $(ARGS)

type: $(VENV)/.dev ## check the types (mypy --strict)
	@$(PY) -m mypy $(ARGS)
	@$(PY) -m mypy tests/typing/api.py

docs: $(VENV)/.docs ## build the site from docs/ into build/site; every warning is an error
	@$(PY) -m sphinx -q -E -n -W --keep-going -b html docs build/site $(ARGS)
	@echo "build/site/index.html"

bench: $(VENV)/.bench ## measure against the floors and the alternatives
	@$(PY) -m benchmarks $(ARGS)

bench-quick: $(VENV)/.bench ## the same in less than a minute
	@$(PY) -m benchmarks --quick $(ARGS)

bench-peers: $(VENV)/.bench ## install all alternatives that can be installed, and measure them too (some are large)
	@$(PY) -m benchmarks.peers.install
	@$(PY) -m benchmarks $(ARGS)

bench-gate: $(VENV)/.bench ## fail if something is slower than in the last committed results
	@$(PY) -m benchmarks --gate $(ARGS)

chaos: $(VENV)/.dev ## kill workers all the time and compare the outputs with an undisturbed run; ten seeds
	@$(PY) -m remotemedia.testing.chaos --seeds 10 --frames 10000 $(ARGS)

soak: $(VENV)/.dev ## run sessions through a pool for long, or many pools: does anything grow? (ARGS='--minutes 60')
	@$(PY) -m remotemedia.testing.soak $(ARGS)

screenshots: $(VENV)/.dev ## make the pictures in docs/images from a running pool (needs Chromium)
	@$(PY) -m tests.screenshots $(ARGS)

build: $(VENV)/.dev ## build sdist and wheel into dist/
	@$(PY) -m build --no-isolation

clean: ## remove everything that make made, .venv included
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find remotemedia workers ipc tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.demo: EXTRAS := cli,media
$(VENV)/.bench: EXTRAS := cli,media,bench
$(VENV)/.docs: EXTRAS := docs
$(VENV)/.ray: EXTRAS := ray
$(VENV)/.dev: EXTRAS := cli,media,metrics,test,dev
$(VENV)/.demo $(VENV)/.bench $(VENV)/.docs $(VENV)/.ray $(VENV)/.dev: pyproject.toml $(VENV)/.created
	@echo "installing remotemedia[$(EXTRAS)] into $(VENV) …"
	@$(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@$(PY) -m compileall -q remotemedia workers ipc # as an installed package is: every worker imports it
	@touch $@

# Some distributions package venv without ensurepip; a pip that is there can fill the environment instead.
$(VENV)/.created:
	@for python in $(CANDIDATES); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "no Python 3.11 or later among: $(CANDIDATES). Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "making $(VENV) with $$found …"; rm -rf $(VENV); \
	if "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	  "$$found" -m venv $(VENV); \
	elif "$$found" -c 'import venv' 2>/dev/null && "$$found" -m pip --version >/dev/null 2>&1; then \
	  "$$found" -m venv --without-pip $(VENV) && \
	  "$$found" -m pip --python $(PY) install --quiet --disable-pip-version-check pip; \
	else \
	  echo "$$found has neither ensurepip nor pip, so it cannot make a virtual environment." >&2; \
	  echo "Install them (Debian, Ubuntu: apt install python3-venv), or name another: make PYTHON=/path/to/python3" >&2; \
	  exit 1; \
	fi
	@touch $@
