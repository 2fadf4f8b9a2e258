//! Memory for weights and activations, which can be gigabytes: taken from the system as pages that it zeroes
//! when they are first touched, by the threads that use them, rather than here and now. Large blocks are mappings of
//! their own, so that the large pages asked for them are gone with them: the host's heap keeps none.

use std::alloc::{Layout, alloc_zeroed};
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::error::Error;
use crate::memory::{ensure_headroom, ensure_left, out_of_memory};

/// Zeros to begin with, on a boundary of cache lines, large ones on one of large pages.
#[derive(Default)]
pub(super) struct Floats {
    storage: Storage,
    /// Space in front.
    first: usize,
    len: usize,
}

enum Storage {
    Heap(Vec<f32>),
    Mapping(MmapMut),
}

impl Default for Storage {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
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
        let layout = Layout::array::<f32>(len.saturating_add(boundary / size_of::<f32>())).map_err(|_| failed())?;
        ensure_left(layout.size(), what)?;
        let storage = if large {
            Storage::Mapping(MmapMut::map_anon(layout.size()).map_err(|_| failed())?)
        } else {
            let capacity = layout.size() / size_of::<f32>();
            // SAFETY: the layout is not empty.
            let data = unsafe { alloc_zeroed(layout) }.cast::<f32>();
            if data.is_null() {
                return Err(failed());
            }
            // SAFETY: from the global allocator with the layout of `capacity` f32, and all zero bits is 0.0.
            Storage::Heap(unsafe { Vec::from_raw_parts(data, capacity, capacity) })
        };
        ensure_headroom(0, what)?;
        let mut floats = Self { storage, first: 0, len };
        floats.first = floats.start().align_offset(boundary);
        floats.ask_for_large_pages();
        Ok(floats)
    }

    fn start(&self) -> *const f32 {
        match &self.storage {
            Storage::Heap(floats) => floats.as_ptr(),
            Storage::Mapping(bytes) => bytes.as_ptr().cast(), // on a page
        }
    }

    /// Fewer entries in the processor's table of pages, fewer page faults. The system may say no.
    fn ask_for_large_pages(&self) {
        #[cfg(target_os = "linux")]
        if let Storage::Mapping(bytes) = &self.storage {
            let whole = self.len * size_of::<f32>() / LARGE_PAGE * LARGE_PAGE;
            let _ = bytes.advise_range(memmap2::Advice::HugePage, self.first * size_of::<f32>(), whole);
        }
    }
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: initialised with zeros; `first` is less than the space to spare.
        unsafe { std::slice::from_raw_parts(self.start().add(self.first), self.len) }
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        let start = match &mut self.storage {
            Storage::Heap(floats) => floats.as_mut_ptr(),
            Storage::Mapping(bytes) => bytes.as_mut_ptr().cast(),
        };
        // SAFETY: as in `deref`, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(start.add(self.first), self.len) }
    }
}
