# One command a job; people and CI run the same. `make` alone lists them.
# The environment is .venv in this folder, made on first use; downloads are kept, so later runs need no network.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PINS := .ci/constraints.txt
PIP := $(PY) -m pip --disable-pip-version-check
SUDO ?= sudo
BROWSERS := chromium chromium-browser google-chrome google-chrome-stable

.PHONY: help app course site lab test check notebooks slides bench browser badges assets words pins clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

course: $(READY) words  ## everything from nothing: install, download, run every notebook, write pages to build/course/
	$(PY) notebooks/build.py html $(NAMES)

lab: $(READY) assets  ## open JupyterLab on the first notebook
	$(PY) -m jupyter lab --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks/00_start_here.ipynb  # asks nothing of the network

test: $(READY) words  ## everything from nothing: unit, contract and structure tests, then every notebook cell by cell
	@$(MAKE) --no-print-directory browser SUDO= || echo "Going on without a browser: the tests of the sliders will be skipped."
	@$(PY) app/build.py || echo "Going on without the page of the filter: its tests will be skipped."
	OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist worksteal tests
	$(PY) notebooks/build.py solved
	$(PY) -m pytest --nbval --nbval-current-env -n auto --dist loadfile build/solved

app: $(READY) assets  ## build the page of the filter into build/app/ (needs npm); `dvlatent app` serves it
	$(PY) app/build.py

site: app course  ## the course's pages and the page of the filter in one folder, build/site/, for any static host
	rm -rf build/site && cp -r build/course build/site

check: $(READY)  ## style, floors, file sizes, documents (types are checked by the tests as they run)
	$(PY) -m ruff check
	$(VENV)/bin/lint-imports
	$(PY) -m pytest tests/test_house.py

notebooks: $(READY) words  ## make the .ipynb files from notebooks/src and run them (NAMES="03_stylegan_sampling" for some)
	$(PY) notebooks/build.py execute $(NAMES)

slides: $(READY)  ## a deck of each lesson's figures for a lecture, in build/slides/; needs no network
	$(PY) notebooks/build.py slides $(NAMES)

bench: $(READY) words  ## measure time and memory; prints ratios
	@$(PY) -c "import openvino" 2>/dev/null || $(PIP) install -c $(PINS) -e ".[bench]"  # the peer
	$(PY) benchmarks/run.py

badges: $(READY)  ## point every Colab badge at one repository: make badges REPO=owner/name
	@[ -n "$(REPO)" ] || { echo "Which repository? Say: make badges REPO=owner/name"; exit 1; }
	$(PY) notebooks/build.py badges --repo $(REPO)

assets: $(READY)  ## download the third-party weights and data (once; DVLATENT_HOME says where)
	@$(VENV)/bin/dvlatent assets

words: $(READY)  ## the same, and the sentence encoder of lesson 09 (92 MB more)
	@$(VENV)/bin/dvlatent assets --with words

browser:  ## install Chromium for the tests of the sliders, where it is missing
	@for name in $(BROWSERS); do if command -v $$name >/dev/null 2>&1; then echo "Browser for the tests: $$name"; exit 0; fi; done; \
	if ! command -v apt-get >/dev/null 2>&1; then \
	  echo "No Chromium or Chrome found. Install one (from its own site, or e.g. 'brew install --cask chromium',"; \
	  echo "'dnf install chromium'), see that 'chromium' or 'google-chrome' starts it in a terminal, and run this again."; exit 1; \
	fi; \
	if [ "$$(id -u)" = 0 ]; then sudo=; elif [ -n "$(SUDO)" ] && command -v $(SUDO) >/dev/null 2>&1; then sudo=$(SUDO); else \
	  echo "No Chromium found, and installing it needs root: 'make browser' asks for it, or say 'apt-get install chromium' as root."; exit 1; fi; \
	echo "No browser found: installing Debian's chromium (about 100 MB, a minute) ..."; \
	$$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends chromium fonts-dejavu-core

pins: $(READY)  ## write .ci/constraints.txt from what is installed now (after an upgrade that passed `make test`)
	$(PY) .ci/pins.py > $(PINS).new && mv $(PINS).new $(PINS) && touch $(READY)

clean:  ## remove what make wrote, except .venv and the downloads
	rm -rf build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -path ./.venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

# torch comes first and alone, at its pinned version: a machine that has its own build of it (CPU or CUDA) takes that one.
$(READY): pyproject.toml $(PINS)
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no '$(PYTHON)' here. Install Python 3.10 or newer, or name yours: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name a newer one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making the environment in $(VENV): about 2 GB, some minutes, once. Interrupt it if you must; the next run goes on."
	@[ -x $(PY) ] && $(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { \
	  echo "Python could not make an environment. On Debian and Ubuntu: apt-get install python3-venv, then run this again."; exit 1; }
	@echo "1 of 2: PyTorch"
	@$(PIP) install -c $(PINS) torch || { echo "$(INSTALL_FAILED)"; exit 1; }
	@echo "2 of 2: the other packages, and dvlatent itself"
	@$(PIP) install -c $(PINS) -e ".[course,app,test]" || { echo "$(INSTALL_FAILED)"; exit 1; }
	@touch $@

INSTALL_FAILED := pip could not finish: its last lines say why. Without a network this one step cannot work; with one, run the same \
  command again: what has arrived is kept.
