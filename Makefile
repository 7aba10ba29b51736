# make install   the virtual environment .venv with everything in it
# make test      the tests; make test-all: with the slow ones
# make demo      pre-train a small detector, forget 3 x 2 categories, report
# make mini-coco, mini-digits, mini-faces: the small data sets
# make fashion   the same with photographs of clothing and a classifier
# make docs      the documentation as a site, build/site/index.html
# make lint      ruff; make clean: remove caches and build folders
#
# Every target works as the very first command on a fresh machine.

PYTHON ?= python3
# Extra arguments of every `pip install`, and of the one for torch alone
# (which is where another package index chooses the build for CPU or CUDA).
PIP_ARGS ?=
TORCH_ARGS ?=
# How mmcv is built: fast (operators for CPUs), full, or auto, which is full
# where CUDA is found; requirements/build_mmcv.py says more.
MMCV_BUILD ?= auto
# Jobs that compile mmcv; each takes up to 1.2 GB of memory.
MAX_JOBS ?= 2
# Processes that share the tests.
TEST_JOBS ?= 2
# Compute threads of the two kinds of runs. More threads than free cores make
# small models many times slower.
TEST_THREADS ?= 1
DEMO_THREADS ?= 2

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE := $(VENV)/lib*/python*/site-packages
DEMO := work_dirs/demo
FASHION := work_dirs/fashion_mnist
PRETRAINED := $(DEMO)/pretrain/pretrained.pth

INSTALL = $(BIN)/python -m pip install -q --disable-pip-version-check \
	-c requirements/tested.txt $(PIP_ARGS)
# The build of mmcv looks for ninja on the PATH, and for these two.
INSTALL_MMCV = PATH="$(abspath $(BIN)):$$PATH" \
	$(BIN)/python requirements/build_mmcv.py $(MMCV_BUILD)
export MAX_JOBS PIP_ARGS
HAS_PIP = $(BIN)/python -m pip --version >/dev/null 2>&1
HAS_OPS = $(BIN)/python -c 'import torch, mmcv._ext' 2>/dev/null

.PHONY: install test test-all demo lint clean mini-coco mini-digits mini-faces
.PHONY: docs fashion
.PHONY: check-python check-compiler

install: $(STAMP)

# Another build than the installed one may be asked for by name.
ifeq ($(origin MMCV_BUILD),command line)
.PHONY: $(STAMP)
endif

# Steps whose result is there take a second, so an interrupted install goes
# on where it stopped. What pip did not finish has to go first: a package
# without an INSTALLER file was cut off while it was copied and would pass for
# installed; folders that begin with ~ are packages it was about to replace.
$(STAMP): $(wildcard requirements/*.txt) setup.py
	@$(HAS_PIP) || $(MAKE) --no-print-directory check-python
	@$(HAS_PIP) || $(PYTHON) -m venv --clear $(VENV)
	@rm -rf $(SITE)/~*
	@for info in $(SITE)/*.dist-info; do \
		[ ! -d "$$info" ] || [ -e "$$info/INSTALLER" ] || rm -r "$$info"; \
	done
	@echo "Installing torch ..."
	@$(INSTALL) -r requirements/build.txt
	@$(INSTALL) $(TORCH_ARGS) torch torchvision
	@$(HAS_OPS) || $(MAKE) --no-print-directory check-compiler
	@$(INSTALL_MMCV)
	@echo "Installing mmdet, mmpretrain and the tools ..."
	@$(INSTALL) --no-build-isolation onedl-mmdetection onedl-mmpretrain
	@$(INSTALL) -r requirements/runtime.txt -r requirements/optional.txt \
		-r requirements/tests.txt
	@PYTHONWARNINGS=ignore $(INSTALL) --no-build-isolation --no-deps -e .
	@$(BIN)/python -m gslora_mm.utils.check_env
	@touch $@

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "Python 3.10 or newer is needed, but $(PYTHON) is" \
			"$$($(PYTHON) -V 2>&1). Name another one, for example:" \
			"make install PYTHON=python3.11" >&2; \
		exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "$(PYTHON) lacks its venv module" \
			"(Debian, Ubuntu: apt install python3-venv)." >&2; \
		exit 1; }

check-compiler:
	@command -v c++ >/dev/null || { \
		echo "mmcv is built from source and needs a C++ compiler" \
			"(Debian, Ubuntu: apt install g++)." >&2; \
		exit 1; }
	@test -e "$$($(BIN)/python -c 'import sysconfig; \
		print(sysconfig.get_path("include"))')/Python.h" || { \
		echo "mmcv is built from source and needs Python's headers" \
			"(Debian, Ubuntu: apt install python3-dev)." >&2; \
		exit 1; }
	@echo "Installing mmcv ..."

test: export OMP_NUM_THREADS = $(TEST_THREADS)
test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadfile

test-all: export OMP_NUM_THREADS = $(TEST_THREADS)
test-all: $(STAMP)
	$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist loadfile -m ""

demo: export OMP_NUM_THREADS = $(DEMO_THREADS)
# glibc keeps freed memory for the next tensor, instead of giving it back and
# having every page zeroed again; other C libraries ignore this.
demo: export MALLOC_MMAP_THRESHOLD_ = 4000000000
demo: export MALLOC_TRIM_THRESHOLD_ = 16000000000
demo: mini-coco $(PRETRAINED)
	$(BIN)/python tools/train.py \
		configs/mini/gs-lora-auto_deformable-detr_mini-coco_3x2.py \
		--work-dir $(DEMO) --resume

# An instant when the data is there.
mini-coco: $(STAMP)
	$(BIN)/python tools/dataset_tools/make_mini_coco.py

mini-digits: $(STAMP)
	$(BIN)/python tools/dataset_tools/make_mini_digits.py

mini-faces: $(STAMP)
	$(BIN)/python tools/dataset_tools/make_mini_faces.py

fashion: export OMP_NUM_THREADS = $(DEMO_THREADS)
fashion: $(STAMP)
	$(BIN)/python tools/dataset_tools/prepare_fashion_mnist.py
	test -e $(FASHION)/pretrain/pretrained.pth || \
		$(BIN)/python tools/train.py configs/mini/vit_fashion-mnist.py \
			--work-dir $(FASHION)/pretrain --resume
	$(BIN)/python tools/train.py \
		configs/mini/gs-lora_vit_fashion-mnist_3x2.py \
		--work-dir $(FASHION) --resume

# The theme has a note on its own future for whoever builds a site.
docs: export NO_MKDOCS_2_WARNING = 1
docs: $(STAMP)
	$(BIN)/python -m mkdocs build
	@echo "The site is build/site/index.html"

# The pre-training writes this file as its last act; until then it resumes.
$(PRETRAINED): | mini-coco
	$(BIN)/python tools/train.py configs/mini/deformable-detr_mini-coco.py \
		--work-dir $(@D) --resume

lint: $(STAMP)
	$(BIN)/ruff check .

# .venv, data and work_dirs stay: they took long to make.
clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -prune \
		-exec rm -rf {} +
