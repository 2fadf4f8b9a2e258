//! The tiles of a slice, planned one at a time or once for all slices of a call.

use std::collections::HashSet;
use std::sync::Arc;

use super::tiling::{Cut, Tiling};
use crate::error::Error;
use crate::memory::{try_insert, try_push};
use crate::patch_grid::Selection;
use crate::plan::{AxisPlans, PlannedTile};

/// Bytes of plans that are held for a slice, at most.
const MAX_CACHED: u64 = 256 << 20;

pub(super) enum SliceTiles {
    /// Planned one at a time: a ROI's plans are large, stacks of single patches are many, and so may tiles be.
    OneByOne(Cut),
    /// Planned once for all slices; bytes of the host for all of them, with their axes and what the engine keeps for them.
    Cached { tiles: Vec<PlannedTile>, bytes: u64 },
}

impl SliceTiles {
    /// Plans the tiles once where they serve the whole call, and the budget allows that besides the largest of them.
    pub fn new(tiling: &Tiling<'_>, cut: Cut, selection: &Selection, plans: &mut AxisPlans) -> Result<Self, Error> {
        let cached = if tiling.lists || !tiling.sharing { None } else { Self::cached(tiling, &cut, selection, plans)? };
        Ok(cached.unwrap_or(Self::OneByOne(cut)))
    }

    /// Plans all tiles; `None` where that takes too many bytes.
    fn cached(
        tiling: &Tiling<'_>,
        cut: &Cut,
        selection: &Selection,
        plans: &mut AxisPlans,
    ) -> Result<Option<Self>, Error> {
        const WHAT: &str = "plans of a slice";
        let budget = tiling.budget.less(cut.largest).host.min(MAX_CACHED);
        let (mut tiles, mut bytes) = (Vec::new(), 0);
        let (mut known_axes, mut geometries) = (HashSet::new(), HashSet::new());
        for tile in tiling.tiles(cut, selection) {
            tiling.cancel.check()?;
            let planned = tiling.plan(&tile?, plans)?;
            let axes = &planned.plan.axes;
            bytes += planned.bytes();
            for axis in [&axes.rows, &axes.columns] {
                if try_insert(&mut known_axes, Arc::as_ptr(axis), WHAT)? {
                    bytes += axis.bytes() as u64;
                }
            }
            if try_insert(&mut geometries, planned.plan.geometry(), WHAT)? {
                bytes += tiling.info.memory.tile(&planned.plan.sizes()).cached;
            }
            if bytes > budget {
                return Ok(None);
            }
            try_push(&mut tiles, planned, WHAT)?;
        }
        Ok(Some(Self::Cached { tiles, bytes }))
    }
}
