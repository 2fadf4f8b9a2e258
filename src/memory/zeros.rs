//! Buffers that can be gigabytes: taken from the system as pages that it zeroes when they are first touched, by the threads that
//! use them, and given back in a moment. Large ones are mappings of their own, on large pages where the system has
//! those: these go with the buffer, and the host's heap keeps none.

use std::alloc::{Layout, alloc_zeroed};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;
use rayon::prelude::*;

use super::fallible::{LARGE, ensure_headroom, ensure_left, out_of_memory};
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
// SAFETY: 0
unsafe impl Zeroable for i32 {}
// SAFETY: false
unsafe impl Zeroable for bool {}

/// Zeros to begin with, on a boundary of cache lines, large ones on one of large pages.
#[derive(Debug)]
pub(crate) struct Zeros<T> {
    storage: Storage<T>,
    /// Elements in front.
    first: usize,
    len: usize,
}

#[derive(Debug)]
enum Storage<T> {
    Heap(Vec<T>),
    Mapping(MmapMut, PhantomData<T>),
}

impl<T> Default for Zeros<T> {
    fn default() -> Self {
        Self { storage: Storage::Heap(Vec::new()), first: 0, len: 0 }
    }
}

/// Bytes of a cache line and of a large page.
const LINE: usize = 64;
const LARGE_PAGE: usize = 2 << 20;

impl<T: Zeroable> Zeros<T> {
    /// Reports a failed allocation instead of aborting the host.
    pub fn new(len: usize, what: &str) -> Result<Self, Error> {
        if len == 0 {
            return Ok(Self::default());
        }
        let large = len >= 2 * LARGE_PAGE / size_of::<T>();
        let boundary = if large { LARGE_PAGE } else { LINE };
        let failed = || out_of_memory(len.saturating_mul(size_of::<T>()), what);
        let capacity = len.saturating_add(boundary / size_of::<T>());
        let layout = Layout::array::<T>(capacity).map_err(|_| failed())?;
        ensure_left(layout.size(), what)?;
        let storage = if large {
            Storage::Mapping(MmapMut::map_anon(layout.size()).map_err(|_| failed())?, PhantomData)
        } else {
            // SAFETY: the layout is not empty.
            let data = unsafe { alloc_zeroed(layout) }.cast::<T>();
            if data.is_null() {
                return Err(failed());
            }
            // SAFETY: from the global allocator with the layout of `capacity` elements, and all zero bits are one.
            Storage::Heap(unsafe { Vec::from_raw_parts(data, capacity, capacity) })
        };
        if layout.size() >= LARGE {
            ensure_headroom(0, what)?;
        }
        let mut zeros = Self { storage, first: 0, len };
        zeros.first = zeros.start().align_offset(boundary);
        zeros.ask_for_large_pages();
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
        if let Storage::Mapping(bytes, _) = &self.storage {
            let whole = self.len * size_of::<T>() / LARGE_PAGE * LARGE_PAGE;
            let _ = bytes.advise_range(memmap2::Advice::HugePage, self.first * size_of::<T>(), whole);
        }
    }
}

impl<T> Zeros<T> {
    fn start(&self) -> *const T {
        match &self.storage {
            Storage::Heap(elements) => elements.as_ptr(),
            Storage::Mapping(bytes, _) => bytes.as_ptr().cast(), // on a page
        }
    }
}

impl<T> Deref for Zeros<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: initialised with zeros, which are values of T; `first` is at most the space to spare.
        unsafe { std::slice::from_raw_parts(self.start().add(self.first), self.len) }
    }
}

impl<T> DerefMut for Zeros<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        let start = match &mut self.storage {
            Storage::Heap(elements) => elements.as_mut_ptr(),
            Storage::Mapping(bytes, _) => bytes.as_mut_ptr().cast(),
        };
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start.add(self.first), self.len) }
    }
}
