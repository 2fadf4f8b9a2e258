//! Buffers that can be gigabytes: taken from the system as pages that it zeroes when they are first touched, by the threads that
//! use them, and given back in a moment, because they are large pages where the system has those.

use std::alloc::{Layout, alloc_zeroed};
use std::ops::{Deref, DerefMut};

use rayon::prelude::*;

use super::fallible::{LARGE, ensure_headroom, out_of_memory};
use crate::cancel::Cancel;
use crate::error::Error;

/// Types of which all zero bits are a value.
///
/// # Safety
/// They are.
pub(crate) unsafe trait Zeroable: Copy {}

// SAFETY: 0.0
unsafe impl Zeroable for f32 {}
// SAFETY: 0
unsafe impl Zeroable for u32 {}
// SAFETY: false
unsafe impl Zeroable for bool {}

/// Zeros to begin with, on a boundary of cache lines, large ones on one of large pages.
#[derive(Debug, Default)]
pub(crate) struct Zeros<T> {
    /// With space to spare in front.
    storage: Vec<T>,
    first: usize,
}

/// Bytes of a cache line and of a large page.
const LINE: usize = 64;
const LARGE_PAGE: usize = 2 << 20;

impl<T: Zeroable> Zeros<T> {
    /// Reports a failed allocation instead of aborting the host.
    pub fn new(len: usize, what: &str) -> Result<Self, Error> {
        if len == 0 {
            return Ok(Self { storage: Vec::new(), first: 0 });
        }
        let large = len >= 2 * LARGE_PAGE / size_of::<T>();
        let boundary = if large { LARGE_PAGE } else { LINE };
        let failed = || out_of_memory(len.saturating_mul(size_of::<T>()), what);
        let capacity = len.saturating_add(boundary / size_of::<T>());
        let layout = Layout::array::<T>(capacity).map_err(|_| failed())?;
        // SAFETY: the layout is not empty.
        let data = unsafe { alloc_zeroed(layout) }.cast::<T>();
        if data.is_null() {
            return Err(failed());
        }
        // SAFETY: from the global allocator with the layout of `capacity` elements, and all zero bits are one.
        let mut storage = unsafe { Vec::from_raw_parts(data, capacity, capacity) };
        if size_of_val(&storage[..]) >= LARGE {
            ensure_headroom(0, what)?;
        }
        let first = data.align_offset(boundary).min(capacity - len);
        storage.truncate(first + len);
        let zeros = Self { storage, first };
        if large {
            zeros.ask_for_large_pages();
        }
        Ok(zeros)
    }

    /// The same with all large pages made, on a few threads: were many to need one at the same time, a cancel would wait for all of
    /// them.
    pub fn touched(len: usize, what: &str, cancel: &Cancel) -> Result<Self, Error>
    where
        T: Send,
    {
        const THREADS: usize = 4;
        let page = LARGE_PAGE / size_of::<T>();
        let mut zeros = Self::new(len, what)?;
        let share = len.div_ceil(THREADS).next_multiple_of(page).max(page);
        zeros.par_chunks_mut(share).flat_map_iter(|pages| pages.iter_mut().step_by(page)).try_for_each(|element| {
            // Written, but the same.
            *element = std::hint::black_box(*element);
            cancel.check()
        })?;
        Ok(zeros)
    }

    /// Fewer entries in the processor's table of pages, fewer page faults. The system may say no.
    fn ask_for_large_pages(&self) {
        #[cfg(target_os = "linux")]
        // SAFETY: advice on whole pages of memory that is ours.
        unsafe {
            let bytes = size_of_val::<[T]>(self) / LARGE_PAGE * LARGE_PAGE;
            libc::madvise(self.as_ptr().cast_mut().cast(), bytes, libc::MADV_HUGEPAGE);
        }
    }
}

impl<T> Deref for Zeros<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.storage[self.first..]
    }
}

impl<T> DerefMut for Zeros<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.storage[self.first..]
    }
}
