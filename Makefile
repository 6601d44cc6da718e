# Every target sets up what it needs in $(VENV) first, once: a stamp per step, touched when the step is
# complete, so that an interrupted installation is taken up again and a finished one costs nothing.

PYTHON ?= python3
VENV ?= .venv
# Extras of setup.py. `make EXTRAS=report,pretrained,large,sam,dev` does without the CRF, and so without a C++ compiler.
EXTRAS ?= crf,report,pretrained,large,sam,dev
TEST_WORKERS ?= 2

PY := $(VENV)/bin/python
STAMPS := $(VENV)/.wsis
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help install test test-slow lint demo demo-all clean
.DELETE_ON_ERROR:

help:
	@echo "make demo     install, then the quickstart: shapes, proxy masks, Mask R-CNN, table and pictures"
	@echo "make demo-all every teacher there is, in the same table; goes on where make demo ended"
	@echo "make test     install, then the tests but the slow ones"
	@echo "make test-slow the slow ones: installer of Detectron2, wheel, killed runs, make-believe GPU, report page in a browser"
	@echo "make lint     install, then ruff (rules and format) and mypy"
	@echo "make install  $(VENV) with PyTorch, Detectron2 and wsis (editable)"
	@echo "make clean    remove caches and build products; $(VENV) and output/ stay"

install: $(STAMPS)/wsis

demo: install
	$(PY) tools/quickstart.py --plan configs/plans/quickstart.yaml --output output/demo --jobs 2

demo-all: install
	$(PY) tools/quickstart.py --plan configs/plans/all.yaml --output output/demo --jobs 2

test test-slow: export OMP_NUM_THREADS ?= 1
test: install
	$(PY) -m pytest -q -n $(TEST_WORKERS) --dist loadfile -m "not slow"

test-slow: install
	$(PY) -m pytest -q -n $(TEST_WORKERS) --dist loadfile -m slow

lint: install
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# The checks come first: a missing piece of the system is named before anything is downloaded.
$(STAMPS)/venv:
	@command -v $(PYTHON) > /dev/null || { echo "error: no $(PYTHON) here: install Python 3.11 or newer" \
	    "or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: wsis needs Python" \
	    "3.11 or newer, found $$($(PYTHON) --version): make PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { echo "error: $(PYTHON) cannot make virtual" \
	    "environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
ifneq (,$(findstring crf,$(EXTRAS)))
	@command -v $${CXX:-c++} > /dev/null || { echo "error: no C++ compiler for pydensecrf2: install one" \
	    "(Debian: apt-get install g++ python3-dev) or leave the CRF out: make EXTRAS=report,pretrained,large,sam,dev" >&2; exit 1; }
	@$(PYTHON) -c 'import os, sys, sysconfig as s; \
	    sys.exit(not os.path.isfile(os.path.join(s.get_path("include"), "Python.h")))' || { \
	    echo "error: no Python.h for pydensecrf2: install the headers of $(PYTHON)" \
	    "(Debian: apt-get install python3-dev) or leave the CRF out: make EXTRAS=report,pretrained,large,sam,dev" >&2; exit 1; }
endif
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS)
	@touch $@

# Cython and NumPy are what pydensecrf2 compiles with, setuptools and wheel what builds it and wsis.
$(STAMPS)/torch: constraints.txt | $(STAMPS)/venv
	$(PIP) setuptools wheel cython numpy torch torchvision
	@touch $@

$(STAMPS)/detectron2: tools/install_detectron2.py $(STAMPS)/torch
	PIP_CONSTRAINT=constraints.txt $(PY) tools/install_detectron2.py
	@touch $@

$(STAMPS)/wsis: setup.py pyproject.toml $(STAMPS)/detectron2
	$(PIP) --no-build-isolation --editable '.[$(EXTRAS)]'
	@touch $@
