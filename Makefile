# make up      starts Pinacle on this machine, with all that it needs     make up ARGS="--listen 127.0.0.1:9090"
# make test    checks everything, as the project's own checks do
# make lab     brings up several hosts on this machine to try things on  make lab ARGS=down
# make bench   prints the figures of docs/BENCHMARKS.md                   make bench ARGS="ingest lag"

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up test lab bench fmt clean-data

TARGET := $(or $(CARGO_TARGET_DIR),target)
SERVICES := -p pinacle -p pinacle-agent -p pinacle-gateway -p pinacle-ingest -p pinacle-orchestrator
STEP := printf '\n== %s\n'

help:
	@sed -n '/^$$/q; s/^# //p' Makefile

up:
	@scripts/setup run
	@cargo build --release --locked --bins $(SERVICES)
	@exec $(TARGET)/release/pinacle up $(ARGS)

test:
	@scripts/setup test
	@$(STEP) 'format'
	@cargo fmt --all --check
	@$(STEP) 'lints'
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@$(STEP) 'documentation'
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps --document-private-items
	@$(STEP) 'programs'
	@cargo build --locked --workspace --bins
	@$(STEP) 'tests'
	@INSTA_UPDATE=no cargo nextest run --locked --workspace $(ARGS)
	@$(STEP) 'examples in the documentation'
	@cargo test --quiet --locked --workspace --doc

lab:
	@scripts/setup test
	@cargo build --locked --workspace --bins
	@exec $(TARGET)/debug/lab $(ARGS)

bench:
	@scripts/setup bench
	@cargo build --release --locked --bins $(SERVICES) -p pinacle-tests
	@exec $(TARGET)/release/bench $(ARGS)

fmt:
	@cargo fmt --all

# All that Pinacle has stored on this machine, but for the programs that it downloaded.
clean-data:
	@if [ -e .pinacle/run ]; then \
		flock --nonblock .pinacle/run/up.lock true || { echo 'Pinacle is running: stop it first' >&2; exit 1; }; \
		find .pinacle -mindepth 1 -maxdepth 1 ! -name bin -exec rm -rf {} +; \
	fi
