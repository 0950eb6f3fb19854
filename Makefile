# The one entry to everything. `make help` lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PY := .venv/bin/python
# How many suites run side by side; each waits for its own processes for half of its time. What they print comes when they end.
JOBS := 1
# All tests with LONG=1; without it those marked `long` are left out.
MARKED := $(if $(LONG),,-m "not long")
TRAINERS := $(patsubst trainer_images/%/requirements.lock,%,$(wildcard trainer_images/*/requirements.lock))
SERVERS := $(patsubst trainer_images/serving/%/requirements.lock,%,$(wildcard trainer_images/serving/*/requirements.lock))
# The longest ones first: what runs beside them then ends when they do.
SUITES := test-local $(TRAINERS:%=test-%) $(SERVERS:%=test-serving-%) test-unit conformance-tfserving test-api
# What of the images type-checks strictly without their libraries.
STRICT_SERVERS := $(foreach one,gateway publisher sklearn-server torchserve,trainer_images/serving/$(one)/trainwright_$(subst -,_,$(one)))
IMAGES_OPTIONS = --images '$(IMAGES)' --engine '$(ENGINE)' --registry '$(REGISTRY)' --tag '$(TAG)' --base '$(BASE)' --builder '$(BUILDER)' \
	--variant '$(VARIANT)' --push '$(PUSH)'

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## make .venv with `trainwright` in it, from the lock file
	@tools/setup

demo: setup  ## a real control plane, a training job of two workers, one of them killed on the way
	@$(PY) tools/demo.py

test: setup  ## tests, on a real API server and with real processes; LONG=1 for the long ones too; builds what they need
	@$(PY) -m trainwright.local.prepare
	@PYTHONPATH=tools $(PY) tools/chart.py prepare
	@$(MAKE) --no-print-directory -j $(JOBS) $(if $(filter-out 1,$(JOBS)),--output-sync=target) $(SUITES)

e2e: setup  ## real pods: the chart on a real node of this machine, in our images; needs root and Debian's packages, which it installs
	@tools/e2e

test-unit:
	@echo "test: unit"
	@$(PY) -m pytest tests/unit --cov

test-api:
	@echo "test: on a real API server"
	@$(PY) -m pytest tests/api tests/chart tests/contract $(MARKED)

test-local:
	@echo "test: on the local twin"
	@$(PY) -m pytest tests/local $(MARKED)

# The tests of a trainer image, by its own environment; the runtime's are run by torch's.
test-%:
	@echo "test: trainer image $*"
	@.venv/bin/uv pip install --quiet --python trainer_images/$*/.venv/bin/python --require-hashes -r trainer_images/$*/requirements-dev.lock
	@cd trainer_images && $*/.venv/bin/pytest $(if $(filter torch,$*),runtime/tests) $*/tests $(MARKED)

test-serving-%:
	@echo "test: serving image $*"
	@.venv/bin/uv pip install --quiet --python trainer_images/serving/$*/.venv/bin/python --require-hashes -r trainer_images/serving/$*/requirements-dev.lock
	@cd trainer_images && serving/$*/.venv/bin/pytest serving/$*/tests $(MARKED)

conformance-tfserving: setup  ## the double of TensorFlow Serving; IMAGE=... or SERVER=path holds a real one to the same tests
	@$(PY) -m trainwright.local.prepare
	@.venv/bin/uv pip install --quiet --python trainer_images/tensorflow/.venv/bin/python --require-hashes -r trainer_images/tensorflow/requirements-dev.lock
	@tests/support/tfserving/tensorflow_model_server --help > /dev/null
	@TFSERVING_IMAGE='$(IMAGE)' TFSERVING_SERVER='$(SERVER)' trainer_images/tensorflow/.venv/bin/pytest tests/conformance/tfserving

unit: setup  ## the tests that need no cluster and no torch: seconds
	@$(PY) -m pytest tests/unit

bench: setup  ## what Trainwright costs beside a floor, held to bounds; twenty minutes
	@PYTHONPATH=tools $(PY) -m bench

bench-quick: setup  ## the short bench
	@PYTHONPATH=tools $(PY) -m bench --quick $(BENCH_OPTIONS)

bench-trainers: setup  ## each framework: a step beside the bare framework, quality of its models, where a start's time goes
	@PYTHONPATH=tools $(PY) -m bench --only step startup quality $(BENCH_OPTIONS)

bench-serving: setup  ## a gateway beside its server asked directly, and publishing a large artifact beside a copy; five minutes
	@PYTHONPATH=tools $(PY) -m bench --only gateway publish $(BENCH_OPTIONS)

bench-week: setup  ## a simulated week of a GPU cluster under `capacity`, gangs in order and plain pods; two minutes, and a picture
	@PYTHONPATH=tools $(PY) -m bench --only week $(BENCH_OPTIONS)

images: setup  ## build our images: IMAGES="operator torch" ENGINE= REGISTRY= TAG= BASE= VARIANT=cpu|cuda PUSH=1 (docs/images.md)
	@PYTHONPATH=tools $(PY) -m images build $(IMAGES_OPTIONS)

images-smoke: setup  ## start what `make images` built (same variables), without a cluster
	@PYTHONPATH=tools $(PY) -m images smoke $(IMAGES_OPTIONS)

images-twice: setup  ## build images twice from nothing, and compare the digests; IMAGES=gateway, say
	@PYTHONPATH=tools $(PY) -m images twice $(IMAGES_OPTIONS)

lint: setup  ## ruff, mypy strict, import-linter, generated files up to date
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy operator/trainwright trainer_images/runtime/trainwright_runtime $(STRICT_SERVERS) tools/bench tools/cluster tools/images
	@.venv/bin/lint-imports
	@tools/generate --check

generate: setup  ## write the CRD, the API reference and the recipes' settings from the typed models
	@tools/generate

lock: setup  ## resolve dependencies anew and write the lock files
	@tools/lock

audit: setup  ## what is known against the releases in the lock files; 1: new findings, 3: PyPI could not be asked all
	@$(PY) tools/audit.py

clean:  ## remove what setup and the trainers' environments made in this checkout
	@rm -rf .venv trainer_images/*/.venv trainer_images/serving/*/.venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage build

.PHONY: help setup demo test e2e conformance-tfserving unit bench bench-quick bench-trainers bench-serving bench-week images images-smoke images-twice lint generate lock audit clean
