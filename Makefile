# The one entry to everything. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
# All tests with LONG=1; without it those marked `long` are left out.
MARKED := $(if $(LONG),,-m "not long")
IMAGES := $(patsubst trainer_images/%/requirements.lock,%,$(wildcard trainer_images/*/requirements.lock))

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv with `trainwright` in it, from the lock file
	@tools/setup

demo: setup  ## a real control plane, a training job of two workers, one of them killed on the way
	@$(PY) tools/demo.py

test: setup  ## tests, on a real API server and with real processes; LONG=1 for the long ones too; builds what they need
	@$(PY) -m trainwright.local.prepare
	@$(MAKE) --no-print-directory $(IMAGES:%=test-%)
	@$(PY) -m pytest tests/unit --cov
	@$(PY) -m pytest tests --ignore tests/unit $(MARKED)

# The tests of a trainer image, by its own environment; the runtime's are run by torch's.
test-%:
	@echo "test: trainer image $*"
	@.venv/bin/uv pip install --quiet --python trainer_images/$*/.venv/bin/python --require-hashes -r trainer_images/$*/requirements-dev.lock
	@cd trainer_images && $*/.venv/bin/pytest $(if $(filter torch,$*),runtime/tests) $*/tests $(MARKED)

unit: setup  ## the tests that need no cluster and no torch: seconds
	@$(PY) -m pytest tests/unit

bench: setup  ## what Trainwright costs beside a floor, held to bounds; twenty minutes
	@PYTHONPATH=tools $(PY) -m bench

bench-quick: setup  ## the short bench
	@PYTHONPATH=tools $(PY) -m bench --quick $(BENCH_OPTIONS)

bench-trainers: setup  ## each framework: a step beside the bare framework, quality of its models, where a start's time goes
	@PYTHONPATH=tools $(PY) -m bench --only step startup quality $(BENCH_OPTIONS)

lint: setup  ## ruff, mypy strict, import-linter, generated files up to date
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy operator/trainwright trainer_images/runtime/trainwright_runtime tools/bench
	@.venv/bin/lint-imports
	@tools/generate --check

generate: setup  ## write the CRD, the API reference and the recipes' settings from the typed models
	@tools/generate

lock: setup  ## resolve dependencies anew and write the lock files
	@tools/lock

clean:  ## remove what setup and the trainers' environments made in this checkout
	@rm -rf .venv trainer_images/*/.venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build

.PHONY: help setup demo test unit bench bench-quick bench-trainers lint generate lock clean
