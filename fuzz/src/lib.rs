//! Parts of the fuzz targets: the promises that hold for every call, buffers that tell what was written to them, and
//! small models.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};
use patchmask::ffi::*;

pub mod buffers;
pub mod calls;
#[allow(dead_code)]
#[path = "../../tests/support/models.rs"]
mod model_files;
pub mod models;
#[path = "../../tests/support/random.rs"]
mod random;

/// Text of the last error of this thread.
pub fn last_error() -> &'static str {
    // SAFETY: a buffer of this thread, which ends in a zero.
    let text = unsafe { CStr::from_ptr(patchmask_last_error()) };
    text.to_str().expect("error texts are UTF-8")
}

/// A status that is one of `expected` or success; with a text if it is an error.
pub fn check(status: patchmask_status, expected: &[patchmask_status]) -> patchmask_status {
    if status != PATCHMASK_OK {
        assert!(expected.contains(&status), "status {status}: {}", last_error());
        assert!(!last_error().is_empty(), "status {status} without a text");
    }
    status
}

/// One in `n`.
pub fn rarely(u: &mut Unstructured, n: u8) -> bool {
    u.ratio(1, n).unwrap_or(false)
}

/// `usual`, or now and then any value at all.
pub fn mostly<'a, T: Arbitrary<'a>>(u: &mut Unstructured<'a>, usual: T) -> Result<T> {
    if rarely(u, 32) { u.arbitrary() } else { Ok(usual) }
}

/// Fails where anything was printed since the last call. Works only with libFuzzer's `-close_fd_mask=3`, which moves its
/// own messages elsewhere; the target's go where they went before.
pub fn check_silence() {
    static PRINTED: OnceLock<Option<File>> = OnceLock::new();
    let printed = PRINTED.get_or_init(|| {
        // SAFETY: descriptors of this process.
        unsafe {
            let mut status = std::mem::zeroed::<libc::stat>();
            if libc::fstat(2, &raw mut status) != 0 || status.st_rdev != libc::makedev(1, 3) {
                return None; // not /dev/null
            }
            let memory = libc::memfd_create(c"printed".as_ptr(), 0);
            assert!(memory >= 0 && libc::dup2(memory, 1) == 1 && libc::dup2(memory, 2) == 2);
            Some(File::from_raw_fd(memory))
        }
    });
    let Some(mut printed) = printed.as_ref() else { return };
    if printed.stream_position().expect("position") != 0 {
        let mut text = String::new();
        let _ = printed.rewind().and_then(|()| printed.read_to_string(&mut text));
        panic!("printed: {text}");
    }
}

/// For `fuzz_target!(init: ...)`: panics of the target are reported where the program's messages went at its start.
pub fn report_panics() {
    // SAFETY: a copy of a descriptor.
    let stderr = unsafe { File::from_raw_fd(libc::dup(2)) };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        // SAFETY: both are open.
        unsafe { libc::dup2(stderr.as_raw_fd(), 2) };
        hook(info);
    }));
}
