//! The CUDA kernels on the host: compiled by the C++ compiler under a shim that runs CUDA threads as fibers
//! (`tests/kernels/shim.h`), and compared with plain loops. Then the same with every mutant: tests that
//! cannot fail are no tests.
//!
//! Skipped where there is no C++ compiler; `CXX` names one.

#[path = "kernels/mutants.rs"]
mod mutants;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::{env, fs, thread};

use mutants::{MUTANTS, Mutant};

/// Floats as a GPU has them: nothing fused. Kernels look at bytes through other types.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O2",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-DPATCHMASK_HOST",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",
];

/// For mutants: most of them fail at once.
const QUICK: &[&str] = &["-O0"];

/// The object with the kernels; all others are the same for every mutant.
const REGISTRY: &str = "registry";

const SOURCES: &[&str] = &[
    REGISTRY,
    "shim",
    "kernels_test",
    "shim_test",
    "fragments_test",
    "conv3_test",
    "dense_test",
    "first_test",
    "intensity_test",
    "max_test",
    "scores_test",
    "paint_test",
    "cancel_test",
];

fn kernels() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels")
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels")
}

fn objects() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels")
}

/// The C++ compiler, or why there is none.
fn compiler() -> Result<String, String> {
    let name = env::var("CXX").unwrap_or_else(|_| "c++".into());
    match Command::new(&name).arg("--version").output() {
        Ok(output) if output.status.success() => Ok(name),
        Ok(output) => Err(format!("{name} --version: {}", output.status)),
        Err(error) => Err(format!("{name}: {error}")),
    }
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        let text = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}:\n{text}"))
    }
}

/// Compiles one source with the kernels of a folder.
fn compile(
    cxx: &str,
    flags: &[&str],
    source: &str,
    kernels: &Path,
    object: &Path,
) -> Result<(), String> {
    succeed(
        Command::new(cxx)
            .args(FLAGS)
            .args(flags)
            .arg("-I")
            .arg(kernels)
            .arg("-I")
            .arg(sources())
            .arg("-c")
            .arg(sources().join(source).with_extension("cc"))
            .arg("-o")
            .arg(object),
    )
}

/// Links the tests with a registry.
fn link(cxx: &str, registry: &Path, program: &Path) -> Result<(), String> {
    let others = SOURCES.iter().filter(|&&source| source != REGISTRY);
    succeed(
        Command::new(cxx)
            .args(others.map(|source| objects().join(source).with_extension("o")))
            .arg(registry)
            .arg("-o")
            .arg(program),
    )
}

/// `work` on every item, on all processors; the errors.
fn for_all<T: Sync>(
    items: &[T],
    work: impl Fn(usize, &T) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let errors = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((index, item)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    items.get(index).map(|item| (index, item))
                } {
                    if let Err(error) = work(index, item) {
                        errors.lock().unwrap().push(error);
                    }
                }
            });
        }
    });
    errors.into_inner().unwrap()
}

/// The compiler, with all objects built once; or None, said why, where there is none.
fn build() -> Option<&'static str> {
    static COMPILER: OnceLock<Option<String>> = OnceLock::new();
    COMPILER
        .get_or_init(|| match compiler() {
            Ok(cxx) => {
                fs::create_dir_all(objects()).unwrap();
                let errors = for_all(SOURCES, |_, source| {
                    compile(
                        &cxx,
                        &[],
                        source,
                        &kernels(),
                        &objects().join(source).with_extension("o"),
                    )
                });
                assert!(errors.is_empty(), "{}", errors.join("\n"));
                Some(cxx)
            }
            Err(why) => {
                println!("SKIPPED kernels on the host: {why}");
                None
            }
        })
        .as_deref()
}

#[test]
fn kernels_match_plain_loops() {
    let Some(cxx) = build() else { return };
    let program = objects().join("kernels_test");
    link(cxx, &objects().join(REGISTRY).with_extension("o"), &program).unwrap();
    let output = Command::new(&program).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}: {}",
        program.display(),
        output.status
    );
}

#[test]
fn every_mutant_is_found() {
    let Some(cxx) = build() else { return };
    let errors = for_all(MUTANTS, |index, mutant| {
        find(cxx, mutant, &objects().join(format!("mutant_{index}")))
            .map_err(|error| format!("{}: {error}", mutant.name))
    });
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// Builds the tests with the mutant in `folder`; its test must fail.
fn find(cxx: &str, mutant: &Mutant, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(kernels()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
    }
    let file = folder.join(mutant.file);
    let source = fs::read_to_string(&file).unwrap();
    let found = source.matches(mutant.text).count();
    if found != 1 {
        return Err(format!("its text is {found} times in {}", mutant.file));
    }
    fs::write(&file, source.replace(mutant.text, mutant.replacement)).unwrap();

    let registry = folder.join("registry.o");
    let program = folder.join("kernels_test");
    compile(cxx, QUICK, REGISTRY, folder, &registry)?;
    link(cxx, &registry, &program)?;
    let output = Command::new(&program).arg(mutant.test).output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    let crashed = output.status.code().is_none();
    if crashed || (output.status.code() == Some(1) && report.contains("FAILED")) {
        let first = report.lines().next().unwrap_or("crashed");
        println!("ok {}: {first}", mutant.name);
        Ok(())
    } else {
        Err(format!("{}, {report}", output.status))
    }
}
