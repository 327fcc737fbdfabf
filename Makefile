# poolae: `make report` rebuilds the paper, `make test` checks the code, `make` says what else.

ifeq ($(OS),Windows_NT)
$(error poolae needs Linux or macOS: on Windows, install WSL (wsl --install) and run make in it)
endif

DATA    ?= synthetic
# As it was given: a dollar in the name of a folder is a dollar.
override DATA := $(value DATA)
PROFILE ?= quick
DEPTHS  ?= 0 1 2 3
SEEDS   ?= $(SEEDS_$(PROFILE))
RECIPE  ?= $(if $(filter published,$(PROFILE)),published,corrected)
PRECISION ?= auto
JOBS    ?= 2
LAUNCH  ?=
TIMEOUT ?= 86400
ROWS    ?= 1 2 3 4 5 6 7 9
PYTHON  ?= python3

SEEDS_smoke     := 0
SEEDS_quick     := 0 1
SEEDS_standard  := 0 1 2 3 4 5
SEEDS_large     := 0 1 2 3 4 5
SEEDS_full      := 0
SEEDS_published := 0

# Runs beside the published networks, by name: the matched family from every seed; pooling
# operators and bottlenecks from one; networks trained on drawings whose chroma ends at so many cycles;
# seeds that share a split; and the published recipe, with and without clearing gradients.
MATCHED    := matched0 matched1 matched2 matched3 dilated narrow lossless skip
SATELLITES := $(foreach a,max2 average strided blur c4 c16 c64 c1024,pool3-$a)
BANDS      := $(foreach b,4 8 16,$(foreach d,0 1 2 3,pool$d-band$b-seed0))
# Further experiments, to be named in OTHERS or on the command line (single quotes), each from the
# first so many of SEEDS: make record DATA=daisies PROFILE=standard OTHERS='$(SURFACE) $(AREAS)'
seeded      = $(foreach s,$(wordlist 1,$1,$(SEEDS)),$(2:%=%-seed$s))
TWELVE      = $(call seeded,99,$(MATCHED) lossless-ungrouped)
SURFACE     = $(sort $(call seeded,3,$(foreach a,pool0 pool1 pool3 matched0 matched3 dilated,$(addprefix $a-,$(EFFORTS)))) \
              $(call seeded,6,$(foreach a,matched0 dilated,$a-images143 $a-images143-early)))
EFFORTS    := images143 steps1600 images143-steps1600
OPERATORS   = $(call seeded,6,$(addprefix matched3-,$(HALVING))) \
              $(call seeded,3,$(foreach d,1 2,$(addprefix matched$d-,$(HALVING))))
HALVING    := max2 max5 average blur
UPSAMPLERS  = $(call seeded,6,matched3-bilinear matched3-transposed) \
              $(call seeded,3,pool3-bilinear pool3-transposed)
AREAS       = $(call seeded,6,dilated area2 area4 matched3)
CHANNELS    = $(call seeded,6,$(foreach c,c4 c16 c64 c1024,pool3-$c))
ORIGINAL    = $(call seeded,3,$(foreach r,published cleared,$(foreach d,0 1 2 3,pool$d-$r-long)))
SIX         = $(call seeded,6,$(SATELLITES) $(foreach b,4 8 16,$(foreach d,0 1 2 3,pool$d-band$b)))
MIXED       = $(foreach s,$(wordlist 1,6,$(SEEDS)),$(foreach t,$(wordlist 1,3,$(filter-out $s,$(SEEDS))),pool1-seed$t-split$s))
OTHERS     ?= $(OTHERS_$(PROFILE))
OTHERS_standard = $(foreach s,$(SEEDS),$(MATCHED:%=%-seed$s)) \
              $(SATELLITES:%=%-seed$(firstword $(SEEDS))) $(BANDS) \
              pool1-seed1-split0 pool1-seed2-split0 pool1-seed3-split0 \
              pool1-published-long-seed0 pool1-cleared-long-seed0

# JupyterLab takes pictures of up to 256 MiB, not 10, and starts for root, as in a container.
LAB = --ServerApp.tornado_settings='{"websocket_max_message_size": 268435456}' \
      $(if $(filter 0,$(shell id -u)),--allow-root) $(LABFLAGS)
# It looks for its parts by patterns, in which a bracket of the path means something else: there
# it starts by way of a link.
LABPY = $(if $(and $(findstring [,$(CURDIR)),$(filter .venv,$(ENV))),$(LINKED),$(PY))
LINKED = at=$$(mktemp -d) && trap 'rm -r "$$at"' EXIT && trap : INT TERM && \
          ln -s "$$PWD/.venv" "$$at/env" && "$$at/env/bin/python"

export JOBS
unexport SLURM_CPUS_PER_TASK # of a job around make; LAUNCH gives each execution its own
export PYTHONUNBUFFERED := 1
MAKEFLAGS += $(if $(MAKELEVEL:0=),,-j$(JOBS)) --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:

# One word of the shell, whatever characters are in it.
quoted   = '$(subst ','\'',$1)'

# An active conda environment that was made from environment.yml, or else .venv.
ENV     := $(or $(shell test -x "$$CONDA_PREFIX/bin/papermill" && printf %s "$$CONDA_PREFIX"),.venv)
ifneq ($(shell printf %s $(call quoted,$(ENV)) | LC_ALL=C tr -d 'A-Za-z0-9_./+@,=-'),)
$(error the environment $(ENV) has characters in its path that make cannot take: create it by conda env create --prefix with another path, or run conda deactivate, for one in .venv)
endif
READY   := $(ENV)/.poolae-ready
PY      := $(ENV)/bin/python
PIP     := $(PY) -m pip install --quiet --disable-pip-version-check
# As `runs.results_folder` does, byte by byte.
slug    := $(shell export LC_ALL=C; printf %s $(call quoted,$(DATA)) | tr '\n' _ | \
             sed 's:/*$$::; s:.*/::' | tr -c 'A-Za-z0-9._\n-' _)
RESULTS := build/$(slug)-$(PROFILE)
CHOICE   = --data $(call quoted,$(DATA)) --profile '$(PROFILE)' --recipe '$(RECIPE)' \
           --precision '$(PRECISION)' --results $(RESULTS) --depths '$(DEPTHS)' --seeds '$(SEEDS)' --others '$(strip $(OTHERS))'
# Where LAUNCH takes an execution, it must find the word that `prepare` left in the results.
SEEN     = $(if $(LAUNCH),--seen "$$(cat $(RESULTS)/.shared)")
EXECUTE  = $(LAUNCH) $(PY) -m poolae execute $(CHOICE) $(SEEN) --timeout '$(TIMEOUT)'

# What each step is made from: a change in plotting redraws, a change in a model retrains.
TRAINING := $(filter-out %/__main__.py,$(wildcard poolae/*.py)) \
            $(wildcard $(patsubst %,poolae/%/*.py,data models train)) poolae/metrics/scores.py
DRAWING  := $(TRAINING) $(wildcard poolae/metrics/*.py poolae/paper/*.py)
run       = $1$(if $(filter-out corrected,$(RECIPE)),-$(RECIPE))-seed$2
PUBLISHED = $(foreach s,$(SEEDS),$(foreach d,$(DEPTHS),$(call run,pool$d,$s)))
NAMES    := $(sort $(PUBLISHED) $(OTHERS))
# The longest first, so that no core is left alone with one at the end.
LONGEST  := $(foreach d,3 2 1 0,$(filter pool$d-%,$(NAMES)))
RUNS     := $(patsubst %,$(RESULTS)/runs/%/02_train.ipynb,$(LONGEST) $(filter-out $(LONGEST),$(NAMES)))
SHOWN    := $(foreach d,$(DEPTHS),$(RESULTS)/runs/$(call run,pool$d,$(firstword $(SEEDS)))/02_train.ipynb)
EXECUTED := $(RESULTS)/01_data.ipynb $(RESULTS)/03_evaluate.ipynb $(RESULTS)/04_samples.ipynb

.PHONY: help report archive test lab figures record verify bench lint environment clean FORCE
help: ## say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-12s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'Variables:  DATA=synthetic|daisies|<folder>  PROFILE=smoke|quick|standard|large|full|published'
	@echo '            DEPTHS="0 1 2 3"  SEEDS="0 1"  JOBS=2  TIMEOUT=<seconds for a cell>'
	@echo '            PRECISION=auto|float32|bfloat16  (auto: what is fast on this machine)'
	@echo '            LAUNCH=<prefix of each execution, such as "srun -n1 -c2">'
	@echo '            OTHERS="dilated-seed0 pool3-max2-seed0 ..."  further runs, by name'

report: | $(READY) ## train, evaluate and render the paper (DATA, PROFILE, ...)
	@+$(PY) -m poolae alone --results $(RESULTS) $(MAKE) $(RESULTS)/report.html
	@printf '%s\n' "$$PWD/$(RESULTS)/report.html"

archive: | $(READY) ## pack the finished report, its numbers and provenance as one zip
	@$(PY) -m poolae alone --results $(RESULTS) $(PY) -m poolae archive $(CHOICE)

test: $(READY) ## run every test
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

lab: $(READY) ## open the notebooks in JupyterLab
	$(LABPY) -m jupyterlab notebooks/04_samples.ipynb $(LAB)

figures: $(READY) ## redraw the committed figures from the committed numbers
	$(PY) -m poolae figures

record: $(READY) ## train what is not on record yet and add its numbers to figures/, run by run
	@$(PY) -m poolae prepare $(CHOICE)
	@$(PY) -m poolae alone --results $(RESULTS) $(PY) -m poolae record $(CHOICE)

verify: $(READY) ## train figures/verify.csv again and compare; DATA=daisies: score figures/networks
	$(PY) -m poolae verify --data $(call quoted,$(DATA))

bench: $(READY) ## measure speed as ratios (ROWS="1 2 ..."; DATA=<the daisies> for row 7)
	$(PY) tests/bench.py --rows '$(ROWS)' --data $(call quoted,$(DATA))

lint: $(READY) ## check style and format
	$(PY) -m ruff check . && $(PY) -m ruff format --check .

environment: $(READY) ## install all that the others need, which they do by themselves

clean: ## delete all results (build/), but not the environment
	rm -rf build

$(RESULTS)/report.html: $(EXECUTED) $(RUNS) poolae/__main__.py \
$(wildcard poolae/paper/page/*.py poolae/paper/page/template/* poolae/paper/reference/* build/bench/bench.csv)
	@echo 'render  $@'; $(PY) -m poolae report $(CHOICE)

$(RESULTS)/01_data.ipynb: notebooks/01_data.ipynb $(RESULTS)/inputs.json $(DRAWING)
	@echo 'execute $@'; $(EXECUTE) $< $@

$(RESULTS)/03_evaluate.ipynb $(RESULTS)/04_samples.ipynb: \
$(RESULTS)/%.ipynb: notebooks/%.ipynb $(RESULTS)/inputs.json $(RUNS) $(DRAWING)
	@echo 'execute $@'; $(EXECUTE) $< $@

$(RUNS): $(RESULTS)/runs/%/02_train.ipynb: notebooks/02_train.ipynb $(RESULTS)/inputs.json $(TRAINING)
	@echo 'execute $@'; $(EXECUTE) $< $@ --run $*
$(SHOWN): $(DRAWING)

# Checks the parameters and the data, and changes only when they do.
$(RESULTS)/inputs.json: FORCE | $(READY)
	@$(PY) -m poolae prepare $(CHOICE) $(if $(LAUNCH),--shared)

# The lock constrains what the pins of environment.yml draw in. Nothing is compiled.
$(READY): environment.yml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' || \
	  { echo "poolae needs Python 3.11.5 or newer: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@test $(ENV) != .venv || $(PY) -c 1 2>/dev/null || $(PYTHON) -m venv --clear .venv
	sed -n 's/^ *- \([A-Za-z0-9._-]*==.*\)/\1/p' environment.yml > $(ENV)/pins.txt
	@$(PIP) --only-binary :all: -r $(ENV)/pins.txt -c requirements.lock || \
	  { echo "The packages of environment.yml could not be installed (pip says why above): mend" \
	  "the network or the disk, or take a Python and a processor that they are built for, such" \
	  "as make PYTHON=python3.11; then run the same command again." >&2; exit 1; }
	$(PIP) --no-deps --no-build-isolation -e .
	@touch $@
