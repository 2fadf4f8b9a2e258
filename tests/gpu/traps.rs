//! A kernel that traps costs the context that it runs in, and nothing else of the process: what the self-test counts on.

use crate::cases::{discs, network};
use crate::launching::{Gpu, Kernel, Params, Shape};
use crate::support::Agreement;
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

#[test]
fn a_trap_costs_its_context_and_no_other() {
    let Some(driver) = driver::take() else {
        return;
    };
    let gpu = Gpu(&driver);
    let mut random = Random(61);
    let model = network(&mut random, &[16; 13], 33);
    let case = discs(&mut random, (33, 16), (35, 20, 1));
    let before = case.run(&model, on_gpu(&case)).mask;
    let trapped = driver.within_own_context(|| {
        let module = gpu.module(TRAP)?;
        let [shape] = [Shape::new("trap_on_purpose", 16, 64, 0)];
        let kernels: Vec<Kernel> = gpu.kernels(module, &[shape])?;
        let params = Params { addresses: [0; 9], numbers: [0; 8] };
        gpu.launch(&kernels[0], [1, 1], &params)?;
        gpu.synchronize()
    });
    println!("in a context of its own: {trapped:?}");
    assert!(trapped.is_err(), "a trap is an error");
    driver.within(|| gpu.synchronize()).expect("the primary context is whole");
    // Another self-test's kind of context, after the trap.
    driver.within_own_context(|| gpu.synchronize()).expect("a new context is whole");
    assert!(case.run(&model, on_gpu(&case)).mask == before);
    Agreement::default().compare(&case, &model, on_gpu(&case));
}
