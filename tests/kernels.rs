//! The CUDA kernels on the host: compiled by the C++ compiler under a shim that runs CUDA threads as fibers
//! (`tests/kernels/shim.h`), and compared with plain loops. Then the same with every mutant: tests that
//! cannot fail are no tests.
//!
//! Skipped where there is no C++ compiler; `CXX` names one.

#[path = "kernels/mutants.rs"]
mod mutants;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use mutants::{MUTANTS, Mutant};
use rayon::prelude::*;
use support::cxx;

/// Floats as a GPU has them: nothing fused. Kernels look at bytes through other types.
const FLAGS: &str =
    "-std=c++17 -O2 -ffp-contract=off -fno-strict-aliasing -DPATCHMASK_HOST -Wall -Wextra -Wno-unknown-pragmas";

/// Flags of mutants, most of which fail at once.
const QUICK: &str = "-O0";

/// The source with the kernels; all others are the same for every mutant.
const REGISTRY: &str = "tests/kernels/registry.cc";

/// Compiles one source with the kernels of a folder.
fn compile(flags: &[&str], source: &str, kernels: &Path, object: &Path) -> Result<(), String> {
    let mut command = Command::new(cxx::compiler()?);
    command.args(FLAGS.split(' ')).args(flags).arg("-I").arg(kernels).args(["-Itests/kernels", "-c", source, "-o"]);
    cxx::succeed(command.arg(object))
}

/// Links the tests with a registry.
fn link(objects: &[PathBuf], registry: &Path, program: &Path) -> Result<(), String> {
    cxx::succeed(Command::new(cxx::compiler()?).args(objects).arg(registry).arg("-o").arg(program))
}

/// `work` on every item, on all processors; no error may come of it.
fn for_all<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), String> + Sync) {
    let errors: Vec<String> = items.par_iter().filter_map(|item| work(item).err()).collect();
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}

/// The object of a source.
fn object(source: &str) -> Result<PathBuf, String> {
    let name = Path::new(source).with_extension("o");
    cxx::kept(name.file_name().unwrap().to_str().unwrap(), &[FLAGS, "-c"], |object| {
        compile(&[], source, &cxx::root().join("kernels"), object)
    })
}

/// The objects of all sources but the registry; or `None`, said why, where there is no compiler.
fn build() -> Option<&'static [PathBuf]> {
    static OBJECTS: OnceLock<Option<Vec<PathBuf>>> = OnceLock::new();
    OBJECTS
        .get_or_init(|| {
            if let Err(why) = cxx::compiler() {
                println!("SKIPPED kernels on the host: {why}");
                return None;
            }
            let mut sources = cxx::test_sources("tests/kernels");
            sources.extend(["shim", "run_tests"].map(|name| format!("tests/kernels/{name}.cc")));
            for_all(&sources, |source| object(source).map(drop));
            Some(sources.iter().map(|source| object(source).unwrap()).collect())
        })
        .as_deref()
}

#[test]
fn kernels_match_plain_loops() {
    let Some(objects) = build() else { return };
    let program = cxx::kept("kernels_test", &[FLAGS], |program| link(objects, &object(REGISTRY)?, program)).unwrap();
    let output = Command::new(&program).output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
}

#[test]
fn every_mutant_is_found() {
    let Some(objects) = build() else { return };
    for_all(MUTANTS, |mutant| find(objects, mutant).map_err(|error| format!("{}: {error}", mutant.name)));
}

/// The mutant's test must fail.
fn find(objects: &[PathBuf], mutant: &Mutant) -> Result<(), String> {
    let change = [FLAGS, QUICK, mutant.file, mutant.text, mutant.replacement];
    let program = cxx::kept("mutant", &change, |program| {
        let folder = program.with_extension("kernels");
        let made = make(objects, mutant, &folder, program);
        let _ = fs::remove_dir_all(&folder);
        made
    })?;
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

/// Builds the tests with a changed copy of the kernels in `folder`.
fn make(objects: &[PathBuf], mutant: &Mutant, folder: &Path, program: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).unwrap();
    for entry in fs::read_dir(cxx::root().join("kernels")).unwrap() {
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
    compile(&[QUICK], REGISTRY, folder, &registry)?;
    link(objects, &registry, program)
}
