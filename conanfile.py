"""patchmask from source for Conan 2: `conan create .`, with cargo on the PATH. The targets are those of find_package(patchmask)
without Conan: patchmask::patchmask, shared, and patchmask::static; the package has both."""

import re
from pathlib import Path

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class Patchmask(ConanFile):
    name = "patchmask"
    description = "Lesion masks from CT volumes: a VGG16 on every overlapping patch"
    license = "MIT OR Apache-2.0"
    package_type = "shared-library"
    settings = "os", "arch", "compiler", "build_type"
    exports = "Cargo.toml"
    exports_sources = (
        "build.rs", "benches/*", "Cargo.*", "cli/*", "CMakeLists.txt", "include/*", "kernels/*", "LICENSE-*", "packaging/*", "src/*",
        "tests/c/exports.txt", "THIRD-PARTY-NOTICES.txt", "tools/*",
    )  # fmt: skip

    def set_version(self):
        manifest = (Path(self.recipe_folder) / "Cargo.toml").read_text(encoding="utf-8")
        self.version = re.search(r'^version = "(.*)"', manifest, re.M)[1]

    def validate(self):
        if self.settings.os != "Linux" or self.settings.arch not in ("x86_64", "armv8"):
            raise ConanInvalidConfiguration(f"{self.settings.os} on {self.settings.arch}: must be Linux on x86_64 or armv8")

    def package_id(self):
        # A C interface, always built for release: one package serves every compiler.
        self.info.settings.rm_safe("compiler")
        self.info.settings.rm_safe("build_type")

    def layout(self):
        cmake_layout(self)

    def generate(self):
        CMakeToolchain(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()

    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "none")  # the package's own files are found
        self.cpp_info.builddirs = ["lib/cmake/patchmask"]
        self.cpp_info.libs = ["patchmask"]
