//! What a kernel that traps costs: the process its GPU, in every context of it, and nothing else. The library says so and goes on.

use std::process::Command;

use patchmask::{Error, Session};

use crate::cases::{discs, network};
use crate::launching::{Gpu, Kernel, Params, Shape};
use crate::support::Random;
use crate::{driver, on_gpu};

const TRAP: &str = "
.version 7.0
.target sm_80
.address_size 64
.visible .entry trap_on_purpose() {
    trap;
}
";

/// In a process of its own, which loses the GPU.
#[test]
fn a_trap_costs_the_process_its_gpu() {
    if driver::take().is_none() {
        return;
    }
    let itself = std::env::current_exe().unwrap();
    let status = Command::new(itself).args(["traps::after_a_trap", "--exact", "--ignored", "--nocapture"]).status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "loses the GPU"]
fn after_a_trap() {
    let driver = driver::take().unwrap();
    let gpu = Gpu(&driver);
    let mut random = Random(61);
    let model = network(&mut random, &[16; 13], 33);
    let case = discs(&mut random, (33, 16), (35, 20, 1));
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    case.try_in(&session, &model).unwrap();
    let trapped = driver.within_own_context(|| {
        let module = gpu.module(TRAP)?;
        let kernels: Vec<Kernel> = gpu.kernels(module, &[Shape::new("trap_on_purpose", 16, 64, 0)])?;
        gpu.launch(&kernels[0], [1, 1], &Params { addresses: [0; 9], numbers: [0; 8] })?;
        gpu.synchronize()
    });
    println!("in a context of its own: {trapped:?}");
    assert!(trapped.is_err(), "a trap is an error");
    // Another context's, and yet:
    let error = case.try_in(&session, &model).err().expect("the GPU is lost");
    println!("in the session: {error}");
    assert!(matches!(error, Error::DeviceFailed(_)), "{error:?}");
    drop(session);
    let error = Session::new(&model, on_gpu(&case), &mut |_, _| ()).err().expect("the GPU is lost");
    println!("a new session: {error}");
    assert!(matches!(error, Error::NoDevice(_) | Error::DeviceFailed(_)), "{error:?}");
}
