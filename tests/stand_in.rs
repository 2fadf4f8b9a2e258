//! The stand-in driver itself: its self-test, and that it finds a kernel for every entry of the committed PTX.
//! Skipped where there is no C++ compiler.

#[path = "support/cxx.rs"]
mod cxx;

use std::path::Path;
use std::process::Command;

/// Compiles a library of the stand-in and a program that links against it, in a folder of their own; runs it.
fn run(name: &str, library: &[&str], program: &[&str], arguments: &[String]) {
    let compiler = match cxx::compiler() {
        Ok(compiler) => compiler,
        Err(why) => {
            println!("SKIPPED {name}: {why}");
            return;
        }
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let driver = folder.join("libcuda.so.1");
    let link = folder.join("libcuda.so");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink("libcuda.so.1", &link).unwrap();
    let executable = folder.join("program");
    let mut command = Command::new(compiler);
    command
        .args(["@tests/kernels/stand_in.flags", "-Ikernels"])
        .args(library)
        .arg("-o")
        .arg(&driver);
    cxx::succeed(&mut command).unwrap();
    let mut command = Command::new(compiler);
    command
        .args([
            "-std=c++17",
            "-O1",
            "-pthread",
            "-Wall",
            "-Wextra",
            "-Werror",
        ])
        .args(program)
        .arg("-o")
        .arg(&executable)
        .arg(format!("-L{}", folder.display()))
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .args(["-lcuda", "-ldl"]);
    cxx::succeed(&mut command).unwrap();
    let output = Command::new(&executable)
        .args(arguments)
        .output()
        .expect("a program");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn keeps_its_promises() {
    let tests = cxx::root().join("tests/kernels/stand_in_test");
    let mut program = vec!["tests/kernels/stand_in_test/main.cc".to_owned()];
    for entry in std::fs::read_dir(tests).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with("_test.cc") {
            program.push(format!("tests/kernels/stand_in_test/{name}"));
        }
    }
    let program: Vec<&str> = program.iter().map(String::as_str).collect();
    let library = [
        "-Itests/kernels/stand_in_test",
        "tests/kernels/stand_in.cc",
        "tests/kernels/stand_in_test/kernels.cc",
    ];
    run("stand_in_self_test", &library, &program, &[]);
}

#[test]
fn has_every_kernel_of_the_ptx() {
    let folder = cxx::root().join("kernels/ptx");
    let ptx: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().to_str().unwrap().to_owned())
        .collect();
    assert!(ptx.len() >= 6);
    let library = [
        "-Itests/kernels",
        "tests/kernels/stand_in.cc",
        "tests/kernels/registry.cc",
        "tests/kernels/shim.cc",
    ];
    let program = ["tests/kernels/stand_in_test/with_kernels.cc"];
    run("stand_in_with_kernels", &library, &program, &ptx);
}
