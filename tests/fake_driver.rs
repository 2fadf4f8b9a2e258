//! The fake driver itself: its self-test, and that it finds a kernel for every entry of the committed PTX.
//! Skipped where there is no C++ compiler.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{cxx, fake_driver};

/// Runs a program of these sources, linked against a library of the fake driver.
fn run(name: &str, library: Result<PathBuf, String>, sources: &[String], arguments: &[String]) {
    let library = match library {
        Ok(library) => library,
        Err(why) => return println!("SKIPPED {name}: {why}"),
    };
    let folder = library.parent().unwrap().display();
    let mut flags: Vec<String> =
        "-std=c++17 -O1 -pthread -Wall -Wextra -Werror".split(' ').map(str::to_owned).collect();
    flags.extend_from_slice(sources);
    flags.extend([format!("-L{folder}"), format!("-Wl,-rpath,{folder}"), "-lcuda".into(), "-ldl".into()]);
    let all: Vec<&str> = flags.iter().map(String::as_str).collect();
    let program = cxx::kept(name, &all, |program| {
        let mut command = Command::new(cxx::compiler()?);
        cxx::succeed(command.args(&all).arg("-o").arg(program))
    });
    let output = Command::new(program.unwrap()).args(arguments).output().expect("a program");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn keeps_its_promises() {
    let tests = "tests/fake_driver/test";
    let mut sources = vec![format!("{tests}/main.cc")];
    for entry in std::fs::read_dir(cxx::root().join(tests)).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with("_test.cc") {
            sources.push(format!("{tests}/{name}"));
        }
    }
    sources.sort();
    let library = fake_driver::build_for_self_test();
    run("fake_driver_test", library, &sources, &[]);
}

#[test]
fn has_every_kernel_of_the_ptx() {
    let folder = cxx::root().join("kernels/ptx");
    let ptx: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
    assert!(ptx.len() >= 6);
    let sources = ["tests/fake_driver/test/with_kernels.cc".to_owned()];
    run("fake_driver_with_kernels", fake_driver::build(), &sources, &ptx);
}
