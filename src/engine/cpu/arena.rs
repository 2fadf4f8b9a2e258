//! Memory for activations, which can be gigabytes: taken from the system as pages that it zeroes when
//! they are first touched, by the threads that use them, rather than here and now.

use std::alloc::{Layout, alloc_zeroed};

use crate::error::Error;
use crate::memory::{ensure_headroom, out_of_memory};

/// `vec![0.0; len]` that reports a failed allocation instead of aborting the host.
pub(super) fn try_zeroed(len: usize, what: &str) -> Result<Vec<f32>, Error> {
    let failed = || out_of_memory(len.saturating_mul(size_of::<f32>()), what);
    if len == 0 {
        return Ok(Vec::new());
    }
    let layout = Layout::array::<f32>(len).map_err(|_| failed())?;
    // SAFETY: the layout is not empty.
    let data = unsafe { alloc_zeroed(layout) }.cast::<f32>();
    if data.is_null() {
        return Err(failed());
    }
    // SAFETY: from the global allocator with the layout of `len` f32, and all zero bits is 0.0.
    let vec = unsafe { Vec::from_raw_parts(data, len, len) };
    ensure_headroom(0, what)?;
    Ok(vec)
}
