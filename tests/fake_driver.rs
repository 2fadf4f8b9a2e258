//! The fake driver itself: its self-test, and that it finds a kernel for every entry of the committed PTX.
//! Skipped where there is no C++ compiler.

mod support;

use std::path::PathBuf;
use std::process::Command;

use support::{cxx, fake_driver};

/// Runs tests of these sources, linked against a library of the fake driver.
fn run(name: &str, library: Result<PathBuf, String>, sources: Vec<String>) {
    let library = match library {
        Ok(library) => library,
        Err(why) => return println!("SKIPPED {name}: {why}"),
    };
    let folder = library.parent().unwrap().display();
    let flags = "-std=c++17 -O1 -pthread -Wall -Wextra -Werror -Itests/kernels tests/kernels/run_tests.cc";
    let link = format!("-L{folder} -Wl,-rpath,{folder} -lcuda -ldl");
    let sources = sources.iter().map(String::as_str);
    let all: Vec<&str> = flags.split(' ').chain(sources).chain(link.split(' ')).collect();
    let program =
        cxx::kept(name, &all, |program| cxx::succeed(Command::new(cxx::compiler()?).args(&all).arg("-o").arg(program)));
    let output = Command::new(program.unwrap()).output().expect("a program");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}

#[test]
fn keeps_its_promises() {
    run("fake_driver_test", fake_driver::build_for_self_test(), cxx::test_sources("tests/fake_driver/test"));
}

#[test]
fn has_every_kernel_of_the_ptx() {
    run("fake_driver_with_kernels", fake_driver::build(), vec!["tests/fake_driver/test/with_kernels.cc".into()]);
}
