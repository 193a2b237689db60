# Two commands do everything: `make book` and `make test`. They make .venv by themselves.
#
#   make book      build the HTML, warnings as errors, and say where to open it
#   make test      lint, tests, every notebook re-run and compared, the built book in a headless browser
#   make execute   re-run the chapters and store their outputs, run times and peak memory
#   make plain     make the plain editions of the chapters, for Colab and viewers that know no MyST
#   make pdf       print the book into one PDF, with Chromium: _build/nfcourse.pdf
#   make mutants    run the wrong theorems against the checks of the chapters, and store what became of them
#   make bench     time the flows against their bare networks and against public libraries; the precision of splines
#   make bench-quality  train the same flows in all libraries, compare what they reach, Glow too; half an hour
#   make clean     remove what was built; the environment stays
#
# A CPU-only PyTorch: make book TORCH_INDEX=<the index that PyTorch's install page names for CPU>

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := $(shell sed -n 's/^\(torch==.*\)/\1/p' requirements.txt)
CHAPTERS := $(sort $(wildcard chapters/*.ipynb))

# What notebooks need to print the same numbers everywhere: no live widgets, no progress bars, one thread each.
STABLE := NFCOURSE_STATIC=1 TQDM_DISABLE=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONHASHSEED=0

.PHONY: book test execute plain pdf mutants bench bench-quality clean

book: $(READY)
	@$(BIN)/python scripts/build_book.py

test: $(READY)
	$(BIN)/ruff check .
	@$(BIN)/python scripts/build_book.py
	$(STABLE) $(BIN)/python -m pytest -n 2 --dist loadgroup --nbval --nbval-sanitize-with tests/nbval_sanitize.cfg tests chapters

execute: $(READY)
	$(STABLE) $(BIN)/python scripts/execute.py $(CHAPTERS)
	@$(BIN)/python scripts/plain.py

plain: $(READY)
	@$(BIN)/python scripts/plain.py

pdf: book
	@$(BIN)/python scripts/pdf.py

mutants: $(READY)
	$(STABLE) $(BIN)/python scripts/mutants.py

bench: $(READY)
	$(call benchmark,coupling autoregressive spline depth)

bench-quality: $(READY)
	$(call benchmark,quality image)

# every script stores its figures, and the page of the book is made from them
benchmark = $(foreach name,$(1),$(STABLE) $(BIN)/python tests/benchmarks/$(name).py --json book/results/bench_$(name).json && )$(BIN)/python scripts/bench_page.py

clean:
	rm -rf _build .pytest_cache .ruff_cache .hypothesis nfcourse.egg-info
	find nfcourse tests scripts book -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else f"Python 3.11 or later is needed, this is {v.major}.{v.minor}; try: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) $(TORCH))
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $(READY)
