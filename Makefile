# What developers type is what CI runs. `make demo` and `make test` need nothing but Python and make.
PYTHON ?= python3
VENV := .venv
DEMO := .venv-demo
BIN := $(VENV)/bin
PIP_INSTALL := pip install --quiet --disable-pip-version-check --constraint constraints.txt
# First and by itself: where no GPU is wanted, have pip find a CPU wheel of it (TORCH=/path/to/wheel).
TORCH ?= torch==2.13.0
WANTED := 3.10 3.12 3.13

# What `make test-hub` tries, and at which revision the first time; then $(HUB_LOCK) names the commit.
HUB_MODELS ?= HuggingFaceTB/SmolVLM2-256M-Video-Instruct Qwen/Qwen2.5-VL-3B-Instruct
HUB_REVISION ?= main
HUB_LOCK ?= scripts/hub.lock
HUB_OUT ?= build/hub
HUB_EXPORT ?=
# Options of benchmarks/bench_gpu.py, for example `BENCH_GPU=` for everything in one go.
BENCH_GPU ?= --slice-s 570

# Where it is set, each of pytest's processes would make its copy of all tests anew, 15 s of a core.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo sample system test check check-fast test-devices test-hub lint types bench bench-gpu format clean

help:
	@echo "make demo     the reference assistant watches the sample clip and answers; no PyTorch"
	@echo "make test     everything: lint, types, all tests, and the device suite under every Python here"
	@echo "make test-hub models of the Hub, exported and run on the sample clip; needs internet"
	@echo "make check    lint, types and the fast tests, some three minutes"
	@echo "make bench    side by side with peers; prints ratios"
	@echo "make bench-gpu four models in real size on a GPU against PyTorch; ten minutes, again to go on"
	@echo "make setup    the developers' environment in $(VENV)"
	@echo "make format   format the code"
	@echo "make sample   render the sample clip anew"

$(VENV)/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch, then the rest of what export, training and tests need"
	@$(BIN)/$(PIP_INSTALL) $(TORCH)
	@$(BIN)/$(PIP_INSTALL) --editable '.[cpu,serve,webrtc,train,dev]'
	mkdir -p .pkg && ln -sfn .. .pkg/edgestream
	touch $@

setup: $(VENV)/done

$(DEMO)/done: pyproject.toml constraints.txt
	@echo "installing the device packages into $(DEMO)"
	@$(PYTHON) -m venv $(DEMO)
	@$(DEMO)/bin/$(PIP_INSTALL) --editable '.[cpu]'
	touch $@

demo: $(DEMO)/done
	@echo "Watching assets/sample.mp4 (39 s, rendered by us) with assets/reference, the small assistant that"
	@echo "EdgeStream trained itself (3.4 million weights, 8 MB). It is made to be true about scene, light and"
	@echo "camera; what it says of things is only indicative. The three questions are asked at 36.5 s."
	$(DEMO)/bin/edgestream run assets/sample.mp4 --bundle assets/reference \
	    --ask "36.5:Which way did the camera pan first?" --ask "36.5:Did the scene change?" \
	    --ask "36.5:What happened last?"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# Chromium, Mosquitto, GStreamer: where we may not install them, the tests that need them are left out.
system:
	@if [ "$$(id -u)" = 0 ]; then sh scripts/system_packages.sh || echo "going on without"; fi

check: lint types check-fast

check-fast: setup
	$(BIN)/pytest -m "not slow and not medium" -q -n 2

# By files: what a file exports once serves all its tests. One thread each: two fill the cores.
test: system lint types check-fast
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "slow or medium" -q -n 2 --dist loadfile
	$(MAKE) --no-print-directory test-devices

# The device side under every other interpreter that is installed (JetPack 6 has Python 3.10).
test-devices:
	@WANTED="$(WANTED)" sh tests/device_suite.sh

# The only target that needs internet: gigabytes of weights, which the Hub's cache keeps.
test-hub: setup
	$(BIN)/python scripts/try_hub.py $(HUB_MODELS) --revision $(HUB_REVISION) --lock $(HUB_LOCK) \
	    --out $(HUB_OUT) --clip assets/sample.mp4 --export="$(HUB_EXPORT)" \
	    --ask "20:What do you see?" --ask "38:What happened?"

bench: setup
	$(BIN)/python benchmarks/still_scene.py --quick
	$(BIN)/python benchmarks/watch_file.py
	$(BIN)/python benchmarks/change_gate.py
	$(BIN)/python benchmarks/decode_peers.py
	$(BIN)/python benchmarks/lane_wait.py
	$(BIN)/python benchmarks/reference_speed.py
	$(BIN)/python benchmarks/eviction_cost.py
	$(BIN)/python benchmarks/planted_evidence.py
	$(BIN)/python benchmarks/day_stream.py

# Ten minutes at most; exit code 75 says that there is more to measure: the same command goes on.
bench-gpu: setup
	$(BIN)/python benchmarks/bench_gpu.py $(BENCH_GPU)

sample: setup
	$(BIN)/python assets/make_sample.py

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-3.* $(DEMO) build dist *.egg-info
