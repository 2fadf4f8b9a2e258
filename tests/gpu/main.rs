//! The CUDA engine on a real GPU: the same results as the CPU engine, the same bits however the work is cut, quick
//! cancelling, memory given back. Skipped where there is no GPU; `PATCHMASK_REQUIRE_CUDA=1` makes that a failure.
//!
//! `PATCHMASK_GPU_SMALL=1` divides widths and slices, so that these tests themselves can be tried on the fake
//! driver (tests/gpu/README.md).

mod cancelling;
mod cases;
mod convolutions;
mod driver;
mod kernels;
mod launching;
mod layers;
mod memory;
mod overflow;
#[path = "../cuda/parity.rs"]
mod parity;
mod random;
mod repeatability;
mod sharing;
#[path = "../support/mod.rs"]
mod support;
mod traps;
mod widths;

// What tests/cuda/parity.rs takes its turns from.
use driver as fake_driver;
use support::{bits, on_gpu};
