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
mod memory;
mod module;
mod stream;

pub(super) use context::Context;
pub(super) use memory::{DeviceMemory, HostMemory};
pub(super) use module::{Kernel, Module};
pub(super) use stream::{Event, Graph, Stream};

use std::ffi::CStr;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use crate::error::Error;

/// What a failed driver call becomes. `what` names the action in the error's text.
pub(super) fn failed(what: &str, error: DriverError) -> Error {
    let text = format!("{what}: {}", describe(error));
    match error.0 {
        sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::DeviceOutOfMemory(format!(
            "{text}; close other programs that use the device, or lower the memory budget"
        )),
        _ => Error::DeviceFailed(text),
    }
}

/// Name and number of an error. The driver's library is there: it gave the error.
pub(super) fn describe(error: DriverError) -> String {
    let name = error.error_name().map(CStr::to_string_lossy);
    format!("{} ({})", name.as_deref().unwrap_or("CUDA error"), error.0 as u32)
}
