"""Builds and runs these programs with Conan's package: conan create . --test-folder tests/install/consumer"""

from pathlib import Path

from conan import ConanFile
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


class Consumer(ConanFile):
    settings = "os", "arch", "compiler", "build_type"

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self)

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.user_presets_path = False  # leaves no file here
        toolchain.cache_variables["EXAMPLES"] = str(EXAMPLES)
        toolchain.cache_variables["EXPECTED_VERSION"] = str(self.dependencies["patchmask"].ref.version)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def test(self):
        for language in ("c", "cpp"):
            for library in ("patchmask", "static"):
                program = Path(self.build_folder, self.cpp.build.bindir) / f"minimal_{language}_{library}"
                self.run(f"{program} {EXAMPLES}/demo/model.safetensors", env="conanrun")
