# The commands of this project. `make demo` and `make test` do all their set-up themselves.
VENV    ?= .venv
# Debian's own interpreter first: the lab's daemons run as another user, and must be able to read it.
PYTHON  ?= $(firstword $(wildcard /usr/bin/python3) python3)
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
COMPILED := build/compiled
JOBS    ?= 2
SYSTEM  := python3-venv nftables libnftables1 iproute2 tcpdump conntrack curl procps iputils-ping \
           iputils-arping util-linux nginx-light wget git openssl dnsmasq-base prometheus
ENGINES := podman buildah crun conmon catatonit fuse-overlayfs uidmap mmdebstrap
BROWSER := chromium
COMPILER := gcc libc6-dev python3-dev
PEERS   := wrk squid tinyproxy haproxy gcc libc6-dev

# Once more, against the compiled package: what its modules are for, in less than two minutes.
AGAIN   := tests/unit/test_compiled.py tests/unit/test_main.py tests/loopback \
           $(addprefix tests/unit/,kernel net policy modes service) \
           $(addprefix tests/netns/http/test_,exchange.py life.py smuggling.py tunnel.py) \
           $(addprefix tests/netns/dns/test_,forwarding.py workers.py)

# `make images`: where they go, what they are built on (unset: what the Containerfiles name), by what.
REGISTRY ?= quay.io/egress-router
BASE     ?=
ENGINE   ?= podman
BUILD     = $(PYTHON) -m images.build --engine=$(ENGINE) --registry=$(REGISTRY) \
            $(if $(BASE),--base=$(BASE)) --options='$(BUILD_OPTIONS)'

.PHONY: help demo test test-compiled test-images lint format compiled bench images images-publish images-lock system clean
help:
	@echo "make demo   - build a lab of network namespaces and show the router at work (root)"
	@echo "make test   - lint, then all tests, those on a real kernel included (root)"
	@echo "make lint   - formatting, lint, types, import contracts"
	@echo "make compiled - the package with its hot modules compiled, in build/compiled (for PYTHONPATH)"
	@echo "make bench  - measure beside the peers, a quarter of an hour (root); see bench/README.md"
	@echo "make images - build the container images; images-publish: push them to REGISTRY as well"

demo: $(STAMP) system
	$(BIN)/egress-router lab

test: SYSTEM += $(ENGINES) $(BROWSER) $(COMPILER)
test: lint system $(BIN)/kubectl
	$(BIN)/pytest -n $(JOBS) --ignore=tests/images $(PYTEST_ARGS)
	$(if $(PYTEST_ARGS),,$(MAKE) test-compiled)
	$(if $(PYTEST_ARGS),,$(BIN)/pytest tests/images)

test-compiled: compiled
	$(BIN)/pytest -n $(JOBS) --compiled -o 'pythonpath=$(COMPILED) . tests' $(AGAIN) $(PYTEST_ARGS)

# After the others, and one after the other: they build once, and measure.
test-images: SYSTEM += $(ENGINES)
test-images: $(STAMP) system $(BIN)/kubectl
	$(BIN)/pytest tests/images $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compiled: SYSTEM += $(COMPILER)
compiled: $(COMPILED)/.made

$(COMPILED)/.made: $(STAMP) hatch_build.py $(shell find egress_router -type f ! -name '*.pyc')
	rm -rf $(COMPILED) build/wheel
	HATCH_BUILD_HOOKS_ENABLE=1 $(BIN)/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(BIN)/pip install --quiet --no-deps --no-index --target $(COMPILED) build/wheel/*.whl
	@touch $@

bench: SYSTEM += $(PEERS) $(COMPILER)
bench: compiled system
	$(BIN)/pip install --quiet --group bench
	PYTHONPATH=$(COMPILED) $(BIN)/python -P -m bench --json bench/results.json --plot bench/results.svg --readme $(BENCH_ARGS)

images: SYSTEM = $(ENGINES)
images: system
	$(BUILD)

images-publish: SYSTEM = $(ENGINES)
images-publish: system
	$(BUILD) --publish

images-lock: $(STAMP)
	$(BIN)/pip install --quiet uv
	$(BIN)/python -m images.lock

# Debian's packages, where they are missing and we may install them; elsewhere their absence is
# told by name.
system:
	@missing=; for package in $(SYSTEM); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; \
	  else \
	    echo "missing Debian packages:$$missing; run this as root" >&2; exit 1; \
	  fi; \
	fi

$(STAMP): pyproject.toml | system
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/pip install --quiet --editable '.[binding]' --group dev
	@touch $@

# The manifests are built with it.
$(BIN)/kubectl: tests/fetch_kubectl.py | $(STAMP)
	$(BIN)/python tests/fetch_kubectl.py

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
