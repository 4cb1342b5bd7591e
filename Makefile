# The commands of this project. `make help` lists them; scripts/ holds what they do.

SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help run test setup fmt lint parity bench faults clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: ## Start the daemon with two plugins and a demonstration (Ctrl-C ends everything)
	@scripts/setup.sh run
	@scripts/run.sh

test: ## Check everything: format, lints, tests of every kind, documentation
	@scripts/setup.sh test
	@scripts/test.sh

setup: ## Install (as root) or list (otherwise) what the other commands need
	@scripts/setup.sh

fmt: ## Format the Rust code
	@cargo fmt --all

lint: ## Only the format check and the lints
	@scripts/test.sh fmt clippy

parity: ## Write docs/sdk-parity.md: what the conformance kit finds of each SDK
	@scripts/setup.sh test
	@cargo build --locked --quiet -p temps-cli --bins
	@cargo build --locked --quiet -p temps-plugin-sdk --example parity
	@python3 scripts/parity.py

# Sections to measure; all when nothing is said. `target/release/temps-bench --help` names them.
SECTIONS :=

bench: ## Measure latency, throughput and memory on this machine (SECTIONS="sdks dev" for some of it)
	@scripts/setup.sh bench
	@cargo build --release --locked -p temps-benches -p temps-cli -p temps-testkit --bins
	@target/release/temps-bench $(SECTIONS)

# What a run of faults may be told; what is not said has a default.
FAULTS := STORE EVENTS PUBLISHERS HOST_KILLS PLUGIN_KILLS PLUGIN_STOPS FULL_DISKS CONNECTION_KILLS SERVER_KILLS SEED

faults: ## Kill hosts, plugins, databases under load and judge what is left (EVENTS=100000 HOST_KILLS=200 SEED=… STORE=postgres)
	@scripts/setup.sh run
	@cargo build --locked --quiet -p temps-cli -p temps-testkit --bins
	@cargo build --locked --quiet -p temps-plugin-sdk --example ledger
	@TEMPS_TEST_BUILT=1 target/debug/temps-faults $(foreach word,$(FAULTS),$(if $($(word)),$(word)=$($(word))))

clean: ## Remove build results and the run-time home of `make run`
	@cargo clean
	@rm -rf .dev tests/browser/node_modules
