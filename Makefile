# What a person, and CI, does with this project. `make` alone tells what there is.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help test demo bench soak needs tools fmt clippy doc deny container foreign tests

# One target directory for all, so that nothing is built twice.
export CARGO_TARGET_DIR ?= $(CURDIR)/target
LOG := $(CARGO_TARGET_DIR)/test.log
step = @printf '\n=== %s\n' '$(1)'

help: ## this list
	@echo 'make TARGET:'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
	    printf '  %-11s%s\n' "$$name" "$$text"; done

# In this order, also under -j: what is cheap and often wrong comes first.
test: ## everything that CI runs; parts: fmt clippy doc deny container foreign tests
	@for part in needs fmt clippy doc deny container foreign tests; do $(MAKE) --no-print-directory "$$part"; done

demo: ## two organisations, step by step; KEEP=1 leaves them running until Ctrl-C
	@scripts/tools.sh nats-server >/dev/null
	@cargo build --locked --quiet --workspace --bins
	@KEEP='$(KEEP)' "$$CARGO_TARGET_DIR/debug/oc-demo"

bench: ## what it costs and how fast it is, beside what one would otherwise use; ONLY=latency, durable, discovery, cipher, start, memory, fanout, search or search-mongo; MOST=100000: stores for searches up to so many
	@scripts/tools.sh nats-server >/dev/null
	@cargo build --locked --release --bin oc-discovery
	@ONLY='$(ONLY)' cargo run --locked --release -p oc-bench

soak: ## the long forms of tests: delivery with 10,000 seeds a case, 10,000 nodes that look for each other, 50 kills; SEED=... repeats one run of kills
	@scripts/tools.sh nats-server >/dev/null
	@SOAK_SEEDS="$${SOAK_SEEDS:-10000}" cargo test --locked --release --lib -- delivery::simulation --nocapture
	@cargo test --locked --release --lib -- discovery::simulation --include-ignored --nocapture
	@SOAK=1 cargo test --locked --test e2e -- kills:: --nocapture

needs:
	$(call step,what this machine needs)
	@missing=; for tool in cargo cc python3 openssl; do \
	    type -P "$$tool" >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	    echo "not here:$$missing (Rust: https://rustup.rs; Debian: apt install build-essential python3 openssl)"; exit 1; fi
	@scripts/tools.sh nats-server

fmt:
	$(call step,cargo fmt)
	@cargo fmt --all --check

clippy:
	$(call step,cargo clippy)
	@cargo clippy --locked --workspace --all-targets -- -D warnings

doc:
	$(call step,cargo doc)
	@RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --workspace

deny:
	$(call step,cargo deny)
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --locked check; \
	else echo 'skipped: cargo-deny is not here (cargo install cargo-deny)'; fi

container:
	$(call step,Dockerfile and compose file)
	@scripts/lint-container.sh || { status=$$?; [ $$status -eq 3 ] && echo 'skipped: see above' || exit $$status; }

# Go, Node and Java are not needed to work on the daemon; on CI ($CI is set) the tests insist on them.
foreign:
	$(call step,what tests lean on: go-libp2p and js-libp2p peers and a server that speaks MongoDB)
	@for tool in foreign-go foreign-js mongo-server; do scripts/tools.sh "$$tool" || { status=$$?; \
	    [ $$status -eq 3 ] && [ -z "$${CI:-}" ] && echo "skipped: tests with $$tool" || exit $$status; }; done

tests:
	$(call step,unit and end-to-end tests)
	@mkdir -p "$(dir $(LOG))"
	@status=0; cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$(LOG)" || status=$$?; \
	awk '/^test result:/ { passed += $$4; failed += $$6 } END { printf "\n%d passed, %d failed\n", passed, failed }' \
	    "$(LOG)"; exit $$status
