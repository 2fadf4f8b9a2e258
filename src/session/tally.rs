//! Work and memory of a call, added up.

use super::options::Work;
use crate::engine::{Bytes, EngineInfo};
use crate::plan::{AxisPlans, PlannedTile};

/// Work and memory of the tiles so far.
pub(super) struct Tally<'a> {
    info: &'a EngineInfo,
    /// Multiply-accumulates of one patch by itself.
    patch_macs: u64,
    pub work: Work,
    /// Maximum bytes of tiles, with everything that was held besides.
    tiles: Bytes,
    /// Maximum bytes of the plans kept for reuse.
    plans: u64,
}

impl<'a> Tally<'a> {
    pub fn new(info: &'a EngineInfo, patch_size: u32) -> Self {
        let patch_macs = info.macs_per_output.patch(patch_size as usize);
        Self { info, patch_macs, work: Work::default(), tiles: Bytes::default(), plans: 0 }
    }

    /// Counts tiles that are held together, which takes `held` bytes of the host; returns their multiply-accumulates.
    pub fn add(&mut self, tiles: &[PlannedTile], held: u64, plans: &AxisPlans) -> u64 {
        let mut macs = 0;
        for tile in tiles {
            macs += tile.plan.macs(&self.info.macs_per_output);
            let patches = tile.patches.len() as u64;
            self.work.patches += patches;
            self.work.macs_unshared += patches * self.patch_macs;
            self.tiles = self.tiles.max(self.info.memory.planned(tile) + Bytes::host(held));
        }
        self.work.macs += macs;
        self.work.tiles += tiles.len() as u64;
        self.plans = self.plans.max(plans.bytes() as u64);
        macs
    }

    /// Counts bytes of the device that were reserved for tiles.
    pub fn reserve(&mut self, bytes: u64) {
        self.tiles.device = self.tiles.device.max(bytes);
    }

    /// Counts what parts of the largest tile may take, and plans of all of them.
    pub fn reserve_any_part(&mut self, largest: Bytes, plans: &AxisPlans) {
        self.tiles = self.tiles.max(largest);
        self.plans = plans.limit() as u64;
    }

    /// Maximum bytes held at once, with `held` for the whole call.
    pub fn peak(&self, held: Bytes) -> Bytes {
        held + self.tiles + Bytes::host(self.plans)
    }
}

impl Work {
    /// The work of `slices` equal slices.
    pub fn times(self, slices: u64) -> Self {
        Self {
            patches: self.patches * slices,
            macs: self.macs.saturating_mul(slices),
            macs_unshared: self.macs_unshared.saturating_mul(slices),
            tiles: self.tiles * slices,
        }
    }
}
