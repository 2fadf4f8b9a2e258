//! The whole CUDA engine on a stand-in driver that runs the kernels on the CPU: planning, tables, arenas, launches,
//! graphs, copies, and what happens when any of it fails. Skipped where there is no C++ compiler.

#[path = "../support/agreement.rs"]
mod agreement;
mod budget;
#[path = "../support/builder.rs"]
mod builder;
#[path = "../support/cxx.rs"]
mod cxx;
mod device_memory;
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
#[path = "../support/stand_in.rs"]
mod stand_in;

use geometry::{bits, on_gpu};
