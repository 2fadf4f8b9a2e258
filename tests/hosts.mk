# make test-hosts: the programs that patchmask is at home in. What is missing is installed into build/, or from Debian's
# packages where that needs no password; a part whose packages cannot be had says SKIPPED and why.

HOSTS := python orthanc itk vtk slicer convert training aarch64 windows

.PHONY: test-hosts wheel $(HOSTS:%=test-%)

test-hosts:
	@set -e; for host in $(HOSTS); do \
	  began=$$(date +%s); $(MAKE) --no-print-directory test-$$host; \
	  times="$$times, $$host $$(( $$(date +%s) - began )) s"; \
	done; echo "all hosts passed$$times"

# ------------------------------------------------------------------------------------- Python package

PYTHON_VENV ?= build/venv-python
PYTHON_TESTS ?= tests/python

# build/python/patchmask-*.whl, with the library inside.
wheel: library
	@PYTHON=$(PYTHON) tools/venv.sh $(PYTHON_VENV) tests/python/requirements.txt
	@tools/niivue.sh || true
	@rm -rf build/python
	@$(PYTHON_VENV)/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/python ./python
	@echo "to install: pip install \"patchmask[view,cluster] @ file://$$(echo $(CURDIR)/build/python/patchmask-*.whl)\""

.PHONY: installed-wheel
installed-wheel: wheel
	@$(PYTHON_VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall build/python/*.whl

# $(call with_wheel,WHAT,COMMANDS): tests what users install, the wheel.
define with_wheel
	@if ! why=$$($(MAKE) --no-print-directory installed-wheel 2>&1); then \
	  case "$$why" in *"missing:"*|*"No matching distribution"*|*"onnection"*) \
	    echo "SKIPPED $(1): $$(echo "$$why" | tail -n 2)" ;; *) echo "$$why"; exit 1 ;; esac; \
	else $(2); fi
endef

# Ends with the slowest tests, so that one knows what takes the time.
test-python: all
	@tools/need.sh dciodvfy dicom3tools || true
	@tools/need.sh chromium chromium || true
	$(call with_wheel,Python package,\
	  $(PYTHON_VENV)/bin/mypy --config-file python/pyproject.toml python/patchmask && \
	  $(PYTHON_VENV)/bin/python -m pytest $(PYTHON_TESTS) --quiet -rs -p no:cacheprovider --durations=5)

# The plugin for Orthanc, in one on loopback with folders of its own. Debian's service, which comes with the package, is
# stopped where it has been installed just now.
ORTHANC := /usr/sbin/Orthanc
test-orthanc: all
	@if [ ! -e $(ORTHANC) ] && tools/need.sh $(ORTHANC) orthanc >/dev/null; then \
	  $$([ "$$(id -u)" = 0 ] || echo sudo -n) service orthanc stop; \
	fi
	@tools/need.sh dciodvfy dicom3tools || true
	$(call with_wheel,Orthanc,\
	  if tools/need.sh /usr/share/orthanc/plugins/libOrthancPython.so orthanc orthanc-python; then \
	    $(PYTHON_VENV)/bin/python tests/orthanc/run.py; \
	  else echo "SKIPPED Orthanc: it could not be installed"; fi)

# Interpreters that end while the library works: every Python on the machine that the package supports.
PYTHONS = $(wildcard /usr/bin/python3.1[1-9] /usr/local/bin/python3.1[1-9] $(HOME)/.pyenv/versions/3.1[1-9]*/bin/python)
.PHONY: soak-pythons
soak-pythons:
	@set -e; for python in $(PYTHONS); do \
	  version=$$($$python -c 'import platform; print(platform.python_version())'); \
	  $(MAKE) --no-print-directory test-python PYTHON=$$python PYTHON_VENV=build/venv-python-$$version \
	    PYTHON_TESTS=tests/python/test_exit.py; \
	  echo "ok Python $$version ends quietly"; \
	done

# ------------------------------------------------------------------------------ ITK, VTK and 3D Slicer

# The ITK filter and its program, with the ITK that the system has or Debian's.
ITK_CMAKE := $(firstword $(wildcard /usr/lib/cmake/ITK-5*/ITKConfig.cmake /usr/lib/*/cmake/ITK-5*/ITKConfig.cmake \
  /usr/local/lib/cmake/ITK-5*/ITKConfig.cmake) /usr/lib/cmake/ITK-5.2/ITKConfig.cmake)
test-itk: all
	@if ! tools/need.sh cmake cmake || ! tools/need.sh $(ITK_CMAKE) libinsighttoolkit5-dev; then \
	  echo "SKIPPED ITK: it could not be installed"; \
	elif ! PYTHON=$(PYTHON) tools/venv.sh .venv tests/itk/requirements.txt; then \
	  echo "SKIPPED ITK: SimpleITK, which checks it, could not be installed"; \
	else set -e; \
	  cmake -S examples/cpp/itk -B build/itk -DCMAKE_BUILD_TYPE=Release -DPATCHMASK_ITK_TESTS=ON \
	    >build/itk.log 2>&1 || { cat build/itk.log; exit 1; }; \
	  cmake --build build/itk >>build/itk.log 2>&1 || { cat build/itk.log; exit 1; }; \
	  .venv/bin/python -c "import sys; sys.path.insert(0, 'tests/cli'); import maximum_model; \
	    sys.stdout.buffer.write(maximum_model.build())" >build/itk/model.safetensors; \
	  timeout 120 build/itk/filter_test build/itk/model.safetensors; \
	  LESIONS=build/itk/lesions .venv/bin/python tests/itk/lesions_cli.py; \
	  $(PYTHON) tests/docs/page.py docs/itk.md; \
	fi

# The VTK program as its users build it, with the VTK that the system has or Debian's, which draws on a display only.
VTK_CMAKE := $(firstword $(wildcard /usr/lib/*/cmake/vtk-9*/vtk-config.cmake /usr/local/lib/cmake/vtk-9*/vtk-config.cmake) \
  /usr/lib/$(shell $(CC) -dumpmachine)/cmake/vtk-9.1/vtk-config.cmake)
test-vtk: all
	@if ! tools/need.sh cmake cmake || ! tools/need.sh $(VTK_CMAKE) libvtk9-dev || ! tools/need.sh xvfb-run xvfb xauth; then \
	  echo "SKIPPED VTK: it could not be installed"; \
	elif ! PYTHON=$(PYTHON) tools/venv.sh .venv tests/itk/requirements.txt; then \
	  echo "SKIPPED VTK: SimpleITK, which checks it, could not be installed"; \
	else set -e; \
	  { PREFIX=build/vtk/prefix VERSION=$(VERSION) SONAME=$(SONAME) tools/install.sh install && \
	    cmake -S examples/cpp/vtk -B build/vtk -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=$(CURDIR)/build/vtk/prefix && \
	    cmake --build build/vtk; } >build/vtk.log 2>&1 || { cat build/vtk.log; exit 1; }; \
	  SEGMENT_VTK=build/vtk/segment_vtk SEGMENT=build/segment xvfb-run -a .venv/bin/python tests/vtk/check.py; \
	fi

# The command-line module and the extension on 3D Slicer's own libraries, which pin their VTK. SLICER_VIEWS gets pictures of the views.
SLICER_VENV := build/venv-slicer
test-slicer: all
	@tools/need.sh /usr/lib/$(shell $(CC) -dumpmachine)/libEGL.so.1 libegl1 libgl1-mesa-dri libxrender1 || true
	@if ! why=$$(PYTHON=$(PYTHON) tools/venv.sh $(SLICER_VENV) tests/slicer/requirements.txt 2>&1); then \
	  echo "SKIPPED 3D Slicer: its libraries (slicer-core, for Python 3.10 to 3.13) could not be installed: $$(echo "$$why" | tail -n 1)"; \
	else set -e; \
	  SEGMENT=build/segment SLICER_VIEWS=build/slicer-views $(SLICER_VENV)/bin/python -m unittest discover -s tests/slicer -p '*_test.py'; \
	  $(PYTHON) tests/docs/page.py docs/slicer.md; \
	fi

# ------------------------------------------------------------------ weights of other frameworks, training

# The frameworks are gigabytes: they have an environment of their own.
FRAMEWORKS := build/venv-frameworks

# `patchmask convert`, installed as users install it, against PyTorch, Keras and onnxruntime on the CPU.
test-convert: all
	@if ! why=$$(PYTHON=$(PYTHON) tools/venv.sh $(FRAMEWORKS) tests/weights_convert/requirements.txt 2>&1); then \
	  echo "SKIPPED conversion of weights: a framework could not be installed: $$(echo "$$why" | tail -n 1)"; \
	else \
	  $(FRAMEWORKS)/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
	    --force-reinstall ./python && \
	  SEGMENT=build/segment $(FRAMEWORKS)/bin/python -m pytest tests/weights_convert --quiet -rs \
	    -p no:cacheprovider --disable-warnings --durations=5; \
	fi

# The training programs on tiny scans, on the CPU: about three minutes.
test-training: all
	@if ! why=$$({ PYTHON=$(PYTHON) tools/venv.sh $(FRAMEWORKS) training/requirements.txt && \
	    PYTHON=$(PYTHON) tools/venv.sh $(FRAMEWORKS) tests/training/requirements.txt; } 2>&1); then \
	  echo "SKIPPED training: its packages could not be installed: $$(echo "$$why" | tail -n 1)"; \
	else SEGMENT=build/segment $(FRAMEWORKS)/bin/python tests/training/run.py; fi

# -------------------------------------------------------------------------------------------- aarch64

# A release for aarch64, under qemu.
test-aarch64: build/segment
	@if ! tools/need.sh qemu-aarch64 qemu-user || \
	    ! tools/need.sh /usr/aarch64-linux-gnu/lib/libc.so.6 libc6-dev-arm64-cross gcc-aarch64-linux-gnu; then \
	  echo "SKIPPED aarch64: the emulator or the compiler could not be installed"; \
	elif ! why=$$($(MAKE) --no-print-directory dist MACHINES=aarch64 DIST=build/aarch64 2>&1); then \
	  case "$$why" in *"missing:"*|*"No matching distribution"*|*"onnection"*) \
	    echo "SKIPPED aarch64: $$(echo "$$why" | tail -n 2)" ;; *) echo "$$why"; exit 1 ;; esac; \
	else DIST=build/aarch64 $(PYTHON) tests/aarch64/run.py; fi

# -------------------------------------------------------------------------------------------- Windows

# build/windows: patchmask.dll, the import library libpatchmask.dll.a and segment.exe.
.PHONY: windows
windows:
	tools/windows.sh build/windows

# The same under Wine, of which the part for 64 bits is enough.
WINE ?= /usr/lib/wine/wine64
test-windows: build/segment
	@if ! tools/need.sh $(WINE) wine64; then \
	  echo "SKIPPED Windows: Wine could not be installed"; \
	elif ! why=$$($(MAKE) --no-print-directory windows 2>&1); then \
	  case "$$why" in *"missing:"*|*"onnection"*) echo "SKIPPED Windows: $$(echo "$$why" | tail -n 2)" ;; \
	    *) echo "$$why"; exit 1 ;; esac; \
	else WINE=$(WINE) $(PYTHON) tests/windows/run.py; fi
