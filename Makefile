# make demo    a virtual environment, the package, a busybox image, and the whole story played for real (root)
# make test    the whole test suite, here and in a guest whose only hierarchy is cgroup v2 (root for most of it)
# make bench   measurements against docker, podman and crun, where they are installed (root)
# make lint    ruff, mypy --strict, gcc -Wall -Wextra -Werror, and the rank of every import
# make clean   what the targets above have made
#
# Python 3.11 or later, pip, gcc and make are enough: each target installs what else it needs, into .venv or (Debian
# packages, as root) by apt-get. Each may be run again and does only what has to be done.
PYTHON ?= python3
export PYTHON

VENV := .venv
BIN := $(VENV)/bin
SOURCES := pyproject.toml meson.build $(wildcard scripts/*) $(shell find src csrc -type f \( -name '*.py' -o -name '*.pyi' -o -name '*.[ch]' \))
C_SOURCES := $(shell find csrc -name '*.c')
PIP := $(BIN)/pip install -q --disable-pip-version-check

.PHONY: demo test bench lint install clean

demo: $(VENV)/.installed
	tools/set-up packages busybox=busybox-static nft=nftables ip=iproute2
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/demo

test: $(VENV)/.installed $(VENV)/.test
	tools/set-up packages busybox=busybox-static nft=nftables ip=iproute2 openssl=openssl
	tools/set-up unpacked .cache/docker-registry usr/bin/docker-registry docker-registry
	PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/python tools/run-tests $(TESTS)

bench: $(VENV)/.installed
	tools/set-up packages busybox=busybox-static
	tools/set-up unpacked .cache/docker-registry usr/bin/docker-registry docker-registry
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/budget/bench.py $(BENCH)

lint: $(VENV)/.lint $(VENV)/.test
	$(BIN)/ruff check src tests examples tools/*-rootfs tools/run-tests
	$(BIN)/mypy
	@for file in $(C_SOURCES); do \
		echo "gcc -Wall -Wextra -Werror $$file"; \
		gcc -std=gnu11 -O2 -fsyntax-only -Wall -Wextra -Werror -DPy_LIMITED_API=0x030b0000 \
			-I"$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')" $$file || exit 1; \
	done
	PYTHONPATH=src $(BIN)/python -m pytest -q -p no:cacheprovider --confcutdir=tests/unit tests/unit/test_house.py

install: $(VENV)/.installed

clean:
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache
	find src tests tools -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/.made:
	tools/set-up venv $(VENV)
	touch $@

$(VENV)/.build: $(VENV)/.made pyproject.toml
	tools/set-up requirements $(VENV) build-system dependencies
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml
	tools/set-up requirements $(VENV) test
	touch $@

$(VENV)/.lint: $(VENV)/.made pyproject.toml
	tools/set-up requirements $(VENV) dependencies lint
	touch $@

# The build directory is kept, so that a change of Python files compiles nothing again. What an earlier
# version had and this one has not must go, hence the uninstall. Not -C: the pip of Debian 12 does not know it.
$(VENV)/.installed: $(VENV)/.build $(SOURCES)
	mkdir -p .cache/build
	PATH="$(CURDIR)/$(BIN):$$PATH" $(PIP) --no-build-isolation --no-deps --force-reinstall --config-settings=build-dir=.cache/build .
	touch $@
