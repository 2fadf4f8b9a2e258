//! Owners of what the CUDA driver hands out: contexts, memory, streams, events, modules, graphs.
//!
//! Built on the `result` layer of cudarc rather than its `safe` layer, whose owners record errors to raise them at
//! some later call, allocate from pools that keep what is freed, and bind their context to the calling thread. Here
//! every error is reported by the call that had it, memory goes back to the device at once, and a context is current
//! only between [`Context::enter`] and the end of its guard: whatever context the thread had is current again then.
//!
//! [`context`] current or not, [`memory`] of both sides, [`stream`] of work with events and graphs, [`module`] of
//! kernels.

mod context;
mod failure;
mod memory;
mod module;
mod stream;

pub(super) use context::Context;
pub(super) use failure::describe;
pub(super) use memory::{DeviceMemory, HostMemory};
pub(super) use module::{Kernel, Module};
pub(super) use stream::{Event, Graph, Stream};
