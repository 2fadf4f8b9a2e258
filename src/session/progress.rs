//! The progress of a call, for the thread that waits.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use super::options::Stage;
use crate::engine::Control;

#[derive(Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    /// Bits of the fraction at which the current tiles begin, and of their share.
    base: AtomicU64,
    share: AtomicU64,
    /// Multiply-accumulates of the current tiles.
    macs: AtomicU64,
    /// Slices that are in the caller's buffers.
    slices_done: AtomicU64,
}

impl Progress {
    /// A call begins.
    pub fn reset(&self) {
        self.slices_done.store(0, Ordering::Release);
        self.enter(Stage::Plan, 0.0);
    }

    /// Slice `z`, and all before it, are in the caller's buffers.
    pub fn finished(&self, z: usize) {
        self.slices_done.store(z as u64 + 1, Ordering::Release);
    }

    pub fn slices_done(&self) -> u64 {
        self.slices_done.load(Ordering::Acquire)
    }

    /// Fraction and stage.
    pub fn now(&self, control: &Control) -> (f64, Stage) {
        let number = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
        let macs = self.macs.load(Ordering::Relaxed);
        let done = if macs == 0 { 0.0 } else { (control.macs() as f64 / macs as f64).min(1.0) };
        let stage = match self.stage.load(Ordering::Relaxed) {
            2 => Stage::Intensity,
            3 => Stage::Network,
            4 => Stage::Mask,
            _ => Stage::Plan,
        };
        (number(&self.base) + number(&self.share) * done, stage)
    }

    /// A stage begins at `fraction` of the whole.
    pub fn enter(&self, stage: Stage, fraction: f64) {
        self.share.store(0, Ordering::Relaxed);
        self.base.store(fraction.to_bits(), Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// Tiles of so many multiply-accumulates begin, `share` of the whole.
    pub fn enter_tiles(&self, fraction: f64, share: f64, macs: u64, control: &Control) {
        self.enter(Stage::Network, fraction);
        control.reset_macs();
        self.macs.store(macs, Ordering::Relaxed);
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }
}
