"""`make install` and `make uninstall` into temporary folders, and programs built against what they leave: by pkg-config
and by CMake, shared and static; the same from source by CMake's FetchContent and by Conan; every command of docs/c-cpp.md; the
metadata for cargo-c where that is installed.

    python3 tests/install/check.py      standard library only; cmake and conan from the PATH or .venv"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "docs"))
import page  # noqa: E402

VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"), re.M).group(1)
SONAME = "libpatchmask.so." + VERSION.rsplit(".", 1)[0]
SHARED = f"libpatchmask.so.{VERSION}"
FOREIGN = {"lib/libother.so", "lib/pkgconfig/other.pc", "share/doc/other/README"}

# Variables of the make around this test, such as PREFIX, must not reach the ones that it starts.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAKE", "MFLAGS", "PKG_CONFIG", "CMAKE_", "LD_LIBRARY_PATH"))
    and name not in ("PREFIX", "DESTDIR", "LIBDIR", "INCLUDEDIR", "SUDO_UID")
}
ENVIRONMENT["PATH"] += f"{os.pathsep}{ROOT}/.venv/bin"
# Commands of the page run with another HOME.
# What is compiled already is not compiled again.
ENVIRONMENT["CARGO_TARGET_DIR"] = str(ROOT / "target")
ENVIRONMENT.setdefault("CARGO_HOME", os.path.expanduser("~/.cargo"))
ENVIRONMENT.setdefault("RUSTUP_HOME", os.path.expanduser("~/.rustup"))


def has(tool):
    return shutil.which(tool, path=ENVIRONMENT["PATH"]) is not None


def run(*command, **environment):
    """Output of a command; the test fails with all of it where the command does."""
    output = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    done = subprocess.run(command, cwd=ROOT, env={**ENVIRONMENT, **environment}, check=False, **output)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def tree(folder):
    """Files and links below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or path.is_file()}


def folders(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir()}


def installed(lib="lib", include="include"):
    return {
        "bin/segment",
        *(f"{lib}/{name}" for name in (SHARED, SONAME, "libpatchmask.so", "libpatchmask.a", "pkgconfig/patchmask.pc")),
        *(f"{lib}/cmake/patchmask/patchmask{name}.cmake" for name in ("Config", "ConfigVersion", "Targets")),
        *(f"{include}/patchmask.{ending}" for ending in ("h", "hpp")),
        *(f"share/doc/patchmask/{name}" for name in ("LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES.txt")),
    }


class Checks(unittest.TestCase):
    """`at` is the prefix that programs see, `words` are those of make."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name).resolve()

    def needs(self, *tools):
        for tool in tools:
            if not has(tool):
                self.skipTest(f"SKIPPED: {tool} is not installed")

    def check_all(self, at, words, lib="lib", include="include"):
        for name in FOREIGN:
            (at / name).parent.mkdir(parents=True, exist_ok=True)
            (at / name).touch()
        before = folders(at)
        for _ in range(2):  # the second time over the first
            run("make", "install", *words)
        self.assertEqual(tree(at), installed(lib, include) | FOREIGN)
        self.check_library(at / lib)
        self.check_texts(at / lib, words)
        moved = at.rename(f"{at}-moved")
        self.assertIn(VERSION, run(moved / "bin/segment", "--version"))
        with self.subTest("pkg-config"):
            self.check_pkg_config(moved / lib)
        with self.subTest("CMake"):
            self.check_cmake(moved, moved / lib)
        moved.rename(at)
        run("make", "uninstall", *words)
        self.assertEqual(tree(at), FOREIGN)
        self.assertEqual(folders(at), before)
        run("make", "uninstall", *words)  # nothing there is no failure

    def check_library(self, lib):
        self.assertEqual(os.readlink(lib / SONAME), SHARED)
        self.assertEqual(os.readlink(lib / "libpatchmask.so"), SONAME)
        self.assertEqual((lib / SHARED).stat().st_mode & 0o777, 0o755)
        self.assertEqual((lib / "libpatchmask.a").stat().st_mode & 0o777, 0o644)
        if has("readelf"):
            self.check_dynamic(lib / SHARED)

    def check_dynamic(self, library):
        dynamic = run("readelf", "-d", library)
        self.assertEqual(re.findall(r"SONAME\).*\[(.*)\]", dynamic), [SONAME])
        self.assertNotRegex(dynamic, "RPATH|RUNPATH")

    def check_texts(self, lib, words):
        """No path of this machine and nothing left to fill in."""
        prefixes = [word.split("=")[1] for word in words if word.startswith("PREFIX")]
        for name in ("pkgconfig/patchmask.pc", "cmake/patchmask/patchmaskConfig.cmake", "cmake/patchmask/patchmaskTargets.cmake"):
            for word in (str(self.folder), str(ROOT), "@", *prefixes):
                self.assertNotIn(word, (lib / name).read_text(encoding="utf-8"), name)

    def check_program(self, program, lib=None):
        """It runs, and takes patchmask from `lib`; None: from nowhere, it is linked in."""
        self.assertRegex(run(program, "examples/demo/model.safetensors"), r"[1-9]\d* of 15360 voxels are lesion")
        loaded = [line.split() for line in run("ldd", program).splitlines() if "patchmask" in line]
        self.assertEqual([words[0] for words in loaded], [SONAME] if lib else [])
        self.assertEqual([Path(words[2]).resolve() for words in loaded], [lib / SHARED] if lib else [])

    def check_pkg_config(self, lib):
        self.needs("pkg-config")
        ask = lambda *options: run("pkg-config", *options, "patchmask", PKG_CONFIG_PATH=f"{lib}/pkgconfig").split()
        self.assertEqual(ask("--modversion"), [VERSION])
        (folder,) = ask("--variable=libdir")
        self.assertTrue(os.path.samefile(folder, lib))
        shared, static = self.folder / "shared", self.folder / "static"
        cc = ["cc", "-std=c11", "examples/c/minimal.c", *ask("--cflags")]
        run(*cc, "-o", shared, *ask("--libs"), f"-Wl,-rpath,{folder}")
        self.check_program(shared, lib)
        run(*cc, "-o", static, f"{folder}/libpatchmask.a", "-Wl,--as-needed", *ask("--static", "--libs"))
        self.check_program(static)

    def check_cmake(self, at, lib):
        # Folders of Debian's multiarch are searched only when the compiler says which one it is.
        self.check_consumer(lib, f"-DCMAKE_PREFIX_PATH={at}", f"-DCMAKE_LIBRARY_ARCHITECTURE={lib.name}")

    def check_consumer(self, lib, *words):
        """Programs of tests/install/consumer, which find the library by `words`, run with the one in `lib`."""
        self.needs("cmake")
        build = self.folder / "cmake"
        shutil.rmtree(build, ignore_errors=True)
        run(
            "cmake", "-S", "tests/install/consumer", "-B", build, "-G", "Unix Makefiles", *words,
            f"-DEXPECTED_VERSION={VERSION}", f"-DEXAMPLES={ROOT}/examples", "-DCMAKE_BUILD_TYPE=Release",
        )  # fmt: skip
        run("cmake", "--build", build)
        for language in ("c", "cpp"):
            self.check_program(build / f"minimal_{language}_patchmask", lib)
            self.check_program(build / f"minimal_{language}_static")


class Install(Checks):
    def test_prefix(self):
        at = self.folder / "prefix"
        self.check_all(at, [f"PREFIX={at}"])

    def test_destdir_and_other_folders(self):
        stage = self.folder / "stage"
        words = ["PREFIX=/opt/patchmask", f"DESTDIR={stage}", "LIBDIR=/opt/patchmask/lib/x86_64-linux-gnu"]
        words.append("INCLUDEDIR=include/medical")
        self.check_all(stage / "opt/patchmask", words, "lib/x86_64-linux-gnu", "include/medical")

    def test_static_library_in_other_rust_code(self):
        """In a Rust program, in its plug-ins and beside another Rust library: neither symbols nor allocators meet."""
        self.needs("pkg-config", "readelf", "rustc")
        run("make", "install", f"PREFIX={self.folder}")
        lib = self.folder / "lib"
        rows = [line.split() for line in run("readelf", "-sW", lib / "libpatchmask.a").splitlines()]
        seen = {(row[7], row[5]) for row in rows if row[4:5] in (["GLOBAL"], ["WEAK"]) and row[6] != "UND"}
        exports = (ROOT / "tests/c/exports.txt").read_text(encoding="utf-8").split()
        self.assertEqual(seen, {(name, "HIDDEN") for name in exports})

        flags = run("pkg-config", "--static", "--libs", "patchmask", PKG_CONFIG_PATH=f"{lib}/pkgconfig").split()
        flags = [flag for flag in flags if flag != "-lpatchmask"]
        host, example, other = self.folder / "host", self.folder / "example.o", self.folder / "libother.a"
        plugins = [self.folder / "rust.so", self.folder / "c.so"]
        cc = ["cc", "-std=c11", "-fPIC", f"-I{self.folder}/include"]
        run(*cc, "-c", "-Dmain=example", "examples/c/minimal.c", "-o", example)
        rustc = ["rustc", "--edition=2024", "tests/install/embedding.rs", f"-Lnative={lib}", "-lstatic:-bundle=patchmask"]
        for kind, out in (("bin", host), ("cdylib", plugins[0]), ("staticlib", other)):
            arguments = [example, *flags] if kind != "staticlib" else []
            run(*rustc, f"--crate-type={kind}", "-o", out, *(f"-Clink-arg={argument}" for argument in arguments))
        run(*cc, "-shared", "-Dmain=plugin", "examples/c/minimal.c", lib / "libpatchmask.a", "-o", plugins[1], *flags)
        for plugin in plugins:
            self.assertIn("NODELETE", run("readelf", "-d", plugin))
        main = self.folder / "main.c"
        main.write_text("void plugin(int, char **);\nint main(int n, char **words) { plugin(n, words); }\n")
        run(*cc, main, example, other, lib / "libpatchmask.a", "-o", self.folder / "beside", *flags)
        model = "examples/demo/model.safetensors"
        output = run(host, model, *plugins) + run(self.folder / "beside", model)
        self.assertEqual(len(re.findall(r"[1-9]\d* of 15360 voxels are lesion", output)), 1 + 2 * 2 + 1)

    def test_nothing_is_left(self):
        at = self.folder / "prefix with spaces"
        run("make", "install", f"PREFIX={at}/")
        self.assertEqual(tree(at), installed())
        run("make", "uninstall", f"PREFIX={at}")
        self.assertEqual(os.listdir(at), [])

    def test_folders_of_the_system_stay(self):
        """An empty /usr/local/include is the system's."""
        stage = self.folder / "stage"
        run("make", "install", f"DESTDIR={stage}")
        self.assertEqual(tree(stage), {f"usr/local/{name}" for name in installed()})
        run("make", "uninstall", f"DESTDIR={stage}")
        self.assertEqual(tree(stage), set())
        self.assertIn("usr/local/include", folders(stage))
        self.assertFalse([name for name in folders(stage) if "patchmask" in name])

    def test_folders_outside_the_prefix_are_refused(self):
        refused = {"/elsewhere/lib": "LIBDIR /elsewhere/lib: must be in PREFIX", "../lib": "must be a plain path"}
        for lib, why in refused.items():
            with self.assertRaisesRegex(AssertionError, why):
                run("make", "install", f"PREFIX={self.folder}/prefix", f"LIBDIR={lib}")
        self.assertEqual(os.listdir(self.folder), [])

    def test_from_source_in_a_cmake_build(self):
        """FetchContent, whose project is installed too."""
        lib = self.folder / "cmake/_deps/patchmask-build/lib"
        self.check_consumer(lib, f"-DPATCHMASK_SOURCE={ROOT}")
        run("cmake", "--install", self.folder / "cmake", "--prefix", self.folder / "prefix")
        lib = next(self.folder.glob("prefix/lib*"))  # the system's habit
        self.assertEqual(tree(self.folder / "prefix"), installed(lib.name))
        self.check_cmake(self.folder / "prefix", lib)

    def test_conan(self):
        """The recipe, and the same programs with its package."""
        self.needs("cmake", "conan")
        home = dict(CONAN_HOME=str(self.folder / "conan"))
        run("conan", "profile", "detect", **home)
        output = run("conan", "create", ".", "--test-folder=tests/install/consumer",
                     "--conf=tools.cmake.cmake_layout:test_folder=$TMP", **home)  # fmt: skip
        self.assertEqual(len(re.findall(r"[1-9]\d* of 15360 voxels are lesion", output)), 4)

    def test_crate_without_models(self):
        """Their licence is not the code's. What else is packed are lists of files, and the trees above."""
        packed = run("cargo", "package", "--list", "--allow-dirty").split()
        self.assertIn("examples/demo/model.safetensors", packed)
        self.assertEqual([name for name in packed if name.startswith("models")], [])

    def test_vcpkg_has_this_version(self):
        port = json.loads((ROOT / "packaging/vcpkg/patchmask/vcpkg.json").read_text(encoding="utf-8"))
        self.assertEqual(port["version"], VERSION)

    def test_every_command_of_the_page(self):
        """The files and commands of docs/c-cpp.md, in their order, with a HOME of their own."""
        self.needs("cmake", "pkg-config")
        blocks = [block for block in page.blocks(ROOT / "docs" / "c-cpp.md") if block[1] != "text"]
        self.assertEqual({kind for _, kind, _ in blocks}, {"sh", "cmake", "cpp"})
        script = ["set -eu"]
        (self.folder / "segmenter").mkdir()
        for name, kind, body in blocks:
            if kind != "sh":
                (self.folder / "segmenter" / name).write_text(body, encoding="utf-8")
            elif body.startswith("cargo cinstall") and not has("cargo-cinstall"):
                print("SKIPPED cargo cinstall of docs/c-cpp.md: cargo-c is not installed")
            else:
                script.append(body)
        output = run("bash", "-c", "\n".join(script), HOME=str(self.folder))
        self.assertEqual(len(re.findall(r"[1-9]\d* of 15360 voxels are lesion", output)), 3)
        self.assertRegex(output, r"\d+ patches on cpu|\d+ patches on .*cuda")
        self.assertEqual(os.listdir(self.folder / "patchmask"), [])

    def test_cargo_c_does_the_same(self):
        self.needs("cargo-cinstall")
        cargo, make = self.folder / "cargo", self.folder / "make"
        run("cargo", "cinstall", "--release", f"--prefix={cargo}", "--libdir=lib")
        run("make", "install", f"PREFIX={make}")
        only_make = {name for name in installed() if name.startswith(("bin", "lib/cmake", "share/doc"))}
        self.assertEqual(tree(cargo), installed() - only_make)
        for name in ("include/patchmask.h", "include/patchmask.hpp"):
            self.assertEqual((cargo / name).read_bytes(), (make / name).read_bytes(), name)
        self.check_dynamic(cargo / "lib" / SHARED)

        def fields(at):
            text = (at / "lib/pkgconfig/patchmask.pc").read_text(encoding="utf-8")
            # In any order: rustc names some system libraries twice.
            split = lambda name, value: set(value.split()) if name == "Libs.private" else value
            return {name: split(name, value) for name, value in re.findall(r"^([\w.]+): *(.*)$", text, re.M)}

        expected = fields(make)
        expected["Libs.private"].remove("-Wl,-z,nodelete")  # cargo-c knows no such flags
        self.assertEqual(fields(cargo), expected)
        for link in (SONAME, "libpatchmask.so"):
            self.assertEqual((cargo / "lib" / link).resolve(), cargo / "lib" / SHARED)


if __name__ == "__main__":
    unittest.main(verbosity=2)
