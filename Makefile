# make demo   profile a trained model on this machine and report the best configuration (about 3 minutes)
# make test   the test suite
# make check  format, lint, types, import rules, tests, wheel: what CI runs
# Each makes .venv if it is missing and installs what it needs.

PYTHON ?= python3
BIN := .venv/bin
# For the tests of PyTorch models, which are skipped without it: make test TORCH= leaves it out.
TORCH ?= torch==2.13.0
ORT := $(if $(wildcard /proc/driver/nvidia/version),gpu,cpu)

.PHONY: demo test check lint wheel clean

demo: .venv/demo
	test -d demo/models/filetype || $(BIN)/analyzer zoo add filetype --repository demo/models --files analyzer --files perf_client --files README.md
	$(BIN)/analyzer profile --model-repository demo/models --profile-models filetype --run demo/run \
	  --latency-budget 100ms --time-limit 100s

test: .venv/test
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: lint test wheel

lint: .venv/test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A report made by the built wheel, away from this checkout, proves that templates and entry points are in it.
wheel: .venv/test
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist . >dist.log 2>&1 || { cat dist.log; exit 1; }; rm -f dist.log
	$(BIN)/python tests/report_from_wheel.py dist/*.whl sample_runs/filetype_cpu

.venv/demo: pyproject.toml .venv/python
	$(BIN)/python -m pip install -q -e '.[$(ORT),pdf,zoo]'
	.ci/pango $(BIN)/python
	touch $@

.venv/test: pyproject.toml .venv/python
	$(BIN)/python -m pip install -q -e '.[$(ORT),pdf,zoo,openvino,dev]' $(TORCH)
	.ci/pango $(BIN)/python
	touch $@

.venv/python:
	$(PYTHON) -m venv .venv
	touch $@

clean:
	rm -rf .venv dist demo .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
