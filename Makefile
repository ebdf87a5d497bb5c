# Everything a developer does, each target by itself on a fresh clone: all of them set the tree up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PY := .venv/bin/python
# Tests in parallel: one more than the machine's processors, because some wait.
JOBS ?= $(shell expr $$(nproc) + 1)
# Where `make lab` keeps its files.
LAB ?= build/lab
# Parsers of `make fuzz`, and for how long each.
FUZZ ?= $(shell $(PY) -c 'from tests.fuzz.targets import TARGETS; print(*sorted(TARGETS))')
FUZZ_SECONDS ?= 600

# Options of `make bench`, such as BENCH="--quick" or BENCH="--large".
BENCH ?=

VENV_READY := .venv/.installed
LAB_READY := build/.lab-built
LAB_SOURCES := $(wildcard tests/lab/vcenter/*.go tests/lab/vcenter/go.* tests/lab/vcenter/*/*.go tests/lab/vddk/*.[ch] \
	tests/lab/build.py)

.PHONY: help setup demo test openbao lint bench fuzz deltas lab proto lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(LAB_READY) ## .venv from requirements.lock, the project in it, the lab's vCenter and VDDK; quick the second time

$(VENV_READY): requirements.lock pyproject.toml scripts/install-venv.sh scripts/find-python.sh
	@scripts/need.sh setup git=git scripts/find-python.sh=python3 scripts/find-python.sh=python3-venv
	scripts/install-venv.sh
	@touch $@

$(LAB_READY): $(VENV_READY) $(LAB_SOURCES)
	$(PY) -m tests.lab build
	@mkdir -p $(@D)
	@touch $@

demo: setup ## two sites on this machine, an encrypted VM replicated, the source stopped, the copy compared
	@scripts/need.sh "the demo" qemu-img=qemu-utils
	$(PY) -m tests.demo

test: setup ## all tests, with branch coverage of the three packages held at 90 % or more
	@PATH="$$PATH:/usr/sbin:/sbin" scripts/need.sh tests debugfs=e2fsprogs qemu-img=qemu-utils nbdcopy=libnbd-bin \
	  qemu-system-x86_64=qemu-system-x86 scripts/find-uefi.sh=ovmf \
	  syslinux=syslinux extlinux=extlinux mcopy=mtools busybox=busybox-static softhsm2-util=softhsm2
	$(PY) -m pytest -n $(JOBS) --dist worksteal --cov --cov-report=term-missing:skip-covered --cov-fail-under=90

openbao: setup ## OpenBao from its Go modules, some minutes once; with it the tests of the Transit driver run too
	$(PY) -m tests.lab openbao

lint: setup ## every check without a test run: style, types, imports, generated files, scripts, units, containers
	@scripts/need.sh --optional lint shellcheck=shellcheck systemd-analyze=systemd
	scripts/lint.sh

bench: setup ## our speed beside nbdcopy into LUKS, restic and the bare pipe (options: BENCH="--quick")
	@scripts/need.sh benchmarks qemu-nbd=qemu-utils nbdcopy=libnbd-bin restic=restic
	$(PY) -m benchmarks $(BENCH)

fuzz: setup ## every parser of bytes from outside, for 10 minutes each (options: FUZZ="frame certificate" FUZZ_SECONDS=60)
	for name in $(FUZZ); do $(PY) -m tests.fuzz $$name --seconds $(FUZZ_SECONDS) || exit 1; done

deltas: setup ## how large deltas are with image-level encryption and with LUKS in the guest: docs/deltas.md, docs/deltas.png
	@PATH="$$PATH:/usr/sbin:/sbin" scripts/need.sh "the deltas" mkfs.ext4=e2fsprogs debugfs=e2fsprogs qemu-io=qemu-utils restic=restic
	$(PY) -m benchmarks.deltas

lab: setup ## the lab in build/lab, until you interrupt it: vCenter, guests, hot-add and two KMS
	$(PY) -m tests.lab up $(LAB)

proto: $(VENV_READY) ## common/wire from proto/
	scripts/proto.sh

UV_COMPILE := build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header

lock: $(VENV_READY) ## requirements.lock from pyproject.toml, and the part of it that is deployed
	$(PY) -m pip install --quiet --upgrade --target build/uv uv
	$(UV_COMPILE) --all-extras --output-file requirements.lock pyproject.toml
	$(UV_COMPILE) --constraint requirements.lock --output-file deploy/requirements.lock pyproject.toml
	echo python-pkcs11 | $(UV_COMPILE) --constraint requirements.lock --output-file deploy/pkcs11.lock -

clean: ## removes .venv, build and caches
	rm -rf .venv build dist .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
