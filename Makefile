# The one task runner. `make help` lists what it does.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
DATA_DIR ?= nightferry-data
ARGS ?=
NAMES ?=

SEQUENCES ?= 20000
PLANTED_SEQUENCES ?= 2000
SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

.PHONY: help run build test test-minio soak planted check fmt bless audit bench clean-data

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `exec`, so that Ctrl-C and SIGTERM reach the program itself and it can stop its servers in order.
run: ## start everything on this machine: Postgres, two S3 servers, API, worker (options in ARGS="…", folder in DATA_DIR=…)
	@cargo build --workspace --bin nightferry
	@exec $(TARGET_DIR)/debug/nightferry up --data-dir $(DATA_DIR) $(ARGS)

build: ## build the release binary into target/release, with its symbols in a file beside it
	@scripts/build

test: ## unit tests and the integration tests, on servers they start themselves
	@scripts/test

test-minio: ## the store contract and the tiering tests on a real MinIO (needs Go)
	@scripts/test-minio

soak: ## random sequences against the model of the engine (how many in SEQUENCES=…, from which seed in SEED=…)
	NIGHTFERRY_MODEL_COUNT=$(SEQUENCES) NIGHTFERRY_MODEL_SEED=$(SEED) cargo test --workspace --test model in_random_sequences -- --nocapture

planted: ## plant known bugs in a copy of the engine and see that the model finds each (some by NAMES="…")
	@SEQUENCES=$(PLANTED_SEQUENCES) SEED=1 scripts/planted $(NAMES)

check: ## format, lints, spelling, SQL, shell, Dockerfile, licences, drift of generated files
	@scripts/check

fmt: ## rewrite Rust and TOML files in the project's format
	cargo fmt --all
	@scripts/install-tools
	@scripts/with-tools taplo fmt

bless: ## renew snapshots and generated files; read the diff before you commit it
	INSTA_UPDATE=always NIGHTFERRY_BLESS=1 cargo test --workspace --no-fail-fast

audit: ## known security advisories in the dependencies (downloads the advisory database)
	@scripts/audit

bench: ## side-by-side benchmarks against the bare stores and rclone (options in ARGS="…")
	@scripts/bench $(ARGS)

clean-data: ## delete what `make run` stored: its database and both S3 folders
	@scripts/clean-data $(DATA_DIR)
