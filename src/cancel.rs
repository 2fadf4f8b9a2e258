//! The request to stop: set from any thread, checked by everything that takes long.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

/// Elements of a long loop from one check to the next: even where each lies in a fresh page of memory, that is some milliseconds.
pub(crate) const AT_A_TIME: usize = 4096;

/// A flag that is handed down by reference.
#[derive(Default)]
pub(crate) struct Cancel(AtomicBool);

impl Cancel {
    pub fn request(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Ends the request; true if there was one.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }

    /// Fails once a stop is requested.
    pub fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Visits all of a long list, with their indices, and fails once a stop is requested.
    pub fn each<T>(&self, list: &mut [T], mut visit: impl FnMut(usize, &mut T)) -> Result<(), Error> {
        for (part, list) in list.chunks_mut(AT_A_TIME).enumerate() {
            self.check()?;
            list.iter_mut().enumerate().for_each(|(i, element)| visit(part * AT_A_TIME + i, element));
        }
        Ok(())
    }
}
