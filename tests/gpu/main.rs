//! The CUDA engine on a real GPU: the same results as the CPU engine, the same bits however the work is cut, quick
//! cancelling, memory given back. Skipped where there is no GPU; `PATCHMASK_REQUIRE_CUDA=1` makes that a failure.
//!
//! `PATCHMASK_GPU_SMALL=1` divides widths and slices, so that these tests themselves can be tried on the fake driver
//! driver (tests/gpu/README.md).

#[path = "../support/agreement.rs"]
mod agreement;
#[path = "../support/builder.rs"]
mod builder;
mod cancelling;
mod cases;
mod convolutions;
mod driver;
#[path = "../support/geometry.rs"]
mod geometry;
mod kernels;
mod launching;
mod layers;
mod memory;
mod overflow;
#[path = "../cuda/parity.rs"]
mod parity;
mod random;
mod rates;
mod repeatability;
mod sharing;
mod widths;

// What tests/cuda/parity.rs takes its turns from.
use driver as fake_driver;

use geometry::{bits, on_gpu};
