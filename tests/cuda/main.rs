//! The whole CUDA engine on a fake driver that runs the kernels on the CPU: planning, tables, arenas, launches,
//! graphs, copies, and what happens when any of it fails. Skipped where there is no C++ compiler.

#[path = "../support/agreement.rs"]
mod agreement;
mod budget;
#[path = "../support/builder.rs"]
mod builder;
#[path = "../support/cxx.rs"]
mod cxx;
mod device_memory;
#[path = "../support/fake_driver.rs"]
mod fake_driver;
mod faults;
#[path = "../support/geometry.rs"]
mod geometry;
mod hopper;
mod host;
mod parity;
mod probe;
mod repeatability;
mod several;
mod side_by_side;

use geometry::{bits, on_gpu};
