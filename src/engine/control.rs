//! Messages between the thread that waits and the threads that work.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cancel::Cancel;

/// A request to stop one way, progress the other.
#[derive(Default)]
pub(crate) struct Control {
    pub cancel: Cancel,
    /// Multiply-accumulates done since the current tiles began.
    macs: AtomicU64,
}

impl Control {
    /// Counts finished work.
    pub fn add_macs(&self, macs: u64) {
        self.macs.fetch_add(macs, Ordering::Relaxed);
    }

    /// Begins the count for further tiles.
    pub fn reset_macs(&self) {
        self.macs.store(0, Ordering::Relaxed);
    }

    /// Multiply-accumulates done since then.
    pub fn macs(&self) -> u64 {
        self.macs.load(Ordering::Relaxed)
    }
}
