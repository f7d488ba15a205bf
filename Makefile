# One environment, one build; every target makes what it needs and nothing twice.
#   make demo                                     the main job: a 1.2-billion-parameter model, torch against fastinit
#   make test TORCH=2.14.1 VENV=.venv-2.14        the same tests in an environment with another torch
#   make bench-check                              whether ratios to torch.nn.init fell, against the committed report
#   make test-cuda                                nvcc's output, executed on the CPU: no GPU is needed
# The CUDA kernels are tested beside a CUDA build of torch, with the nvcc that is pinned there, and must be built then.
ifneq ($(filter test-cuda,$(MAKECMDGOALS)),)
TORCH  ?= 2.14.1
VENV   ?= .venv-2.14
export FASTINIT_CUDA ?= 1
endif
PYTHON ?= python3
VENV   ?= .venv
TORCH  ?= 2.13.0
ARGS   ?=

PY        = $(VENV)/bin/python
# What goes with one version of torch only.
BESIDE    = $(wildcard requirements/beside-torch-$(TORCH).txt)
INSTALLED = $(VENV)/.installed-torch-$(TORCH)
# The module lies in the source tree, so the last environment that built it owns it: one stamp at a time.
BUILT     = build/.built-in-$(subst /,_,$(VENV))
SOURCES   = setup.py pyproject.toml fastinit/_version.py $(shell find csrc -type f)
CXX_FILES = $(shell find csrc tests -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test test-cuda bench bench-check competitors docs lint format types clean
.DELETE_ON_ERROR:

demo: $(BUILT)
	$(PY) -m fastinit bench $(ARGS)

test: $(BUILT)
	$(PY) -m pytest $(ARGS)

test-cuda: $(BUILT)
	$(PY) -m pytest -m "" tests/cuda tests/test_cuda_module.py $(ARGS)

bench: $(BUILT)
	$(PY) -m fastinit bench --report build/report --full
	for script in benchmarks/bench_*.py; do $(PY) $$script $(ARGS) || exit 1; done

bench-check: $(BUILT)
	$(PY) -m fastinit bench --check benchmarks/results/report/report.json

# Other fillers, in the same environment: the suite measures those that it finds.
competitors: $(INSTALLED)
	$(PY) -m pip install --quiet -r benchmarks/competitors/requirements.txt

docs: $(BUILT)
	$(PY) -m sphinx -W --keep-going -n -q -d build/doctrees docs build/docs $(ARGS)

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run --Werror $(CXX_FILES)

format: $(INSTALLED)
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CXX_FILES)
	$(VENV)/bin/ruff check --fix .

types: $(BUILT)
	$(VENV)/bin/mypy

clean:
	rm -rf build dist *.egg-info fastinit/_C*.so fastinit/_build_info.py

$(INSTALLED): requirements/dev.txt $(BESIDE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "fastinit: Python 3.11 or newer is needed, and '$(PYTHON)' is not. Name one: make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "fastinit: '$(PYTHON) -m venv' does not work here. Debian and Ubuntu: apt-get install python3-venv."; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	rm -f $(VENV)/.installed-*
	$(PY) -m pip install --quiet torch==$(TORCH) -r requirements/dev.txt $(addprefix -r ,$(BESIDE))
	touch $@

$(BUILT): $(INSTALLED) $(SOURCES)
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
	mkdir -p build && rm -f build/.built-in-* && touch $@
