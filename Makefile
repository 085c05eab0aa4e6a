# What there is to do here; `make help` lists it.

CARGO ?= cargo
export CARGO

.DEFAULT_GOAL := help
.PHONY: help demo demo-live test test-fast test-netns test-interop test-quiche test-slow test-browser lint web web-check bench bench-quick overhead instructions bpf bpf-check doc

help: ## Lists what there is to do.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo-live: ## Keeps a server and a client busy on AF_XDP until Ctrl-C, and tells where their dashboards are.
	@.ci/need cc=gcc ip=iproute2 ethtool
	$(CARGO) build --release --locked --package wirepath-cli --bin wirepath
	@$${CARGO_TARGET_DIR:-target}/release/wirepath demo --live --size 64 $(DEMO)

demo: ## Moves a file there and back over QUIC on AF_XDP, between two hosts made for it.
	@.ci/need cc=gcc ip=iproute2 ethtool
	$(CARGO) build --release --locked --package wirepath-cli --bin wirepath
	@$${CARGO_TARGET_DIR:-target}/release/wirepath demo $(DEMO)

test: ## Runs everything but the slow tests. As root with AF_XDP; else those tests are named as skipped.
	@.ci/need cc=gcc ip=iproute2 ethtool
	@.ci/test default

test-fast: ## Runs the tests that need no namespaces.
	@.ci/test fast

test-netns: ## Runs the tests in network namespaces, AF_XDP among them. As root.
	@.ci/need ip=iproute2 ethtool
	@.ci/test netns

test-interop: ## Runs ours against other QUIC stacks.
	@.ci/need ip=iproute2 ethtool
	@.ci/test interop

test-quiche: ## Runs ours against quiche, whose library takes minutes to build.
	@.ci/need ip=iproute2 ethtool cmake clang
	@.ci/quiche

test-slow: ## Runs the slow tests: millions of packets, of frames, of rule changes.
	@.ci/need ip=iproute2 ethtool
	@.ci/test slow

test-browser: ## Opens the dashboard in a headless Chromium. Needs Node and npm; else the tests are named as skipped.
	-@.ci/need node=nodejs npm chromium
	@.ci/browser

lint: ## Checks format, lints, licences and sources of dependencies, and who depends on whom.
	@.ci/lint

bench: ## Measures ours and other stacks side by side. As root, on a quiet machine; BENCH=--help lists options.
	@.ci/need ip=iproute2 ethtool setpriv=util-linux cmake clang
	$(CARGO) run --release --locked --package benches --bin wirepath-bench -- $(BENCH)

bench-quick: ## The same, a second each: that it works, not how fast.
	@.ci/need ip=iproute2 ethtool setpriv=util-linux cmake clang
	$(CARGO) run --release --locked --package benches --bin wirepath-bench -- --quick $(BENCH)

overhead: ## Counts what the dashboard costs the data path, in instructions and in CPU time.
	@.ci/need valgrind cc=gcc
	@.ci/overhead

instructions: ## Counts the instructions of each stage, and compares. SAVE=1 writes them down.
	@.ci/need valgrind cc=gcc
	@.ci/instructions

bpf: ## Compiles the XDP program. Needs clang.
	@.ci/need clang llvm-strip=llvm
	drivers/bpf/build.sh

bpf-check: ## Proves that the checked-in XDP object is of its source. Needs clang.
	@.ci/need clang llvm-strip=llvm
	drivers/bpf/check.sh

web: ## Bundles the dashboard's page anew; commit what it makes. Needs Node and npm.
	@.ci/need node=nodejs npm
	cd actors/dashboard/web && npm ci --no-audit --no-fund && npm run build

web-check: ## Proves that the checked-in page is of its sources. Needs Node and npm; else it is named as skipped.
	-@.ci/need node=nodejs npm
	@.ci/web-check

doc: ## Builds the documentation.
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
