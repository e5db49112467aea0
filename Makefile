# The task runner of the project. `make help` lists all targets.

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

# `exec`, so that Ctrl-C and SIGTERM reach the program and it can stop its servers in order.
run: ## start everything on this machine: Postgres, two S3 servers, API, worker (options in ARGS="…", folder in DATA_DIR=…)
	@cargo build --workspace --bin nightferry
	@exec $(TARGET_DIR)/debug/nightferry up --data-dir $(DATA_DIR) $(ARGS)

build: ## build the release binary into target/release, with its debug symbols in a separate file
	@scripts/build

test: ## run the unit and integration tests, on servers that they start
	@scripts/test

test-minio: ## run the store contract tests and the tiering tests against MinIO (needs Go)
	@scripts/test-minio

soak: ## run random operation sequences against the model (SEQUENCES=count, SEED=first seed)
	NIGHTFERRY_MODEL_COUNT=$(SEQUENCES) NIGHTFERRY_MODEL_SEED=$(SEED) cargo test --workspace --test model in_random_sequences -- --nocapture

planted: ## check that the model finds known bugs that are patched into a copy (NAMES="…" for some of them)
	@SEQUENCES=$(PLANTED_SEQUENCES) SEED=1 scripts/planted $(NAMES)

check: ## check format, lints, spelling, SQL, shell, Dockerfile, licences, generated files up to date
	@scripts/check

fmt: ## format Rust and TOML files
	cargo fmt --all
	@scripts/install-tools
	@scripts/with-tools taplo fmt

bless: ## update snapshots and generated files; review the diff before committing
	INSTA_UPDATE=always NIGHTFERRY_BLESS=1 cargo test --workspace --no-fail-fast

audit: ## check the dependencies for known security advisories (downloads the advisory database)
	@scripts/audit

bench: ## run benchmarks against direct store access and rclone (options in ARGS="…")
	@scripts/bench $(ARGS)

clean-data: ## delete the data of `make run`: its database and both S3 folders
	@scripts/clean-data $(DATA_DIR)
