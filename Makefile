# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each runs the set-up first; what is there already is not done again.

CARGO ?= cargo
PYTHON ?= python3
# Extra arguments of the test runner, e.g. `make test TESTS='-p pipeline'`.
TESTS ?= --workspace

# Where `make man` writes; `man` finds ~/.local/share/man by itself.
MAN ?= $(HOME)/.local/share/man/man1
PROGRAMS = pipeline trainer sampler evaluator scheduler

.PHONY: help setup build man python browser pgbouncer slurm kernels demo test fuzz check sanitize clean-demo

help:
	@echo "make demo   photographs in, a trained network and a picture out (IMAGES=folder or archive)"
	@echo "make test   builds everything and runs all tests"
	@echo "make build  the release programs, in target/release"
	@echo "make man    manual pages of all commands, in $(MAN)"
	@echo "make fuzz   damaged files for every reader, MINUTES for each (TARGETS=\"tar npz\")"
	@echo "make check  formatting, lints, documentation and dependencies, as CI has them"
	@echo "make sanitize  the tests of torch-ext and jpeg-ext with C and C++ under ASan and UBSan"
	@echo "make setup  libtorch, PostgreSQL, nasm and the charts' library only"

setup:
	@sh scripts/processor.sh
	@$(PYTHON) scripts/libtorch.py
	@sh scripts/postgres.sh
	@sh scripts/nasm.sh
	@$(PYTHON) scripts/assets.py

build: setup
	$(CARGO) build --release --workspace --bins

man: build
	@for program in $(PROGRAMS); do target/release/$$program man --out "$(MAN)" || exit 1; done

# Only the tests want Python packages, and only some of them.
python:
	@sh scripts/python.sh

# And a browser, in which pages are looked at, and what tells whether they can be read aloud.
browser:
	@sh scripts/browser.sh
	@$(PYTHON) scripts/assets.py --tests

# And a pooler between the programs and Postgres.
pgbouncer:
	@sh scripts/pgbouncer.sh

# And Slurm, whose daemons the tests of pilots start.
slurm:
	@sh scripts/slurm.sh

# And CUDA's compiler, without a GPU, to see that the kernels' PTX is not stale.
kernels:
	@sh scripts/ptx.sh --setup || echo "setup: whether the kernels' PTX is stale is not tested" >&2

demo: build
	@bash scripts/demo.sh

test: build python browser pgbouncer slurm kernels
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --release --no-fail-fast $(TESTS); \
	else \
		$(CARGO) test --release --no-fail-fast $(TESTS); \
	fi

# Minutes for each target, targets at once, and which.
MINUTES ?= 5
JOBS ?= 1
TARGETS ?=

fuzz: setup
	@$(PYTHON) scripts/fuzz.py --minutes $(MINUTES) --jobs $(JOBS) $(TARGETS)

check: setup
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --release --workspace --no-deps
	@sh scripts/dependencies.sh

# Not part of the tests: the first run compiles libtorch's headers with checks for a quarter of an hour.
sanitize: setup
	@bash scripts/sanitize.sh

clean-demo:
	@bash scripts/demo.sh --clean
