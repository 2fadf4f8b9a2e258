//! The tiles of a slice, planned one at a time or once for all slices of a call.

use std::collections::HashSet;
use std::sync::Arc;

use super::tiling::{Tile, Tiling};
use crate::engine::Bytes;
use crate::error::Error;
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::plan::{AxisPlans, PlannedTile, TilePlan};

pub(super) enum SliceTiles {
    /// Planned one at a time: a ROI's plans are large, stacks of single patches are many, and so may tiles be.
    OneByOne(Vec<Tile>),
    /// Planned once for all slices.
    Cached(CachedTiles),
}

/// Planned tiles that are held together.
pub(super) struct CachedTiles {
    pub tiles: Vec<PlannedTile>,
    /// Bytes of the host for all of them, with their axes and what the engine keeps for them.
    pub bytes: u64,
}

impl SliceTiles {
    /// Plans the tiles once where they serve the whole call, and the budget allows that besides the `largest` of them.
    pub fn new(tiling: &Tiling<'_>, tiles: Vec<Tile>, largest: Bytes, plans: &mut AxisPlans) -> Result<Self, Error> {
        if tiling.lists || !tiling.sharing {
            return Ok(Self::OneByOne(tiles));
        }
        let budget = tiling.budget.less(largest).host;
        Ok(match CachedTiles::new(tiling, &tiles, budget, plans)? {
            Some(cached) => Self::Cached(cached),
            None => Self::OneByOne(tiles),
        })
    }
}

impl CachedTiles {
    /// Plans all tiles; `None` where that takes more than `budget` bytes.
    fn new(tiling: &Tiling<'_>, tiles: &[Tile], budget: u64, plans: &mut AxisPlans) -> Result<Option<Self>, Error> {
        const WHAT: &str = "plans of a slice";
        let images = tiles.len().saturating_mul(TilePlan::IMAGE_BYTES);
        if images as u64 > budget {
            return Ok(None);
        }
        ensure_headroom(images, WHAT)?;
        let mut cached = Self { tiles: try_with_capacity(tiles.len(), WHAT)?, bytes: 0 };
        let (mut known_axes, mut geometries) = (HashSet::new(), HashSet::new());
        for tile in tiles {
            tiling.cancel.check()?;
            let planned = tiling.plan(tile, plans)?;
            let axes = &planned.plan.axes;
            cached.bytes += planned.bytes();
            for axis in [&axes.rows, &axes.columns] {
                if known_axes.insert(Arc::as_ptr(axis)) {
                    cached.bytes += axis.bytes() as u64;
                }
            }
            if geometries.insert(planned.plan.geometry()) {
                cached.bytes += tiling.info.memory.tile(axes).cached;
            }
            if cached.bytes > budget {
                return Ok(None);
            }
            cached.tiles.push(planned);
        }
        Ok(Some(cached))
    }
}
