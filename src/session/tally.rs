//! Work and memory of a call, added up.

use super::options::Work;
use super::run::Run;
use crate::engine::{Bytes, Engine};
use crate::plan::{AxisPlans, PlannedPiece};

/// Work and memory of the pieces so far.
#[derive(Default)]
pub(super) struct Tally {
    pub work: Work,
    /// Most bytes that pieces took, with all that were held besides.
    pieces: Bytes,
    /// Most bytes of the plans kept for reuse.
    plans_bytes: u64,
}

impl Tally {
    /// Counts pieces that are held together, which takes `held` bytes of the host; returns their
    /// multiply-accumulates.
    pub fn add(
        &mut self,
        run: &Run<'_>,
        engine: &dyn Engine,
        (pieces, held): (&[PlannedPiece], u64),
        plans: &AxisPlans,
    ) -> u64 {
        let (convolutions, head) = engine.unit_macs();
        let mut macs = 0;
        for piece in pieces {
            macs += piece.plan.macs(convolutions, head);
            let patches = piece.points.len() as u64;
            self.work.patches += patches;
            self.work.macs_unshared += patches * run.patch_macs();
            let bytes = engine.piece_bytes(piece) + Bytes::host(held);
            self.pieces = self.pieces.max(bytes);
        }
        self.work.macs += macs;
        self.work.tiles += pieces.len() as u64;
        self.plans_bytes = self.plans_bytes.max(plans.bytes() as u64);
        macs
    }

    /// Counts bytes of the device that were reserved for pieces.
    pub fn reserve(&mut self, bytes: u64) {
        self.pieces.device = self.pieces.device.max(bytes);
    }

    /// Most bytes held at once, with `held` for the whole call.
    pub fn peak(&self, held: Bytes) -> Bytes {
        held + self.pieces + Bytes::host(self.plans_bytes)
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
