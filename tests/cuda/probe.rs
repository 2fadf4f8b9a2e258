//! Machines that will not do: `cuda` is NO_DEVICE with the value and the remedy, `auto` is the CPU and the log has the
//! reason, and the library itself prints nothing. The driver is initialised once in a process, so that each machine
//! has one of its own: this test program again, running `session` alone.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use patchmask::DeviceChoice;
use patchmask::Error;
use patchmask::{Options, Session};

use crate::host::small_case;
use crate::{cxx, fake_driver, on_gpu};

/// Tells `session` which device to ask for ("auto" or a number; "libcuda": only whether one loads) and where to write
/// what it heard.
const DEVICE: &str = "PATCHMASK_PROBE_DEVICE";
const HEARD: &str = "PATCHMASK_PROBE_HEARD";

struct Machine {
    /// PATCHMASK_FAKE_DRIVER
    settings: &'static str,
    device: &'static str,
    /// What the reason names.
    says: &'static [&'static str],
}

const MACHINES: [Machine; 14] = [
    Machine { settings: "init=34", device: "0", says: &["CUDA_ERROR_STUB_LIBRARY (34)", "stub", "library path"] },
    Machine { settings: "init=100", device: "0", says: &["CUDA_ERROR_NO_DEVICE (100)", "no NVIDIA GPU"] },
    Machine { settings: "devices=0", device: "0", says: &["CUDA_ERROR_NO_DEVICE (100)", "no NVIDIA GPU"] },
    Machine { settings: "init=999", device: "0", says: &["CUDA_ERROR_UNKNOWN (999)"] },
    Machine { settings: "driver=11040", device: "0", says: &["CUDA 11.4", "12.4", "update"] },
    Machine { settings: "driver=12030", device: "0", says: &["CUDA 12.3", "12.4", "update"] },
    Machine { settings: "sm=75", device: "0", says: &["cuda:0", "7.5", "8.0"] },
    Machine { settings: "devices=2", device: "2", says: &["cuda:2", "there are 2", "from 0"] },
    // The compiler in the driver refuses the PTX.
    Machine {
        settings: "spoil=scores:4",
        device: "0",
        says: &["kernels mask", "scores is not to be compiled", "CUDA_ERROR_INVALID_PTX (218)"],
    },
    Machine { settings: "spoil=scores:1", device: "0", says: &["scores gave a wrong result in the self-test"] },
    Machine {
        settings: "spoil=gather_max_pool:2",
        device: "0",
        says: &["gather_max_pool failed", "LAUNCH_FAILED (719)"],
    },
    // The process has lost CUDA, so that the others cannot be tried without it.
    Machine {
        settings: "spoil=conv3_16_64:2",
        device: "0",
        says: &["conv3_16_64 failed in the self-test: ", "LAUNCH_FAILED (719)", "PATCHMASK_WITHOUT=conv3_16_64"],
    },
    // Even a convolution: the GPU is not free while its kernel is at work.
    Machine {
        settings: "spoil=conv3_16_64:3",
        device: "0",
        says: &["conv3_16_64 does not end", "PATCHMASK_WITHOUT=conv3_16_64"],
    },
    // Too little for any kernel of the head.
    Machine { settings: "optin=40960", device: "0", says: &["cuda:0", "the kernel gemm"] },
];

#[test]
fn machines_that_will_not_do() {
    let library = match fake_driver::build() {
        Ok(library) => library,
        Err(why) => return println!("SKIPPED CUDA on the fake driver: {why}"),
    };
    let folder = library.parent().unwrap();
    for machine in MACHINES {
        let says = |heard: &str| {
            for text in machine.says {
                assert!(heard.contains(text), "{}: no {text:?} in {heard}", machine.settings);
            }
        };
        let heard = hear(folder, machine.settings, machine.device);
        assert!(heard.starts_with("NoDevice("), "{}: {heard}", machine.settings);
        says(&heard);
        println!("{}: {heard}", machine.settings);
        if machine.device == "0" {
            let heard = hear(folder, machine.settings, "auto");
            assert!(heard.starts_with("cpu"), "{}: {heard}", machine.settings);
            assert!(heard.contains("using the CPU"), "{heard}");
            says(&heard);
        }
    }
}

#[test]
fn no_driver() {
    let Ok(cxx) = cxx::compiler() else {
        return println!("SKIPPED a machine without a driver: no C++ compiler");
    };
    // A libcuda without any function, before one that this machine may have.
    let empty = cxx::kept("libcuda.so", &["empty"], |library| {
        cxx::succeed(Command::new(cxx).args(["-shared", "-x", "c++", "/dev/null", "-o"]).arg(library))
    });
    let empty = empty.unwrap();
    let nowhere = Path::new("/nowhere");
    for (folder, says) in [(nowhere, "libcuda was not found"), (empty.parent().unwrap(), "lacks a function")] {
        if folder == nowhere && hear(folder, "", "libcuda") == "true" {
            println!("SKIPPED a machine without libcuda: this one has it");
            continue;
        }
        let heard = hear(folder, "", "0");
        assert!(heard.starts_with("NoDevice("), "{heard}");
        assert!(heard.contains(says), "{heard}");
        println!("{heard}");
        let heard = hear(folder, "", "auto");
        assert!(heard.starts_with("cpu") && heard.contains(says), "{heard}");
    }
}

/// What a session in a process of its own said, on a machine with these settings whose libcuda is in `folder`.
fn hear(folder: &Path, settings: &str, device: &str) -> String {
    static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let heard = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let heard = heard.join(format!("heard.{}.{number}", std::process::id()));
    let output = fake_driver::test_program("probe::session")
        .env_remove("PATCHMASK_FAKE_DRIVER")
        .envs((!settings.is_empty()).then_some(("PATCHMASK_FAKE_DRIVER", settings)))
        .env("LD_LIBRARY_PATH", folder)
        .env(DEVICE, device)
        .env(HEARD, &heard)
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    // All else is the library's.
    let frame = ["", "running 1 test", "test probe::session ... ok"];
    for line in stdout.lines() {
        let known = frame.contains(&line) || line.starts_with("test result: ok. 1 passed");
        assert!(known, "{settings}: stdout has {line:?}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{settings}");
    assert!(output.status.success(), "{settings}: {}", output.status);
    let text = fs::read_to_string(&heard).unwrap();
    fs::remove_file(&heard).unwrap();
    text
}

#[test]
#[ignore = "a process of its own, which the tests above start"]
fn session() {
    let (Ok(device), Some(file)) = (env::var(DEVICE), env::var_os(HEARD)) else {
        return println!("SKIPPED: started by hand");
    };
    if device == "libcuda" {
        // SAFETY: a library whose initialisers are the driver's.
        let found = unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_NOW) };
        return fs::write(file, (!found.is_null()).to_string()).unwrap();
    }
    let (case, model) = small_case(1);
    let choice = match device.parse() {
        Ok(number) => DeviceChoice::Cuda(vec![number]),
        Err(_) => DeviceChoice::Auto,
    };
    let options = Options { device: choice, ..on_gpu(&case) };
    let mut said = String::new();
    let heard = match Session::new(&model, options, &mut |_, text| said += text) {
        Err(Error::NoDevice(text)) => format!("NoDevice({text})"),
        Err(other) => format!("{other:?}"),
        Ok(session) => {
            case.mask_in(&session).unwrap();
            format!("{}: {said}", session.engine_name())
        }
    };
    fs::write(file, heard).unwrap();
}
