"""`make install` and `make uninstall` into temporary folders, and programs built against what they leave: by pkg-config and by
CMake, shared and static; every command of docs/c-cpp.md; the metadata for cargo-c where that is installed.

    python3 tests/install/check.py      standard library only; cmake from the PATH or .venv"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "docs"))
import page  # noqa: E402
MODEL = os.path.join(ROOT, "examples", "demo", "model.safetensors")
PAGE = os.path.join(ROOT, "docs", "c-cpp.md")
with open(os.path.join(ROOT, "Cargo.toml"), encoding="utf-8") as manifest:
    VERSION = re.search(r'^version = "(.*)"', manifest.read(), re.M).group(1)
SONAME = "libpatchmask.so." + VERSION.rsplit(".", 1)[0]
SHARED = f"libpatchmask.so.{VERSION}"
FOREIGN = ("lib/libother.so", "lib/pkgconfig/other.pc", "share/doc/other/README")

# Variables of the make around this test, such as PREFIX, must not reach the ones that it starts.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAKE", "MFLAGS", "PKG_CONFIG", "CMAKE_", "LD_LIBRARY_PATH"))
    and name not in ("PREFIX", "DESTDIR", "LIBDIR", "INCLUDEDIR", "SUDO_UID")
}
ENVIRONMENT["PATH"] += os.pathsep + os.path.join(ROOT, ".venv", "bin")
# Commands of the page run with another HOME.
ENVIRONMENT.setdefault("CARGO_HOME", os.path.expanduser("~/.cargo"))
ENVIRONMENT.setdefault("RUSTUP_HOME", os.path.expanduser("~/.rustup"))


def has(tool):
    return shutil.which(tool, path=ENVIRONMENT["PATH"]) is not None


def needs(tool):
    return unittest.skipUnless(has(tool), f"SKIPPED: {tool} is not installed")


def run(*command, **environment):
    """Output of a command; the test fails with all of it where the command does."""
    done = subprocess.run(
        command, cwd=ROOT, env={**ENVIRONMENT, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout


def tree(folder):
    """Files and links below a folder."""
    return {
        os.path.relpath(os.path.join(at, name), folder)
        for at, folders, files in os.walk(folder)
        for name in files + [link for link in folders if os.path.islink(os.path.join(at, link))]
    }


def folders(folder):
    return {os.path.relpath(os.path.join(at, name), folder) for at, names, _ in os.walk(folder) for name in names}


def installed(lib="lib", include="include"):
    return {
        *(f"{lib}/{name}" for name in (SHARED, SONAME, "libpatchmask.so", "libpatchmask.a", "pkgconfig/patchmask.pc")),
        *(f"{lib}/cmake/patchmask/patchmaskConfig{name}.cmake" for name in ("", "Version")),
        *(f"{include}/patchmask.{ending}" for ending in ("h", "hpp")),
        *(f"share/doc/patchmask/{name}" for name in ("LICENSE-APACHE", "LICENSE-MIT", "THIRD-PARTY-NOTICES.txt")),
    }


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def check_program(self, program, lib=None):
        """It runs, and takes patchmask from `lib`; None: from nowhere, it is linked in."""
        self.assertRegex(run(program, MODEL), r"[1-9]\d* of 15360 voxels are lesion")
        loaded = [line.split() for line in run("ldd", program).splitlines() if "patchmask" in line]
        if lib is None:
            self.assertEqual(loaded, [])
        else:
            self.assertEqual([words[0] for words in loaded], [SONAME])
            self.assertEqual(os.path.realpath(loaded[0][2]), os.path.join(lib, SHARED))


class Prefix(Folder):
    """One prefix: in `self.at` is what the programs see, `self.words` are those of make."""

    def check_all(self, at, words, lib="lib", include="include"):
        for name in FOREIGN:
            os.makedirs(os.path.dirname(os.path.join(at, name)), exist_ok=True)
            open(os.path.join(at, name), "w").close()
        before = folders(at)
        for _ in range(2):  # the second time over the first
            run("make", "install", *words)
        self.assertEqual(tree(at), installed(lib, include) | set(FOREIGN))
        self.check_library(os.path.join(at, lib))
        self.check_texts(at, lib, words)
        moved = at + "-moved"
        os.rename(at, moved)
        with self.subTest("pkg-config"):
            self.check_pkg_config(moved, lib)
        with self.subTest("CMake"):
            self.check_cmake(moved, lib)
        os.rename(moved, at)
        run("make", "uninstall", *words)
        self.assertEqual(tree(at), set(FOREIGN))
        self.assertEqual(folders(at), before)
        run("make", "uninstall", *words)  # nothing there is no failure

    def check_library(self, lib):
        self.assertEqual(os.readlink(os.path.join(lib, SONAME)), SHARED)
        self.assertEqual(os.readlink(os.path.join(lib, "libpatchmask.so")), SONAME)
        self.assertEqual(os.stat(os.path.join(lib, SHARED)).st_mode & 0o777, 0o755)
        self.assertEqual(os.stat(os.path.join(lib, "libpatchmask.a")).st_mode & 0o777, 0o644)
        if has("readelf"):
            dynamic = run("readelf", "-d", os.path.join(lib, SHARED))
            self.assertEqual(re.findall(r"SONAME\).*\[(.*)\]", dynamic), [SONAME])
            self.assertNotIn("RPATH", dynamic)
            self.assertNotIn("RUNPATH", dynamic)

    def check_texts(self, at, lib, words):
        """No path of this machine and nothing left to fill in."""
        for name in ("pkgconfig/patchmask.pc", "cmake/patchmask/patchmaskConfig.cmake"):
            with open(os.path.join(at, lib, name), encoding="utf-8") as file:
                text = file.read()
            for word in (self.folder, ROOT, "@", *(word.split("=")[1] for word in words if word.startswith("PREFIX"))):
                self.assertNotIn(word, text, name)

    def check_pkg_config(self, at, lib):
        if not has("pkg-config"):
            self.skipTest("SKIPPED: pkg-config is not installed")
        packages = {"PKG_CONFIG_PATH": os.path.join(at, lib, "pkgconfig")}

        def ask(*options):
            return run("pkg-config", *options, "patchmask", **packages).split()

        self.assertEqual(ask("--modversion"), [VERSION])
        folder = ask("--variable=libdir")[0]
        self.assertTrue(os.path.samefile(folder, os.path.join(at, lib)))
        shared, static = self.path("shared"), self.path("static")
        source = "examples/c/minimal.c"
        run("cc", "-std=c11", source, "-o", shared, *ask("--cflags", "--libs"), f"-Wl,-rpath,{folder}")
        self.check_program(shared, os.path.join(at, lib))
        archive = os.path.join(folder, "libpatchmask.a")
        run("cc", "-std=c11", source, "-o", static, *ask("--cflags"), archive, "-Wl,--as-needed", *ask("--static", "--libs"))
        self.check_program(static)

    def check_cmake(self, at, lib):
        if not has("cmake"):
            self.skipTest("SKIPPED: cmake is not installed")
        build = self.path("cmake")
        run(
            "cmake", "-S", "tests/install/consumer", "-B", build, "-G", "Unix Makefiles", f"-DCMAKE_PREFIX_PATH={at}",
            f"-DEXPECTED_VERSION={VERSION}", f"-DEXAMPLES={ROOT}/examples", "-DCMAKE_BUILD_TYPE=Release",
            # Those of Debian's multiarch are searched only when the compiler says which one it is.
            f"-DCMAKE_LIBRARY_ARCHITECTURE={os.path.basename(lib)}",
        )  # fmt: skip
        run("cmake", "--build", build)
        for language in ("c", "cpp"):
            self.check_program(os.path.join(build, f"minimal_{language}_patchmask"), os.path.join(at, lib))
            self.check_program(os.path.join(build, f"minimal_{language}_static"))

    def test_prefix(self):
        at = self.path("prefix")
        self.check_all(at, [f"PREFIX={at}"])

    def test_destdir_and_other_folders(self):
        words = ["PREFIX=/opt/patchmask", f"DESTDIR={self.path('stage')}", "LIBDIR=/opt/patchmask/lib/x86_64-linux-gnu"]
        at = self.path("stage", "opt", "patchmask")
        self.check_all(at, [*words, "INCLUDEDIR=include/medical"], "lib/x86_64-linux-gnu", "include/medical")

    def test_nothing_is_left(self):
        at = self.path("prefix with spaces")
        run("make", "install", f"PREFIX={at}/")
        self.assertEqual(tree(at), installed())
        run("make", "uninstall", f"PREFIX={at}")
        self.assertEqual(os.listdir(at), [])

    def test_folders_of_the_system_stay(self):
        """An empty /usr/local/include is the system's."""
        stage = self.path("stage")
        run("make", "install", f"DESTDIR={stage}")
        self.assertEqual(tree(stage), {f"usr/local/{name}" for name in installed()})
        run("make", "uninstall", f"DESTDIR={stage}")
        self.assertEqual(tree(stage), set())
        self.assertIn("usr/local/include", folders(stage))
        self.assertFalse([name for name in folders(stage) if "patchmask" in name])

    def test_folders_outside_the_prefix_are_refused(self):
        with self.assertRaisesRegex(AssertionError, "LIBDIR /elsewhere/lib: must be in PREFIX"):
            run("make", "install", f"PREFIX={self.path('prefix')}", "LIBDIR=/elsewhere/lib")
        with self.assertRaisesRegex(AssertionError, "must be a plain path"):
            run("make", "install", f"PREFIX={self.path('prefix')}", "LIBDIR=../lib")
        self.assertEqual(os.listdir(self.folder), [])


class Page(Folder):
    """The files and commands of docs/c-cpp.md, in their order, with a HOME of their own."""

    def test_every_command(self):
        if not (has("cmake") and has("pkg-config")):
            self.skipTest("SKIPPED docs/c-cpp.md: needs cmake and pkg-config")
        blocks = page.blocks(PAGE)
        self.assertEqual({kind for _, kind, _ in blocks}, {"sh", "cmake", "cpp"})
        script = ["set -eu"]
        os.mkdir(self.path("segmenter"))
        for name, kind, body in blocks:
            if kind != "sh":
                with open(self.path("segmenter", name), "w", encoding="utf-8") as file:
                    file.write(body)
            elif body.startswith("cargo cinstall") and not has("cargo-cinstall"):
                print("SKIPPED cargo cinstall of docs/c-cpp.md: cargo-c is not installed")
            else:
                script.append(body)
        output = run("bash", "-c", "\n".join(script), HOME=self.folder)
        self.assertEqual(len(re.findall(r"[1-9]\d* of 15360 voxels are lesion", output)), 3)
        self.assertRegex(output, r"\d+ patches on cpu|\d+ patches on .*cuda")
        self.assertEqual(os.listdir(self.path("patchmask")), [])


class CargoC(Folder):
    @needs("cargo-cinstall")
    def test_same_as_make_install(self):
        cargo, make = self.path("cargo"), self.path("make")
        run("cargo", "cinstall", "--release", f"--prefix={cargo}", "--libdir=lib")
        run("make", "install", f"PREFIX={make}")
        only_make = {name for name in installed() if name.startswith(("lib/cmake", "share/doc"))}
        self.assertEqual(tree(cargo), installed() - only_make)
        for name in ("include/patchmask.h", "include/patchmask.hpp"):
            with open(os.path.join(cargo, name), "rb") as one, open(os.path.join(make, name), "rb") as other:
                self.assertEqual(one.read(), other.read(), name)
        dynamic = run("readelf", "-d", os.path.join(cargo, "lib", SHARED))
        self.assertEqual(re.findall(r"SONAME\).*\[(.*)\]", dynamic), [SONAME])

        def fields(at):
            with open(os.path.join(at, "lib/pkgconfig/patchmask.pc"), encoding="utf-8") as file:
                pairs = re.findall(r"^([\w.]+): *(.*)$", file.read(), re.M)
            # In any order: rustc names some system libraries twice.
            return {name: set(value.split()) if name == "Libs.private" else value for name, value in pairs}

        self.assertEqual(fields(cargo), fields(make))
        for link in (SONAME, "libpatchmask.so"):
            self.assertEqual(os.path.realpath(os.path.join(cargo, "lib", link)), os.path.join(cargo, "lib", SHARED))


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=2, argv=sys.argv)
    sys.exit(not program.result.wasSuccessful())
