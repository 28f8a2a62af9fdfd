# Everything runs in .venv, which underlay/env.py builds once. PYTHON=python3.12 chooses another interpreter for it.
.DEFAULT_GOAL := help
.PHONY: help env demo replay test test-all lint shell clean

# Taken literally, also when a file name contains $: recipes see them as variables of the shell only.
override BAG := $(value BAG)
override IMAGES := $(value IMAGES)
export BAG IMAGES

ENV := $(if $(PYTHON),"$(PYTHON)" underlay/env.py --chosen,python3 underlay/env.py)
RUN := $(ENV) run --
# Files of tests side by side: most of them wait or run on one core. Every process has a DDS domain of its own.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

env:  ## build the environment in .venv (at once if it is up to date)
	@$(ENV) build

demo: env  ## run the demo on synthetic streets, on BAG=<bag> or on IMAGES=<folder>
	@$(RUN) python -m sembox_ros demo $${BAG:+--bag "$$BAG"} $${IMAGES:+--images "$$IMAGES"}

replay: env  ## replay BAG=<bag>, or a rendered drive of 300 frames, into replay/report
	@if [ -z "$$BAG" ] && [ ! -f replay/drive/metadata.yaml ]; then \
		$(RUN) python -m sembox_ros streets --bag replay/drive --seed 1; fi
	@$(RUN) python -m sembox_ros replay "$${BAG:-replay/drive}" --out replay/report --overwrite

test: env  ## run the tests (ARGS="-k name -x" goes to pytest)
	@$(RUN) python -m pytest -q $(PARALLEL) test $(ARGS)

test-all: env  ## run the slow tests too
	@$(RUN) python -m pytest -q $(PARALLEL) -m "not gpu" test $(ARGS)

lint: env  ## check the style (ruff) and the types (mypy)
	@$(RUN) python -m ruff check
	@$(RUN) python -m mypy

shell: env  ## open a shell inside the environment
	@$(RUN)

clean:  ## remove .venv, caches and what demo, replay, colcon and the tests wrote
	-@! [ -x .venv/bin/fastdds ] || PATH="$(CURDIR)/.venv/bin:$$PATH" fastdds shm clean  # what killed nodes left
	rm -rf .venv demo replay build install log .hypothesis .mypy_cache .pytest_cache .ruff_cache
