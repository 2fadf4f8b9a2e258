//! Errors of the driver as errors of the library.

use std::ffi::CStr;
use std::fmt::Display;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys;

use crate::error::Error;

/// For `map_err`: the error of a failed driver call. `what` names the action in the error's text.
pub(super) fn failed(what: impl Display) -> impl FnOnce(DriverError) -> Error {
    move |error| {
        let text = format!("{what}: {}", describe(error));
        match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => Error::DeviceOutOfMemory(format!(
                "{text}; close other programs that use the device, or lower the memory budget"
            )),
            _ => Error::DeviceFailed(text),
        }
    }
}

/// Name and number of an error. The driver's library is there: it gave the error.
pub(in crate::engine::cuda) fn describe(error: DriverError) -> String {
    let name = error.error_name().map(CStr::to_string_lossy);
    format!("{} ({})", name.as_deref().unwrap_or("CUDA error"), error.0 as u32)
}
