PYTHON ?= python3
BIN := .venv/bin
export CC  # as make has it (cc): Debian python would make scikit-build-core ask for x86_64-linux-gnu-gcc
TOOLS := PATH="$(CURDIR)/$(BIN):$$PATH"
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# As it was typed: a name may hold a $.
override INPUT := $(value INPUT)
export INPUT

.PHONY: setup build run test ctest lint asan tsan bench soak clean

# Once, and again when pyproject.toml changes. The build tools live in the venv, so that `make build` finds them later.
setup: .venv/ready
.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install 'cmake>=3.25' ninja 'scikit-build-core>=1.1'
	$(TOOLS) $(PIP) install --no-build-isolation -e '.[dev]'
	touch $@

# After a C edit: seconds, and the editable install sees it at once. The byte code, as pip makes it of what it installs: hosts start
# fast also where PYTHONDONTWRITEBYTECODE is set.
build: setup
	@$(TOOLS) cmake --build build/editable -- --quiet
	@$(BIN)/python -m compileall -q host engine plugins

# The demo rack under supervisord, shown live. INPUT=song.flac plays a file of yours.
run: build
	@$(BIN)/sigrack up examples/demo.toml $${INPUT:+--input "$$INPUT"}

# JOBS=3 runs as many tests side by side: most of them wait for sound or processes, so that two cores take half the time.
test: build
	$(BIN)/pytest $${JOBS:+-n "$$JOBS" --dist worksteal}

# The core's own tests in C; `make asan` and `make tsan` run them under sanitizers.
ctest asan tsan: setup
	@$(TOOLS) cmake --preset $(subst ctest,tests,$@) >/dev/null
	@$(TOOLS) cmake --build --preset $(subst ctest,tests,$@) -- --quiet
	@$(TOOLS) ctest --preset $(subst ctest,tests,$@)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: build
	$(BIN)/python benchmarks/chain.py
	$(BIN)/python benchmarks/convolution.py
	$(BIN)/python benchmarks/dispatch.py
	$(BIN)/python benchmarks/fused_chain.py

# Plugins come and go, do everything that is bad, and the host is killed, in turn: `make soak HOURS=24`. The page: build/soak.html.
HOURS ?= 1
soak: build
	$(BIN)/sigrack soak --kind all --seconds $$(($(HOURS) * 3600)) --report build/soak.html --json

clean:
	rm -rf .venv build
	find engine plugins -name '*.so' -delete
