//! Destructors of thread-local values, registered without glibc's list.
//!
//! Rust registers each of them with `__cxa_thread_atexit_impl`; glibc's ends the process where it gets no memory for that, on
//! a thread of the host. This one, hidden in the library and found first, keeps a list of its own behind a thread-specific key.
//! Where there is no memory even in the reserve, a value is not dropped.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

use super::ALLOCATOR;

type Destructor = unsafe extern "C" fn(*mut u8);

struct Node {
    destructor: Destructor,
    value: *mut u8,
    next: *mut Node,
}

/// The key plus 1; 0 before there is one.
static KEY: AtomicU64 = AtomicU64::new(0);

// Hidden: the host and other libraries keep glibc's.
std::arch::global_asm!(
    ".hidden __cxa_thread_atexit_impl",
    ".globl __cxa_thread_atexit_impl",
    ".type __cxa_thread_atexit_impl, @function",
    "__cxa_thread_atexit_impl:",
    #[cfg(target_arch = "x86_64")]
    "jmp {register}",
    #[cfg(target_arch = "aarch64")]
    "b {register}",
    register = sym register,
);

fn key() -> Option<libc::pthread_key_t> {
    if KEY.load(Ordering::Acquire) == 0 {
        let mut key = 0;
        // SAFETY: writes a key; glibc keeps them in a table of fixed size.
        if unsafe { libc::pthread_key_create(&raw mut key, Some(run)) } != 0 {
            return None;
        }
        if KEY.compare_exchange(0, u64::from(key) + 1, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: just made; another thread was quicker.
            unsafe { libc::pthread_key_delete(key) };
        }
    }
    Some((KEY.load(Ordering::Acquire) - 1) as libc::pthread_key_t)
}

unsafe extern "C" fn register(destructor: Destructor, value: *mut u8, _library: *mut c_void) -> c_int {
    let Some(key) = key() else { return 0 };
    // SAFETY: a node is not empty.
    let node = unsafe { ALLOCATOR.alloc(Layout::new::<Node>()) }.cast::<Node>();
    if node.is_null() {
        return 0;
    }
    // SAFETY: this thread's list, whose head the key has.
    unsafe {
        node.write(Node { destructor, value, next: libc::pthread_getspecific(key).cast() });
        // The first keys have their place in the thread itself; others may find no memory.
        if libc::pthread_setspecific(key, node.cast()) != 0 {
            ALLOCATOR.dealloc(node.cast(), Layout::new::<Node>());
        }
    }
    0
}

/// When the thread ends. What destructors register meanwhile makes the system call this again.
unsafe extern "C" fn run(list: *mut c_void) {
    let mut next = list.cast::<Node>();
    while !next.is_null() {
        // SAFETY: written by `register`, taken out once: the key was set to null before.
        unsafe {
            let node = next.read();
            ALLOCATOR.dealloc(next.cast(), Layout::new::<Node>());
            (node.destructor)(node.value);
            next = node.next;
        }
    }
}
