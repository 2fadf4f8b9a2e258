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
LINK   := -Lbuild -lpatchmask -Wl,-rpath,'$$ORIGIN' -lm
LINK_TEST := -Lbuild -lpatchmask -Wl,-rpath,'$$ORIGIN/..' -lm -lpthread

SEGMENT_SOURCES := $(filter-out examples/c/minimal.c,$(wildcard examples/c/*.c))
SEGMENT_HEADERS := $(wildcard examples/c/*.h) include/patchmask.h

C_TEST_SUPPORT := tests/c/tiny_model.c tests/c/segmentation.c
C_TESTS := $(basename $(notdir $(filter-out $(C_TEST_SUPPORT),$(wildcard tests/c/*.c)))) header_cpp
C_TEST_PARTS := $(C_TEST_SUPPORT) $(wildcard tests/c/*.h) include/patchmask.h Makefile

.PHONY: all library kernels demo test test-rust test-ptx test-c test-valgrind test-exports test-segment \
        test-cuda test-bench test-examples test-real parity clean

all: build/segment build/minimal

# cargo decides what is out of date. A new file takes the place of the old one, which running programs
# keep.
library:
	@cargo build --release --lib
	@mkdir -p build
	@cmp -s target/release/libpatchmask.so build/libpatchmask.so.$(VERSION) || \
	  { cp target/release/libpatchmask.so build/new.so && mv build/new.so build/libpatchmask.so.$(VERSION); }
	@ln -sf libpatchmask.so.$(VERSION) build/$(SONAME)
	@ln -sf $(SONAME) build/libpatchmask.so

build/segment: $(SEGMENT_SOURCES) $(SEGMENT_HEADERS) Makefile | library
	$(C) $(SEGMENT_SOURCES) -o $@ $(LINK)

build/minimal: examples/c/minimal.c include/patchmask.h Makefile | library
	$(C) $< -o $@ $(LINK)

# The PTX that the library embeds, from kernels/*.cu; needs no GPU and no CUDA toolkit.
kernels:
	@PYTHON=$(PYTHON) tools/venv.sh .venv kernels/requirements.txt
	.venv/bin/python tools/kernels.py

# ---------------------------------------------------------------------------------------- make demo

DEMO := examples/demo

demo: all
	@tools/need.sh /usr/lib/$(shell $(CC) -dumpmachine)/libEGL.so.1 libegl1 libgl1-mesa-dri libxrender1 || true
	@PYTHON=$(PYTHON) tools/venv.sh .venv $(DEMO)/requirements.txt
	@mkdir -p build/demo
	build/segment --model $(DEMO)/model.safetensors --stride 4 --fill linear \
	  --truth $(DEMO)/truth.nrrd --probability build/demo/probability.nrrd --report build/demo/report.json \
	  $(DEMO)/ct.nrrd build/demo/mask.nrrd
	.venv/bin/python $(DEMO)/render.py --ct $(DEMO)/ct.nrrd --truth $(DEMO)/truth.nrrd \
	  --mask build/demo/mask.nrrd --out build/demo

# ---------------------------------------------------------------------------------------- make test

test: test-rust test-ptx test-exports test-c test-valgrind test-segment test-cuda test-bench test-examples \
      test-real
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
	@for test in $^; do $$test || exit 1; done

# memcheck offers AVX2 only. It slows arithmetic down a hundredfold: these tests are the ones that walk
# through every argument, buffer layout and model file; PATCHMASK_SLOW=1 makes their work small.
VALGRIND_TESTS := arguments models hooks outputs
test-valgrind: $(VALGRIND_TESTS:%=build/tests/%)
	@tools/need.sh valgrind valgrind || { echo "SKIPPED valgrind: not installed"; exit 0; }; \
	if command -v valgrind >/dev/null; then for test in $^; do \
	  began=$$(date +%s); \
	  PATCHMASK_SLOW=1 valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
	    --errors-for-leak-kinds=definite $$test >build/tests/valgrind.log 2>&1 \
	    || { cat build/tests/valgrind.log; exit 1; }; \
	  echo "ok valgrind $$test, $$(( $$(date +%s) - began )) s"; \
	done; fi

test-segment: all
	SEGMENT=build/segment $(PYTHON) tests/c/segment_cli.py
	SEGMENT=build/segment $(PYTHON) tests/c/resident.py
	SEGMENT=build/segment $(PYTHON) tests/golden/check.py

# A driver that runs the kernels on the CPU (tests/kernels/stand_in.cc), in place of the real one.
STAND_IN := build/tests/stand_in
STAND_IN_SOURCES := $(addprefix tests/kernels/,stand_in.cc registry.cc shim.cc)

$(STAND_IN)/libcuda.so.1: $(wildcard kernels/*.* tests/kernels/*.* tests/kernels/stand_in/*) Makefile
	@mkdir -p $(STAND_IN)
	$(CXX) @tests/kernels/stand_in.flags -Itests/kernels -Ikernels $(STAND_IN_SOURCES) -o $@
	@ln -sf libcuda.so.1 $(STAND_IN)/libcuda.so

test-cuda: all $(STAND_IN)/libcuda.so.1
	SEGMENT=build/segment STAND_IN=$(STAND_IN) $(PYTHON) tests/c/cuda_cli.py

# What the GPU's benchmark computes without one.
test-bench: all
	SEGMENT=build/segment $(PYTHON) tests/gpu/bench_parts.py

# Every example is run, wrong input included.
test-examples: all
	build/minimal $(DEMO)/model.safetensors
	@! build/minimal no-such-file.safetensors 2>build/minimal.log && grep -q no-such-file build/minimal.log \
	  && echo "ok minimal refuses a file that is not there"

# Real scans, where PATCHMASK_TEST_DATA names a folder with them.
test-real: all
	@if [ -z "$$PATCHMASK_TEST_DATA" ]; then \
	  echo "SKIPPED real scans: PATCHMASK_TEST_DATA names no folder"; \
	elif ! PYTHON=$(PYTHON) tools/venv.sh .venv tests/real/requirements.txt; then \
	  echo "SKIPPED real scans: SimpleITK could not be installed"; \
	else SEGMENT=build/segment .venv/bin/python tests/real/run.py; fi

# ------------------------------------------------------------------------------------- Python package

.PHONY: wheel test-python

PYTHON_VENV := build/venv-python

# build/python/patchmask-*.whl, with the library inside.
wheel: library
	@PYTHON=$(PYTHON) tools/venv.sh $(PYTHON_VENV) tests/python/requirements.txt
	@rm -rf build/python
	$(PYTHON_VENV)/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/python examples/python

# Tests what users install: the wheel. Ends with the slowest tests, so that one knows what takes the time.
test-python: all
	@if ! why=$$($(MAKE) --no-print-directory wheel 2>&1); then \
	  case "$$why" in *"missing:"*|*"No matching distribution"*|*"onnection"*) \
	    echo "SKIPPED Python package: $$(echo "$$why" | tail -n 2)" ;; *) echo "$$why"; exit 1 ;; esac; \
	else \
	  $(PYTHON_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/python/*.whl && \
	  $(PYTHON_VENV)/bin/mypy --config-file examples/python/pyproject.toml examples/python/patchmask && \
	  $(PYTHON_VENV)/bin/python -m pytest tests/python --quiet -p no:cacheprovider --durations=5; \
	fi

# The long comparison with onnxruntime, patch by patch; not part of `make test`.
parity: all
	@PYTHON=$(PYTHON) tools/venv.sh .venv tests/parity/requirements.txt
	SEGMENT=build/segment .venv/bin/python tests/parity/compare.py

clean:
	rm -rf build target .venv

# ------------------------------------------------------------------------------- the C++ header and its tests

# Every test with both standards, and with files of both in one program.
CPP_STRICT := -pedantic -Wconversion -Wshadow
CPP_TESTS := wrapper-17-17 wrapper-20-20 wrapper-17-20 wrapper-20-17 version-17
CPP_PARTS := $(wildcard tests/cpp/*.hpp tests/c/*.h) include/patchmask.hpp include/patchmask.h Makefile
CPP_OBJECTS := build/tests/cpp

CPP_MEMCHECK := valgrind --quiet --error-exitcode=9 --leak-check=full --show-leak-kinds=definite \
  --errors-for-leak-kinds=definite

.PHONY: test-cpp
.SECONDARY:
test: test-cpp
all: build/minimal_cpp

build/minimal_cpp: examples/cpp/minimal.cpp include/patchmask.hpp include/patchmask.h Makefile | library
	$(CPLUS) $(CPP_STRICT) $< -o $@ $(LINK)

$(CPP_OBJECTS)/%-17.o: tests/cpp/%.cpp $(CPP_PARTS)
	@mkdir -p $(@D)
	$(CPLUS) $(CPP_STRICT) -c $< -o $@

$(CPP_OBJECTS)/%-20.o: tests/cpp/%.cpp $(CPP_PARTS)
	@mkdir -p $(@D)
	$(CPLUS) -std=c++20 $(CPP_STRICT) -c $< -o $@

$(CPP_OBJECTS)/%.o: tests/c/%.c $(CPP_PARTS)
	@mkdir -p $(@D)
	$(C) -c $< -o $@

CPP_SUPPORT := $(CPP_OBJECTS)/tiny_model.o $(CPP_OBJECTS)/segmentation.o
LINK_CPP = $(CXX) $^ -o $@ -Lbuild -lpatchmask -Wl,-rpath,'$$ORIGIN/../..' -lm -ldl -lpthread

$(CPP_OBJECTS)/version-17: $(CPP_OBJECTS)/version-17.o $(CPP_SUPPORT) | library
	$(LINK_CPP)

define WRAPPER_TEST
$(CPP_OBJECTS)/wrapper-$(1)-$(2): $(CPP_OBJECTS)/wrapper-$(1).o $(CPP_OBJECTS)/second_unit-$(2).o $$(CPP_SUPPORT) | library
	$$(LINK_CPP)
endef
$(foreach first,17 20,$(foreach second,17 20,$(eval $(call WRAPPER_TEST,$(first),$(second)))))

test-cpp: $(CPP_TESTS:%=$(CPP_OBJECTS)/%) build/minimal build/minimal_cpp
	@for test in $(CPP_TESTS); do $(CPP_OBJECTS)/$$test || exit 1; done
	@if ! tools/need.sh valgrind valgrind; then echo "SKIPPED valgrind of the C++ header: not installed"; else \
	  PATCHMASK_SLOW=1 $(CPP_MEMCHECK) $(CPP_OBJECTS)/wrapper-17-17 >build/tests/valgrind_cpp.log 2>&1 \
	  || { cat build/tests/valgrind_cpp.log; exit 1; }; echo "ok valgrind wrapper-17-17"; fi
	build/minimal_cpp $(DEMO)/model.safetensors 2>/dev/null | tee build/tests/minimal_cpp.txt
	@build/minimal $(DEMO)/model.safetensors | diff - build/tests/minimal_cpp.txt && echo "ok minimal_cpp says what minimal does"
	@! build/minimal_cpp no-such-file.safetensors 2>build/minimal.log && grep -q no-such-file build/minimal.log \
	  && echo "ok minimal_cpp refuses a file that is not there"

# ---------------------------------------------------------------------------------------------- make install

# Under sudo what is there is installed: root need not have cargo.
.PHONY: install uninstall test-install
PREFIX ?= /usr/local
INSTALL_TO = PREFIX='$(PREFIX)' DESTDIR='$(DESTDIR)' LIBDIR='$(LIBDIR)' INCLUDEDIR='$(INCLUDEDIR)' \
  VERSION=$(VERSION) SONAME=$(SONAME)

install: $(if $(SUDO_UID),,library)
	@$(INSTALL_TO) tools/install.sh install

uninstall:
	@$(INSTALL_TO) tools/install.sh uninstall

# Into folders of its own; builds and runs programs against what is there.
test: test-install
test-install: library
	@tools/need.sh pkg-config pkg-config || true
	@command -v cmake >/dev/null || PYTHON=$(PYTHON) tools/venv.sh .venv tests/install/requirements.txt || true
	$(PYTHON) tests/install/check.py
