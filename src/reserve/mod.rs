//! The allocator of the shared and the static library: the system's, and behind it a reserve for small allocations.
//!
//! ```text
//! allocate:  the system's allocator; where that refuses at most 1 MiB: from the reserve
//! free:      back to where it came from, which its address tells
//! ```
//! Rust aborts the process where a small allocation fails: a name, a job of the thread pool, an error's text. With the
//! reserve such code goes on until the next large allocation, all of which are fallible (`memory`), turns up as
//! OUT_OF_MEMORY; then everything is given back. Pages of the reserve that were never needed are never touched.
//!
//! The feature `reserve` makes this the global allocator. A Rust program that depends on the crate does without it and keeps its
//! own.

#[cfg(target_os = "linux")]
mod thread_exit;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use rlsf::Tlsf;

/// Larger requests are expected to be fallible.
const MAX_BYTES: usize = 1 << 20;
const RESERVE_BYTES: usize = 16 << 20;

/// Allocations of up to 16 MiB in 24 x 16 classes.
type Pool = Tlsf<'static, u32, u16, 24, 16>;

#[repr(align(64))]
struct Bytes(UnsafeCell<[MaybeUninit<u8>; RESERVE_BYTES]>);

// SAFETY: touched through the pool alone, which is behind a lock.
unsafe impl Sync for Bytes {}

static BYTES: Bytes = Bytes(UnsafeCell::new([MaybeUninit::uninit(); RESERVE_BYTES]));

/// See the module.
pub struct Reserve {
    pool: UnsafeCell<Pool>,
    locked: AtomicBool,
    filled: AtomicBool,
}

// SAFETY: the pool is behind a lock.
unsafe impl Sync for Reserve {}

#[global_allocator]
static ALLOCATOR: Reserve =
    Reserve { pool: UnsafeCell::new(Pool::new()), locked: AtomicBool::new(false), filled: AtomicBool::new(false) };

impl Reserve {
    /// Runs `work` on the pool. The lock is held for some tens of instructions and never while memory is asked of the system.
    fn with<T>(&self, work: impl FnOnce(&mut Pool) -> T) -> T {
        while self.locked.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
        // SAFETY: locked.
        let pool = unsafe { &mut *self.pool.get() };
        if !self.filled.swap(true, Ordering::Relaxed) {
            // SAFETY: static, not null, and given to one pool once.
            unsafe { pool.insert_free_block_ptr(NonNull::new_unchecked(BYTES.0.get() as *mut [u8; RESERVE_BYTES])) };
        }
        let outcome = work(pool);
        self.locked.store(false, Ordering::Release);
        outcome
    }

    fn owns(pointer: *mut u8) -> bool {
        (pointer as usize).wrapping_sub(&raw const BYTES as usize) < RESERVE_BYTES
    }

    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MAX_BYTES {
            return std::ptr::null_mut();
        }
        let taken = self.with(|pool| pool.allocate(layout));
        taken.map_or(std::ptr::null_mut(), NonNull::as_ptr)
    }
}

// SAFETY: memory of the system or of the reserve, each given back to its owner.
unsafe impl GlobalAlloc for Reserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract.
        let memory = unsafe { System.alloc(layout) };
        if memory.is_null() { self.take(layout) } else { memory }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: by contract.
        let memory = unsafe { System.alloc_zeroed(layout) };
        if !memory.is_null() {
            return memory;
        }
        let memory = self.take(layout);
        if !memory.is_null() {
            // SAFETY: just allocated with this size.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match NonNull::new(pointer) {
            // SAFETY: allocated by the pool with this alignment.
            Some(own) if Self::owns(pointer) => self.with(|pool| unsafe { pool.deallocate(own, layout.align()) }),
            // SAFETY: by contract; it came from the system.
            _ => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !Self::owns(pointer) {
            // SAFETY: by contract; it came from the system.
            let memory = unsafe { System.realloc(pointer, layout, new_size) };
            if !memory.is_null() {
                return memory;
            }
        }
        // SAFETY: a size that the caller vouches for.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        // SAFETY: by contract. Out of the reserve again where the system can.
        let memory = unsafe { self.alloc(new_layout) };
        if !memory.is_null() {
            // SAFETY: two allocations of at least so many bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(pointer, memory, layout.size().min(new_size));
                self.dealloc(pointer, layout);
            }
        }
        memory
    }
}
