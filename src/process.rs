//! Which process this is, and locks that a child of `fork` does not wait for.
//!
//! Process numbers do not tell: a parent and its child may both be number 1, each of a PID namespace. A page that the kernel wipes
//! in children does.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number, not 0, that the parent and each child of `fork` have for themselves.
pub(crate) fn generation() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let Some(own) = wiped_in_children() else {
        return u64::from(std::process::id());
    };
    match own.load(Ordering::Acquire) {
        0 => {
            let next = LAST.fetch_add(1, Ordering::AcqRel) + 1;
            own.compare_exchange(0, next, Ordering::AcqRel, Ordering::Acquire).map_or_else(|known| known, |_| next)
        }
        known => known,
    }
}

/// A word that is 0 again in every child; `None` where the system has no such memory.
fn wiped_in_children() -> Option<&'static AtomicU64> {
    #[cfg(target_os = "linux")]
    {
        use std::ptr::null_mut;
        use std::sync::atomic::AtomicPtr;

        static PAGE: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
        let mut page = PAGE.load(Ordering::Acquire);
        if page.is_null() {
            const BYTES: usize = 4096;
            let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: new memory, given back where it does not serve.
            unsafe {
                let new = libc::mmap(null_mut(), BYTES, access, kind, -1, 0);
                if new == libc::MAP_FAILED {
                    return None;
                }
                let serves = libc::madvise(new, BYTES, libc::MADV_WIPEONFORK) == 0;
                let won = serves
                    && PAGE.compare_exchange(null_mut(), new.cast(), Ordering::AcqRel, Ordering::Acquire).is_ok();
                if !won {
                    libc::munmap(new, BYTES);
                }
            }
            page = PAGE.load(Ordering::Acquire);
        }
        // SAFETY: a page of zeros or of this number, which stays.
        unsafe { page.as_ref() }
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// A mutex. Where the parent of this process held it at the time of the `fork`, it is free here, with fresh contents: those
/// that its holder was changing are left as they are.
pub(crate) struct ForkMutex<T> {
    /// The generation of the holder, or 0.
    holder: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: one thread at a time has the value.
unsafe impl<T: Send> Sync for ForkMutex<T> {}

/// Gives the mutex back when it is dropped.
pub(crate) struct ForkGuard<'a, T>(&'a ForkMutex<T>);

impl<T: Default> ForkMutex<T> {
    pub const fn new(value: T) -> Self {
        Self { holder: AtomicU64::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits until no other thread of this process has it.
    pub fn lock(&self) -> ForkGuard<'_, T> {
        let own = generation();
        let take = |from| self.holder.compare_exchange(from, own, Ordering::Acquire, Ordering::Relaxed);
        let mut pause = Duration::from_micros(20);
        loop {
            match take(0) {
                Ok(_) => return ForkGuard(self),
                Err(holder) if holder != own && holder != 0 => {
                    if take(holder).is_ok() {
                        // SAFETY: held by this thread now; the old value is not dropped.
                        unsafe { self.value.get().write(T::default()) };
                        return ForkGuard(self);
                    }
                }
                Err(_) => {
                    std::thread::sleep(pause);
                    pause = (2 * pause).min(Duration::from_millis(2));
                }
            }
        }
    }
}

impl<T> Deref for ForkGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: held.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for ForkGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: held.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for ForkGuard<'_, T> {
    fn drop(&mut self) {
        self.0.holder.store(0, Ordering::Release);
    }
}

impl<T: Default> Default for ForkMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let count = ForkMutex::new(0_u64);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| *count.lock() += 1));
            }
        });
        assert_eq!(*count.lock(), 2000);
    }

    #[test]
    fn what_another_process_held_is_free_and_fresh() {
        let mutex = ForkMutex::new(5);
        mutex.holder.store(generation() + 7, Ordering::Relaxed);
        assert_eq!(*mutex.lock(), 0);
        assert_eq!(*mutex.lock(), 0);
    }

    #[test]
    fn a_child_is_another_generation() {
        let own = generation();
        assert_eq!(own, generation());
        // SAFETY: the child only reads and ends.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::_exit(i32::from(generation() == own || generation() != generation()));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0);
        }
    }
}
