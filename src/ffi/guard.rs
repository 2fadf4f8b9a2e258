//! The boundary that nothing crosses: every export runs its body inside [`guard`], which catches
//! panics, keeps the error's text for the calling thread and returns the status number.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};

use super::constants::*;
use super::types::patchmask_status;
use crate::error::Error;
use crate::panics::guarded;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// Runs `body`; its error or panic becomes this thread's last error.
pub(super) fn guard(body: impl FnOnce() -> Result<(), Error>) -> patchmask_status {
    match guarded(body) {
        Ok(()) => PATCHMASK_OK,
        Err(error) => {
            let text = error.to_string().replace('\0', " ");
            // A thread that is ending may have lost its storage: then the number must do.
            let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
            status_of(&error)
        }
    }
}

/// As [`guard`], for exports that return a value: `fallback` where the body failed.
pub(super) fn guard_value<T>(fallback: T, body: impl FnOnce() -> Result<T, Error>) -> T {
    let mut value = fallback;
    guard(|| {
        value = body()?;
        Ok(())
    });
    value
}

fn status_of(error: &Error) -> patchmask_status {
    match error {
        Error::InvalidArgument(_) => PATCHMASK_INVALID_ARGUMENT,
        Error::Unsupported(_) => PATCHMASK_UNSUPPORTED,
        Error::Busy => PATCHMASK_BUSY,
        Error::WrongProcess => PATCHMASK_WRONG_PROCESS,
        Error::Io(_) => PATCHMASK_IO,
        Error::BadModel(_) => PATCHMASK_BAD_MODEL,
        Error::OutOfMemory(_) => PATCHMASK_OUT_OF_MEMORY,
        Error::DeviceOutOfMemory(_) => PATCHMASK_DEVICE_OUT_OF_MEMORY,
        Error::NoDevice(_) => PATCHMASK_NO_DEVICE,
        Error::DeviceFailed(_) => PATCHMASK_DEVICE_FAILED,
        Error::Cancelled => PATCHMASK_CANCELLED,
        Error::Panic(_) => PATCHMASK_PANIC,
    }
}

/// Text of the last call that failed on this thread, in English, UTF-8; "" if none did. Valid until
/// the next call that fails on this thread.
#[unsafe(no_mangle)]
pub extern "C" fn patchmask_last_error() -> *const c_char {
    const EMPTY: &CStr = c"";
    LAST_ERROR.try_with(|last| last.borrow().as_ptr()).unwrap_or(EMPTY.as_ptr())
}

/// Name of a status without its prefix, such as "INVALID_ARGUMENT"; "UNKNOWN" for other numbers.
/// Static storage.
#[unsafe(no_mangle)]
pub extern "C" fn patchmask_status_name(status: patchmask_status) -> *const c_char {
    let name = match status {
        PATCHMASK_OK => c"OK",
        PATCHMASK_INVALID_ARGUMENT => c"INVALID_ARGUMENT",
        PATCHMASK_UNSUPPORTED => c"UNSUPPORTED",
        PATCHMASK_BUSY => c"BUSY",
        PATCHMASK_WRONG_PROCESS => c"WRONG_PROCESS",
        PATCHMASK_IO => c"IO",
        PATCHMASK_BAD_MODEL => c"BAD_MODEL",
        PATCHMASK_OUT_OF_MEMORY => c"OUT_OF_MEMORY",
        PATCHMASK_DEVICE_OUT_OF_MEMORY => c"DEVICE_OUT_OF_MEMORY",
        PATCHMASK_NO_DEVICE => c"NO_DEVICE",
        PATCHMASK_DEVICE_FAILED => c"DEVICE_FAILED",
        PATCHMASK_CANCELLED => c"CANCELLED",
        PATCHMASK_PANIC => c"PANIC",
        _ => c"UNKNOWN",
    };
    name.as_ptr()
}
