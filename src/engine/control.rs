//! What the thread that waits and the threads that work tell each other.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;

/// A wish to stop one way, work done the other.
#[derive(Default)]
pub(crate) struct Control {
    cancelled: AtomicBool,
    /// Multiply-accumulates done since the last piece began.
    macs: AtomicU64,
}

impl Control {
    /// Asks the workers to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Takes the wish to stop back: it has been heard.
    pub fn clear_cancel(&self) {
        self.cancelled.store(false, Ordering::SeqCst);
    }

    /// Fails if the call is to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Counts finished work.
    pub fn add_macs(&self, macs: u64) {
        self.macs.fetch_add(macs, Ordering::Relaxed);
    }

    /// A piece begins.
    pub fn reset_macs(&self) {
        self.macs.store(0, Ordering::Relaxed);
    }

    /// Work finished since the piece began.
    pub fn macs(&self) -> u64 {
        self.macs.load(Ordering::Relaxed)
    }
}
