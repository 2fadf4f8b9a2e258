//! The boundary that nothing crosses: every export runs its body inside [`guard`], which catches
//! panics, keeps the error's text for the calling thread and returns the status number.

use std::cell::UnsafeCell;
use std::ffi::c_char;
#[cfg(unix)]
use std::ffi::c_int;
use std::fmt::{self, Write};

use super::constants::*;
use super::types::patchmask_status;
use crate::error::Error;
use crate::float_modes;
use crate::panics::guarded;

/// Room for a text with its zero; longer ones are cut.
const TEXT_BYTES: usize = 1024;

thread_local! {
    // Neither allocated nor dropped: it serves without memory, and until the thread has ended.
    static LAST_ERROR: UnsafeCell<[u8; TEXT_BYTES]> = const { UnsafeCell::new([0; TEXT_BYTES]) };
}

/// Runs `body`; its error or panic becomes this thread's last error. Under the library's floating-point modes, and with
/// pthread_cancel put off: unwinding a host's cancellation through this code would abort the process.
pub(super) fn guard(body: impl FnOnce() -> Result<(), Error>) -> patchmask_status {
    let _cancelled_later = CancelledLater::begin();
    let _modes = float_modes::enter();
    match guarded(body) {
        Ok(()) => PATCHMASK_OK,
        Err(error) => {
            keep(&error);
            status_of(&error)
        }
    }
}

/// Writes a text into the thread's buffer, as much as there is room for, without zeros.
struct Keep<'a> {
    buffer: &'a mut [u8; TEXT_BYTES],
    length: usize,
}

impl Write for Keep<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let character = if character == '\0' { ' ' } else { character };
            let end = self.length + character.len_utf8();
            if end >= TEXT_BYTES {
                return Err(fmt::Error);
            }
            character.encode_utf8(&mut self.buffer[self.length..end]);
            self.length = end;
        }
        Ok(())
    }
}

fn keep(error: &Error) {
    LAST_ERROR.with(|last| {
        // SAFETY: this thread's, and nobody holds a reference to it.
        let mut text = Keep { buffer: unsafe { &mut *last.get() }, length: 0 };
        let _ = write!(text, "{error}");
        let end = text.length;
        text.buffer[end] = 0;
    });
}

/// While it lives, pthread_cancel of this thread is put off.
struct CancelledLater {
    #[cfg(unix)]
    before: c_int,
}

#[cfg(unix)]
unsafe extern "C" {
    fn pthread_setcancelstate(state: c_int, old_state: *mut c_int) -> c_int;
}

impl CancelledLater {
    fn begin() -> Self {
        #[cfg(unix)]
        {
            /// PTHREAD_CANCEL_DISABLE
            const DISABLE: c_int = if cfg!(target_os = "macos") { 0 } else { 1 };
            let mut before = 0;
            // SAFETY: writes a number.
            unsafe { pthread_setcancelstate(DISABLE, &raw mut before) };
            Self { before }
        }
        #[cfg(not(unix))]
        Self {}
    }
}

impl Drop for CancelledLater {
    fn drop(&mut self) {
        #[cfg(unix)]
        // SAFETY: the state that there was; the old one is not asked for.
        unsafe {
            let mut ours = 0;
            pthread_setcancelstate(self.before, &raw mut ours);
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

/// Text of the last call that failed on this thread, in English, UTF-8, at most 1023 bytes; "" if none did. Each thread has a buffer
/// of its own, which the next call that fails there overwrites and which ends with the thread.
#[unsafe(no_mangle)]
pub extern "C" fn patchmask_last_error() -> *const c_char {
    LAST_ERROR.with(|last| last.get().cast_const().cast())
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
