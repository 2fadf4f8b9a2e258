# patchmask: `make` builds, `make demo` shows, `make test` checks. Everything lands in build/ and
# target/; Python tools in .venv/.

CFLAGS   ?= -O2 -g
CXXFLAGS ?= -O2 -g
PYTHON   ?= python3

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
SONAME  := libpatchmask.so.$(basename $(VERSION))

WARNINGS := -Wall -Wextra -pedantic -Werror
C        := $(CC) -std=c11 $(CFLAGS) $(WARNINGS) -Iinclude
LINK     := -Lbuild -lpatchmask -Wl,-rpath,'$$ORIGIN'

SEGMENT_SOURCES := $(filter-out examples/c/minimal.c,$(wildcard examples/c/*.c))
SEGMENT_HEADERS := $(wildcard examples/c/*.h) include/patchmask.h

.PHONY: all library demo test clean

all: build/segment build/minimal

# cargo decides what is out of date.
library:
	@cargo build --release --lib
	@mkdir -p build
	@cmp -s target/release/libpatchmask.so build/libpatchmask.so.$(VERSION) || \
	  cp -f target/release/libpatchmask.so build/libpatchmask.so.$(VERSION)
	@ln -sf libpatchmask.so.$(VERSION) build/$(SONAME)
	@ln -sf $(SONAME) build/libpatchmask.so

build/segment: $(SEGMENT_SOURCES) $(SEGMENT_HEADERS) Makefile | library
	$(C) $(SEGMENT_SOURCES) -o $@ $(LINK) -lm

build/minimal: examples/c/minimal.c include/patchmask.h Makefile | library
	$(C) $< -o $@ $(LINK) -lm

clean:
	rm -rf build target .venv
