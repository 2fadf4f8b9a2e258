//! The whole CUDA engine on a fake driver that runs the kernels on the CPU: planning, tables, arenas, launches,
//! graphs, copies, and what happens when any of it fails. Skipped where there is no C++ compiler.

mod budget;
mod device_memory;
mod faults;
mod hopper;
mod host;
mod parity;
mod probe;
mod repeatability;
mod several;
mod side_by_side;
#[path = "../support/mod.rs"]
mod support;

use support::{bits, cxx, fake_driver, on_gpu};
