# `make` alone lists the targets. Every target that needs the environment sets it up first.
PROFILE ?= demo
TORCH ?= auto
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
PY ?= $(VENV)/bin/python
DATASET_OPTION = $(if $(DATASET),--dataset "$(DATASET)")
NAMES = --profile "$(PROFILE)" $(DATASET_OPTION)
RUN_OPTIONS = $(NAMES) $(if $(MODEL),-p "generator.bundle=$(MODEL)")

ifdef ACCEPT
export ANONLIB_ACCEPT := $(ACCEPT)
endif

# PY=python uses the active environment as it is, for example a conda one.
ifeq ($(PY),$(VENV)/bin/python)
READY := $(VENV)/.lock
endif

.DEFAULT_GOAL := help
.PHONY: help setup fetch anonymize agreement paper figures explain verify test bench bench-gpu data models camouflage lab clean readme format lint lock

help: ## list the targets and their options
	@echo 'make paper [PROFILE=smoke|demo|full|xl] [DATASET=name or folder of person/image] [ACCEPT=noncommercial]'
	@echo '           [MODEL=folder of a diffusers pipeline, or owner/model@commit] [METHOD=your_method.py]'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo 'ACCEPT=noncommercial  accept, once, the assets whose licence allows non-commercial research only'
	@echo 'ACCEPT=openrail       accept, once, the terms of Stable Diffusion (PROFILE=full, xl); both: with a comma'
	@echo 'TORCH=cpu|cuda        choose the build of torch (default: CUDA on a machine with an NVIDIA GPU)'
	@echo 'PY=python             use the active environment, for example a conda one'

$(VENV)/.lock: requirements/cpu.lock requirements/cuda.lock tools/setup.py
	@$(PYTHON) tools/setup.py $(VENV) $(TORCH)
ifneq ($(TORCH),auto)
$(VENV)/.lock: FORCE
FORCE:
endif

setup: $(READY) ## create .venv from the lock file, download the assets and check their hashes
	@$(PY) -m anonlib.paper.cli fetch

fetch: setup ## PROFILE=full [METHOD=]: download the profile's models from the hub; can be resumed
	@$(PY) -m anonlib.paper.cli fetch --profile "$(PROFILE)" --model "$(MODEL)" $(if $(METHOD),--method "$(METHOD)")

ifdef METHOD
paper explain verify lab: export ANONLIB_METHOD := $(METHOD)
endif

paper: setup ## run the notebooks; write every figure and table into figures/
	@$(PY) -m anonlib.paper.cli run $(RUN_OPTIONS)

anonymize: setup ## IN=folder OUT=new folder [METHOD=ia-depth+hed]: anonymize the faces in photos of any size
	@$(PY) -m anonlib.paper.cli anonymize "$(IN)" "$(OUT)" --profile "$(PROFILE)" --model "$(MODEL)" \
		--camouflage "$(CAMOUFLAGE)" $(if $(METHOD),--method "$(METHOD)")

agreement: setup ## IN=originals OUT=anonymized [TABLE=new.csv]: measure how far control maps agree, and predict top-1
	@$(PY) -m anonlib.paper.cli agreement "$(IN)" "$(OUT)" $(NAMES) $(if $(TABLE),--table "$(TABLE)")

figures: $(READY) ## draw the figures again from saved data, without any model
	@$(PY) -m anonlib.paper.cli figures $(DATASET_OPTION)
	@$(PY) -m tools.picture

explain: $(READY) ## list what is out of date and why, without running anything
	@$(PY) -m anonlib.paper.cli explain $(RUN_OPTIONS)

verify: $(READY) ## compare the results with every claim: PASS, FAIL or INCONCLUSIVE; exit with an error on FAIL
	@$(PY) -m anonlib.paper.cli verify $(NAMES)

test: setup ## run the tests, the notebooks among them, in two processes
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1 $(PY) -m pytest -n 2 --dist loadfile $(ARGS)

bench: $(PEERS)/.lock setup ## compare speeds with other libraries on this CPU (12 minutes), into figures/bench.json
	@PYTHONPATH=$(PEERS) HF_HUB_OFFLINE=1 $(PY) -m tools.bench.cpu

bench-gpu: setup ## measure Stable Diffusion's speed on this NVIDIA GPU with random weights; ARGS=speed: one part
	@HF_HUB_OFFLINE=1 $(PY) -m tools.bench.gpu $(ARGS)

$(PEERS)/.lock: requirements/bench.lock $(READY)
	@$(PY) -m pip install --quiet --no-deps --require-hashes --target $(PEERS) --upgrade -r requirements/bench.lock
	@touch $@

data: setup ## draw the embedded faces again with the face generator
	@$(PY) -m tools.build faces

models: setup ## train the small diffusion model, the compared systems' parts and the attackers; can be resumed
	@$(PY) -m tools.build models

camouflage: setup ## IN=photos OUT=new folder PROFILE=full: train CAMOUFLaGE's own parts for that model
	@$(PY) -m tools.build camouflage "$(IN)" "$(OUT)" --profile "$(PROFILE)" --model "$(MODEL)"

lab: setup ## open the notebooks in JupyterLab
	@$(PY) -m jupyter lab notebooks

clean: ## delete temporary files of runs and tools; never the cache or .venv
	@if test -e "$(READY)"; then $(PY) -m anonlib.paper.cli clean; fi
	@rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	@find anonlib tests tools notebooks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

readme: $(READY) ## fill README.md and docs/ from the results files and draw the README's picture
	@$(PY) -m tools.readme

format: $(READY) ## format the code
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lint: $(READY) ## check the code and its layers without changing anything
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -c "from importlinter.cli import lint_imports_command; lint_imports_command()" --no-cache --no-logo

lock: $(READY) ## resolve pyproject.toml again into both lock files and environment.yml
	@$(PY) tools/lock.py $(ARGS)
