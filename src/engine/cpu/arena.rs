//! Memory for weights and activations, which can be gigabytes: taken from the system as pages that it zeroes
//! when they are first touched, by the threads that use them, rather than here and now.

use std::alloc::{Layout, alloc_zeroed};
use std::ops::{Deref, DerefMut};

use crate::error::Error;
use crate::memory::{ensure_headroom, ensure_left, out_of_memory};

/// Zeros to begin with, on a boundary of cache lines, large ones on one of large pages.
#[derive(Default)]
pub(super) struct Floats {
    /// With space to spare in front.
    storage: Vec<f32>,
    first: usize,
}

/// Bytes of a cache line and of a large page.
const LINE: usize = 64;
const LARGE_PAGE: usize = 2 << 20;

impl Floats {
    /// Reports a failed allocation instead of aborting the host.
    pub fn new(len: usize, what: &str) -> Result<Self, Error> {
        if len == 0 {
            return Ok(Self::default());
        }
        let large = len >= 2 * LARGE_PAGE / size_of::<f32>();
        let boundary = if large { LARGE_PAGE } else { LINE };
        let failed = || out_of_memory(len.saturating_mul(size_of::<f32>()), what);
        let capacity = len.saturating_add(boundary / size_of::<f32>());
        ensure_left(capacity.saturating_mul(size_of::<f32>()), what)?;
        let layout = Layout::array::<f32>(capacity).map_err(|_| failed())?;
        // SAFETY: the layout is not empty.
        let data = unsafe { alloc_zeroed(layout) }.cast::<f32>();
        if data.is_null() {
            return Err(failed());
        }
        // SAFETY: from the global allocator with the layout of `capacity` f32, and all zero bits is 0.0.
        let mut storage = unsafe { Vec::from_raw_parts(data, capacity, capacity) };
        ensure_headroom(0, what)?;
        let first = data.align_offset(boundary).min(capacity - len);
        storage.truncate(first + len);
        let floats = Self { storage, first };
        if large {
            floats.ask_for_large_pages();
        }
        Ok(floats)
    }

    /// Fewer entries in the processor's table of pages, fewer page faults. The system may say no.
    fn ask_for_large_pages(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: advice on whole pages of memory that is ours.
        unsafe {
            let bytes = size_of_val::<[f32]>(self) / LARGE_PAGE * LARGE_PAGE;
            libc::madvise(self.as_ptr().cast_mut().cast(), bytes, libc::MADV_HUGEPAGE);
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.storage[self.first..]
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.storage[self.first..]
    }
}
