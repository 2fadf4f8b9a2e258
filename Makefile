# patchmask: `make` builds, `make demo` shows, `make test` checks. Everything lands in build/ and
# target/; Python tools in .venv/.

CFLAGS   ?= -O2 -g
CXXFLAGS ?= -O2 -g
PYTHON   ?= python3

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libpatchmask.so.$(basename $(VERSION))

STRICT := -Wall -Wextra -pedantic -Werror -Iinclude
C      := $(CC) -std=c11 $(CFLAGS) $(STRICT)
CPLUS  := $(CXX) -std=c++17 $(CXXFLAGS) $(STRICT)
STATIC_LIBS := $(shell sed -n 's/^[^\#]/-l&/p' packaging/static_libraries.txt)
LINK   := -Lbuild -lpatchmask -Wl,-rpath,'$$ORIGIN' -lm
LINK_TEST := -Lbuild -lpatchmask -Wl,-rpath,'$$ORIGIN/..' -lm -lpthread

SEGMENT_SOURCES := $(wildcard cli/*.c)
SEGMENT_HEADERS := $(wildcard cli/*.h) include/patchmask.h

C_TEST_SUPPORT := tests/c/tiny_model.c tests/c/segmentation.c
C_TESTS := $(basename $(notdir $(filter-out $(C_TEST_SUPPORT),$(wildcard tests/c/*.c)))) header_cpp
C_TEST_PARTS := $(C_TEST_SUPPORT) $(wildcard tests/c/*.h tests/c/*.inc) include/patchmask.h Makefile

.PHONY: all library abi figures kernels demo test test-rust test-ptx test-abi test-c test-valgrind test-exports test-segment \
        test-cuda test-gpu test-bench test-examples test-real fuzz test-sanitizers coverage soak parity clean

all: build/segment build/minimal build/minimal_cpp

# cargo decides what is out of date.
library:
	@VERSION=$(VERSION) SONAME=$(SONAME) tools/library.sh target build

build/libpatchmask.a: library ;

# With the library inside: the program is one file, which may be copied.
build/segment: $(SEGMENT_SOURCES) $(SEGMENT_HEADERS) build/libpatchmask.a Makefile
	$(C) $(SEGMENT_SOURCES) build/libpatchmask.a -o $@ $(STATIC_LIBS)

build/minimal build/organ: build/%: examples/c/%.c include/patchmask.h Makefile | library
	$(C) $< -o $@ $(LINK)

# The figures of docs/how-it-works.md.
figures:
	$(PYTHON) docs/figures/draw.py

# The C header from src/ffi, and what is made of the header.
abi:
	PATCHMASK_UPDATE_HEADER=1 cargo test --release --test header
	@PYTHON=$(PYTHON) tools/venv.sh .venv tools/requirements.txt
	.venv/bin/python tools/abi.py

# The PTX that the library embeds, from kernels/*.cu; needs no GPU and no CUDA toolkit.
kernels:
	@PYTHON=$(PYTHON) tools/venv.sh .venv kernels/requirements.txt
	.venv/bin/python tools/kernels.py

# ---------------------------------------------------------------------------------------- make demo

DEMO := examples/demo

demo: all
	@tools/need.sh /usr/lib/$(shell $(CC) -dumpmachine)/libEGL.so.1 libegl1 libgl1-mesa-dri libxrender1 || true
	@PYTHON=$(PYTHON) tools/venv.sh .venv $(DEMO)/requirements.txt
	@tools/niivue.sh || true
	@mkdir -p build/demo
	build/segment --model $(DEMO)/model.safetensors --stride 4 --fill linear \
	  --truth $(DEMO)/truth.nrrd --probability build/demo/probability.nrrd --report build/demo/report.json \
	  $(DEMO)/ct.nrrd build/demo/mask.nrrd
	.venv/bin/python $(DEMO)/render.py --ct $(DEMO)/ct.nrrd --truth $(DEMO)/truth.nrrd \
	  --mask build/demo/mask.nrrd --out build/demo $$([ ! -e build/niivue/niivue.js ] || echo --html)

# ---------------------------------------------------------------------------------------- make test

test: test-rust test-ptx test-exports test-abi test-c test-valgrind test-cpp test-install test-segment test-cuda test-bench \
      test-gpu test-examples test-real
	@echo "all tests passed"

test-rust:
	cargo test --release

# The committed PTX is what the sources compile to, and no kernel spills.
test-ptx:
	@if ! why=$$(PYTHON=$(PYTHON) tools/venv.sh .venv kernels/requirements.txt 2>&1); then \
	  echo "SKIPPED PTX: its compiler could not be installed: $$(echo "$$why" | tail -n 1)"; \
	else .venv/bin/python tools/kernels.py --check; fi

# What the shared library exports is what the committed list says.
test-exports: library
	@nm -D --defined-only build/libpatchmask.so | awk '{ print $$3 }' | sort | diff tests/c/exports.txt - \
	  && echo "ok exports"

# The interface that programs were compiled against is the one that they meet.
test-abi:
	@if ! tools/need.sh abidiff abigail-tools; then \
	  echo "SKIPPED abi: libabigail could not be installed"; \
	elif ! PYTHON=$(PYTHON) tools/venv.sh .venv tools/requirements.txt; then \
	  echo "SKIPPED abi: libclang could not be installed"; \
	else .venv/bin/python tests/abi/check.py; fi

build/tests/header_cpp: tests/c/header.cpp include/patchmask.h Makefile | library
	@mkdir -p build/tests
	$(CPLUS) $< -o $@ $(LINK_TEST)

# Opens the library itself.
build/tests/unload: tests/c/unload.c $(C_TEST_PARTS) | library
	@mkdir -p build/tests
	$(C) $< tests/c/tiny_model.c -o $@ -ldl -lm

build/tests/%: tests/c/%.c $(C_TEST_PARTS) | library
	@mkdir -p build/tests
	$(C) $< $(C_TEST_SUPPORT) -o $@ $(LINK_TEST)

test-c: $(C_TESTS:%=build/tests/%)
	@for test in $^; do timeout -k 5 300 $$test || exit 1; done

# Made-up models, calls, geometries and NRRD files, each 30 s or FUZZ_SECONDS.
fuzz:
	fuzz/run.sh

# The C tests that leave the address space and the stack as they are.
SANITIZED_TESTS := arguments forking hooks layout models outputs repeating segmenting struct_sizes
test-sanitizers:
	tests/c/sanitized.sh address $(SANITIZED_TESTS)
	PATCHMASK_SLOW=1 tests/c/sanitized.sh address cancel

# Lines of src/weights and src/ffi that no test and no fuzz target runs.
coverage: library
	tools/coverage.sh

# The long runs: every allocation fails, 1 000 forks, 200 races for memory, an hour of sessions, every Python, an hour of each fuzz
# target, races between threads, and pointers under Miri; about five hours on two cores.
soak: build/tests/out_of_memory build/tests/forking build/tests/memory build/tests/sessions soak-pythons
	build/tests/forking 1000
	build/tests/memory 200
	build/tests/sessions 3600
	build/tests/out_of_memory soak
	FUZZ_SECONDS=3600 fuzz/run.sh
	tests/c/sanitized.sh thread hooks repeating
	PATCHMASK_SLOW=1 tests/c/sanitized.sh thread cancel
	@if cargo +nightly miri --version >/dev/null 2>&1; then \
	  cargo +nightly miri test --target-dir target/miri --lib -- volume:: ffi::pointers; \
	else echo "SKIPPED Miri: no nightly toolchain with miri"; fi

# memcheck offers AVX2 only. It slows arithmetic down a hundredfold: these tests are the ones that walk
# through every argument, buffer layout and model file; PATCHMASK_SLOW=1 makes their work small.
MEMCHECK := valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite
VALGRIND_TESTS := arguments models hooks outputs
test-valgrind: $(VALGRIND_TESTS:%=build/tests/%)
	@tools/need.sh valgrind valgrind || { echo "SKIPPED valgrind: not installed"; exit 0; }; \
	if command -v valgrind >/dev/null; then for test in $^; do \
	  began=$$(date +%s); \
	  PATCHMASK_SLOW=1 $(MEMCHECK) $$test >build/tests/valgrind.log 2>&1 \
	    || { cat build/tests/valgrind.log; exit 1; }; \
	  echo "ok valgrind $$test, $$(( $$(date +%s) - began )) s"; \
	done; fi

test-segment: all
	SEGMENT=build/segment $(PYTHON) tests/cli/segment_cli.py
	SEGMENT=build/segment $(PYTHON) tests/cli/resident.py
	SEGMENT=build/segment $(PYTHON) tests/golden/check.py

# A driver that runs the kernels on the CPU (tests/fake_driver/fake_driver.cc), in place of the real one.
FAKE_DRIVER := build/tests/fake_driver

$(FAKE_DRIVER)/libcuda.so.1: $(wildcard kernels/*.* tests/kernels/*.* tests/fake_driver/*) Makefile
	@mkdir -p $(FAKE_DRIVER)
	$(CXX) @tests/fake_driver/flags -Ikernels tests/kernels/registry.cc tests/kernels/shim.cc -o $@
	@ln -sf libcuda.so.1 $(FAKE_DRIVER)/libcuda.so

test-cuda: all $(FAKE_DRIVER)/libcuda.so.1
	SEGMENT=build/segment FAKE_DRIVER=$(FAKE_DRIVER) $(PYTHON) tests/cli/cuda_cli.py

# What will be run on a machine with a GPU, on the fake driver.
test-gpu: $(FAKE_DRIVER)/libcuda.so.1
	FAKE_DRIVER=$(FAKE_DRIVER) $(PYTHON) tests/gpu/rehearsal.py

# What the GPU's benchmark computes without one.
test-bench: all
	SEGMENT=build/segment $(PYTHON) tests/gpu/bench_parts.py

# Every example is run, wrong input included, and the commands of README and docs/c.md; pages name files that exist.
test-examples: all build/organ
	@for example in minimal organ; do \
	  build/$$example $(DEMO)/model.safetensors && \
	  ! build/$$example no-such-file.safetensors 2>build/example.log && grep -q no-such-file build/example.log && \
	  echo "ok $$example, which refuses a file that is not there" || exit 1; \
	done
	$(PYTHON) docs/figures/draw.py --check
	$(PYTHON) tests/docs/links.py
	$(PYTHON) tests/docs/page.py README.md docs/c.md

# Real scans, where PATCHMASK_TEST_DATA names a folder with them.
test-real: all
	@if [ -z "$$PATCHMASK_TEST_DATA" ]; then \
	  echo "SKIPPED real scans: PATCHMASK_TEST_DATA names no folder"; \
	elif ! PYTHON=$(PYTHON) tools/venv.sh .venv tests/real/requirements.txt; then \
	  echo "SKIPPED real scans: SimpleITK could not be installed"; \
	else SEGMENT=build/segment .venv/bin/python tests/real/run.py; fi

# ---------------------------------------------------------------------------------------------- make install

# Under sudo what is there is installed: root need not have cargo.
.PHONY: install uninstall
PREFIX ?= /usr/local
INSTALL_TO = PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LIBDIR='$(LIBDIR)' INCLUDEDIR='$(INCLUDEDIR)' \
  VERSION=$(VERSION) SONAME=$(SONAME)

install: $(if $(SUDO_UID),,library build/segment)
	@$(INSTALL_TO) tools/install.sh install

uninstall:
	@$(INSTALL_TO) tools/install.sh uninstall

# Into folders of its own; builds and runs programs against what is there.
.PHONY: test-install
test-install: library
	@tools/need.sh pkg-config pkg-config || true
	@PYTHON=$(PYTHON) tools/venv.sh .venv tests/install/requirements.txt || true
	$(PYTHON) tests/install/check.py

# A release in DIST, for every Linux with glibc 2.17 or newer on these MACHINES. Compiles all of it with zig's libc.
.PHONY: dist test-dist
DIST ?= build/dist
MACHINES ?= x86_64 aarch64
dist:
	@PYTHON=$(PYTHON) tools/venv.sh build/venv-dist packaging/requirements.txt
	@rm -rf $(DIST)
	@set -e; for machine in $(MACHINES); do \
	  VERSION=$(VERSION) SONAME=$(SONAME) tools/dist.sh $(DIST) build/venv-dist $$machine; \
	done

# What is in it: the files, by lintian, and the one for x86-64 with Debian 11's C library. `make test-aarch64` runs the other.
test-dist: dist build/segment
	@tools/need.sh pkg-config pkg-config || true
	@tools/need.sh lintian lintian || true
	@PYTHON=$(PYTHON) tools/venv.sh .venv tests/install/requirements.txt || true
	DIST=$(DIST) MACHINES="$(MACHINES)" $(PYTHON) tests/install/dist.py

include tests/cpp.mk
include tests/hosts.mk

# ------------------------------------------------------------------------------------------ the rest

# The long comparison with onnxruntime, patch by patch; not part of `make test`.
parity: all
	@PYTHON=$(PYTHON) tools/venv.sh .venv tests/parity/requirements.txt
	SEGMENT=build/segment .venv/bin/python tests/parity/compare.py

clean:
	rm -rf build target .venv
