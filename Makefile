# make demo, make test, make lab: each sets up .venv with the pinned wheels itself; the second time there is nothing to do.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
# Extras of pyproject.toml; continuous integration adds cluster.
EXTRAS ?= dev,export
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lab

demo: $(READY)
	$(BIN)/python -m workbench run notebooks/00_check_setup.ipynb notebooks/01_data_and_detectors.ipynb notebooks/41_known_answers.ipynb
	@$(BIN)/python -m workbench report runs/00_check_setup runs/01_data_and_detectors runs/41_known_answers --html runs/report.html
	@echo "To read in a browser:"
	@$(BIN)/python -m workbench site runs/00_check_setup runs/01_data_and_detectors runs/41_known_answers --out runs/site

test: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile

lab: $(READY)
	$(BIN)/jupyter lab --ServerApp.ip=127.0.0.1

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Expected Python 3.11 or newer, found none; install it or run make PYTHON=/path/to/python."; exit 1; }
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt torch torchvision
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]'
	touch $(READY)
