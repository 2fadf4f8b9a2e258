# The C++ header, examples/cpp/minimal.cpp and their tests: every test with both standards, and with files of both in one
# program.

CPP_STRICT := -pedantic -Wconversion -Wshadow
CPP_TESTS := wrapper-17-17 wrapper-20-20 wrapper-17-20 wrapper-20-17 version-17
CPP_PARTS := $(wildcard tests/cpp/*.hpp tests/c/*.h) include/patchmask.hpp include/patchmask.h Makefile
CPP_OBJECTS := build/tests/cpp

.PHONY: test-cpp
.SECONDARY:

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
	  PATCHMASK_SLOW=1 $(MEMCHECK) $(CPP_OBJECTS)/wrapper-17-17 >build/tests/valgrind_cpp.log 2>&1 \
	  || { cat build/tests/valgrind_cpp.log; exit 1; }; echo "ok valgrind wrapper-17-17"; fi
	build/minimal_cpp $(DEMO)/model.safetensors 2>/dev/null | tee build/tests/minimal_cpp.txt
	@build/minimal $(DEMO)/model.safetensors | diff - build/tests/minimal_cpp.txt && echo "ok minimal_cpp says what minimal does"
	@! build/minimal_cpp no-such-file.safetensors 2>build/minimal.log && grep -q no-such-file build/minimal.log \
	  && echo "ok minimal_cpp refuses a file that is not there"
