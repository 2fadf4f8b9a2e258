//! Memory of the host and of a device, counted apart.

use std::fmt;
use std::ops::Add;

/// Bytes held in each memory; sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Host memory.
    pub host: u64,
    /// Device memory.
    pub device: u64,
}

impl Bytes {
    /// So many bytes of the host.
    pub(crate) fn host(bytes: u64) -> Self {
        Self { host: bytes, device: 0 }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        Self { host: self.host.max(other.host), device: self.device.max(other.device) }
    }

    pub(crate) fn min(self, other: Self) -> Self {
        Self { host: self.host.min(other.host), device: self.device.min(other.device) }
    }

    /// The rest of each after `taken`.
    pub(crate) fn less(self, taken: Self) -> Self {
        Self { host: self.host.saturating_sub(taken.host), device: self.device.saturating_sub(taken.device) }
    }

    /// True where neither memory holds more than `budget`.
    pub(crate) fn fits(self, budget: Self) -> bool {
        self.host <= budget.host && self.device <= budget.device
    }
}

/// Memory of a tile.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TileMemory {
    /// When all of its pixels are stored.
    pub whole: Bytes,
    /// Bytes of the host besides, when a ROI leaves some of them out.
    pub lists: u64,
    /// Bytes of the host for the whole call, for all cached tiles of the same axes together.
    pub cached: u64,
}

/// Device memory that a call asks an engine to hold for tiles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reservation {
    /// Bytes of the largest tile.
    pub min: u64,
    /// Bytes for slices side by side, where memory allows.
    pub wanted: u64,
    /// No more than that is kept from earlier calls.
    pub budget: Bytes,
}

impl Reservation {
    /// For one slice at a time.
    pub fn in_turn(largest: Bytes, budget: Bytes) -> Self {
        Self { min: largest.device, wanted: largest.device, budget }
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { host: self.host.saturating_add(other.host), device: self.device.saturating_add(other.device) }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.host >> 20)?;
        if self.device > 0 {
            write!(f, ", {} MiB on the device", self.device >> 20)?;
        }
        Ok(())
    }
}
