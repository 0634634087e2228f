# A thin front; the build itself is Meson's.  `make help` lists what there is.
BUILD := build
JOBS  := $(shell nproc)
MESON := $(BUILD)/release/build.ninja

.PHONY: all help deps demo check check-one tuned debug asan tsan fuzz bench bench-control e2e fmt lint layers clean

all: $(MESON) ## release binaries: build/weft and build/weft-proxy
	@grep -q flto $(MESON) || meson setup --reconfigure $(BUILD)/release -Dwhole_program=true >/dev/null
	@ninja --quiet -C $(BUILD)/release -j $(JOBS) src/main/weft src/main/weft-proxy
	@ln -sf release/src/main/weft $(BUILD)/weft
	@ln -sf release/src/main/weft-proxy $(BUILD)/weft-proxy

$(MESON): | deps-demo
	@meson setup $(BUILD)/release --buildtype=release -Dwhole_program=true >/dev/null

.PHONY: deps-demo
deps-demo:
	@tools/deps demo

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

deps: ## install the Debian packages that are missing (tools/deps.list)
	@tools/deps check

demo: deps-demo all ## run the books mesh; Ctrl-C ends it (no terminal: runs through and exits)
	@$(BUILD)/weft demo

check: deps ## build and run every test; ends with "N passed, N failed"
	@tools/check

check-one: deps ## one suite or test: make check-one M=unit | sim | fuzz | e2e | conformance | h1 ...
	@tools/check --only "$(M)"

tuned: deps all ## build/weft-proxy compiled with what a run under load showed (bench measures it)
	@tests/peers
	@ninja --quiet -C $(BUILD)/release -j $(JOBS) bench/backend bench/backend_h2
	@tools/tuned
	@ln -sf tuned/src/main/weft-proxy $(BUILD)/weft-proxy

debug: | deps-demo ## debug build in build/debug
	@test -f $(BUILD)/debug/build.ninja || meson setup $(BUILD)/debug --buildtype=debug >/dev/null
	@ninja -C $(BUILD)/debug -j $(JOBS)

asan: | deps-demo ## ASan + UBSan build in build/asan
	@test -f $(BUILD)/asan/build.ninja || meson setup $(BUILD)/asan --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false >/dev/null
	@ninja -C $(BUILD)/asan -j $(JOBS)

tsan: | deps-demo ## TSan build in build/tsan
	@test -f $(BUILD)/tsan/build.ninja || meson setup $(BUILD)/tsan --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false >/dev/null
	@ninja -C $(BUILD)/tsan -j $(JOBS)

fuzz: deps ## run every fuzz target for SECONDS (default 60) each
	@tools/fuzz $(or $(SECONDS_EACH),60)

bench: tuned ## side by side with Envoy, nginx, HAProxy: ratios (A="--only http1 --rounds 3")
	@ninja --quiet -C $(BUILD)/release -j $(JOBS) bench/floor
	@bench/run $(A)

bench-control: deps all ## the control plane with 1,000 services and 2,000 simulated sidecars
	@ninja --quiet -C $(BUILD)/release -j $(JOBS) bench/sidecars
	@bench/control $(A)

e2e: deps all ## end-to-end tests only
	@tools/check --only e2e

fmt: ## format the C sources
	@git ls-files '*.c' '*.h' | xargs clang-format-14 -i

lint: ## format and layering checks
	@tools/check --only lint

layers: ## which room includes which; fails on what the table does not allow
	@tools/layers

clean: ## remove build/ (not the tests' downloads in .venv and .peers)
	@rm -rf $(BUILD)
