# `make` alone lists the targets; each line with ## is one. The build itself is Meson's (meson.build).
.DEFAULT_GOAL := help
BUILD ?= build
BENCH_BUILD ?= build-bench
MODE ?= short
PREFIX ?= /usr/local

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-16s %s\n", $$1, $$2 }'

deps: ## install the Debian packages that are missing (packages.txt)
	@tools/deps build run test lint

$(BUILD)/build.ninja:
	@tools/deps build run
	meson setup $(BUILD) --prefix $(abspath $(PREFIX)) -Dtests=false -Db_lto=true

build: $(BUILD)/build.ninja ## build build/sealgram
	@tools/deps build run
	ninja -C $(BUILD)

test: ## unit, vector, simulator and loopback end-to-end tests; no root
	@tools/deps build run test
	@tools/check test

check: deps ## all that CI runs: lint, tests, namespaces, sanitizers, fuzzing
	@tools/check all

lint: ## rules, formatting, static analysis, both compilers
	@tools/deps build run test lint
	@tools/check lint

format: ## apply .clang-format
	git ls-files -z --cached --others --exclude-standard '*.c' '*.h' | xargs -0 clang-format -i

demo: build ## a throwaway server, client and targets behind a bad network
	$(BUILD)/sealgram demo

footprint: build ## memory of an idle server and of an idle association
	/usr/bin/python3 tools/footprint $(BUILD)/sealgram

bench: bench-deps $(BENCH_BUILD)/build.ninja ## measure against peers; MODE=full takes up to 45 minutes, MODE=short three
	ninja -C $(BENCH_BUILD)
	/usr/bin/python3 bench/run --build $(BENCH_BUILD) --mode $(MODE)
	-@/usr/bin/python3 bench/check --mode $(MODE)

bench-loss: bench-deps $(BENCH_BUILD)/build.ninja ## lateness where packets are lost (root); MODE=full takes up to 30 minutes
	@tools/deps test
	meson configure $(BENCH_BUILD) -Dtests=true
	ninja -C $(BENCH_BUILD) sealgram bench/load tests/net/emulator
	/usr/bin/python3 bench/loss --build $(BENCH_BUILD) --mode $(MODE)
	-@/usr/bin/python3 bench/check --loss --mode $(MODE)

bench-attack: bench-deps $(BENCH_BUILD)/build.ninja ## what others notice while a server is flooded (root); AGAINST=FILE: an earlier program too
	@tools/deps test
	ninja -C $(BENCH_BUILD)
	/usr/bin/python3 bench/attack --mode $(MODE) $(if $(AGAINST),--against $(AGAINST))

profile: bench-deps $(BENCH_BUILD)/build.ninja ## where the CPU time of one hop goes, by samples (perf)
	ninja -C $(BENCH_BUILD)
	/usr/bin/python3 bench/profile --build $(BENCH_BUILD)

bench-plots: ## draw docs/plots/ from the last full runs
	/usr/bin/python3 bench/plot

bench-deps: ## install or unpack the peers (packages.txt)
	@tools/deps build run bench

bench-check: ## compare the last results with bench/goals.json
	/usr/bin/python3 bench/check --mode $(MODE)

bench-loss-check: ## compare the last results of bench-loss with bench/goals-loss.json
	/usr/bin/python3 bench/check --loss --mode $(MODE)

$(BENCH_BUILD)/build.ninja:
	meson setup $(BENCH_BUILD) -Dtests=false -Dbench=true -Db_lto=true

fuzz: ## 30 s of each fuzz target
	@tools/deps build run lint
	@tools/check fuzz

# The build may have been configured for another PREFIX, by make demo for instance.
install: build ## install below PREFIX (/usr/local), without debugging symbols
	meson configure $(BUILD) --prefix $(abspath $(PREFIX))
	meson install -C $(BUILD) --strip

clean: ## remove the build directories
	rm -rf build build-*

.PHONY: help deps build test check lint format demo footprint bench bench-loss bench-attack profile bench-plots bench-deps bench-check bench-loss-check fuzz install clean
