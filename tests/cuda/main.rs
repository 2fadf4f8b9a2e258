//! The whole CUDA engine on a stand-in driver that runs the kernels on the CPU: planning, tables, arenas, launches,
//! graphs, copies, and what happens when any of it fails. Skipped where there is no C++ compiler.

#[path = "../support/builder.rs"]
mod builder;
#[path = "../support/cxx.rs"]
mod cxx;
mod device_memory;
mod faults;
#[path = "../support/geometry.rs"]
mod geometry;
mod host;
mod parity;
mod probe;
mod repeatability;
#[path = "../support/stand_in.rs"]
mod stand_in;

use geometry::{Case, Outcome};
use patchmask::engine::DeviceChoice;
use patchmask::session::Options;

/// The case's options, on the GPU.
fn on_gpu(case: &Case) -> Options {
    Options {
        device: DeviceChoice::Cuda(0),
        threads: 1,
        ..case.options.clone()
    }
}

/// Bits of everything that came out.
fn bits(outcome: &Outcome) -> (Vec<u8>, Vec<u8>, Vec<u32>, Vec<u32>) {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    (
        outcome.mask.clone(),
        outcome.coverage.clone(),
        bits(&outcome.probability),
        bits(&outcome.logits),
    )
}
