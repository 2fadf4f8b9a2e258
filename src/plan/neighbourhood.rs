//! The patches of an axis that decide the plan of some of them.
//!
//! Winograd runs are cut once for all patches of the slice, so that results do not depend on the tile. But what a tile gets of them
//! is decided near it, and a plan of all patches of a long axis takes long and gigabytes. The plan of a tile is made from those of its
//! neighbourhood, and is the same:
//!
//! ```text
//!     |black| patches ... [ margin |   tile   | margin ] ...                    |black|
//! ```
//! - A layer's whole runs reach over the tile by a run, and so do those of the layer before over what they read. Within the sum of
//!   these the values are those of patches that overlap it: the margin.
//! - Runs are cut at pixels counted from the slice's first patch. The cuts of all layers come together again after a period. A neighbourhood begins with one, so that most tiles of an axis have one in common.
//! - Values that are all black are the same at both ends, and belong to the first run there is: the ends go together.

use std::ops::Range;

use super::winograd_runs::{MaxRuns, in_order};
use crate::network::POOL_AFTER;
use crate::patch_grid::{Axis, StripLimits};

/// Pixels that the longest tile covers, and those of its patches added up: longer ones have hardly less work.
const MAX_COVERED: usize = 1 << 16;
const MAX_ADDED_UP: usize = 1 << 20;

/// Pixels of the coarsest layer that has runs.
const COARSEST: usize = 16;

/// Pixels of the slice from a cut of each convolution's runs to the next.
fn cuts(max_runs: &MaxRuns) -> impl Iterator<Item = usize> {
    let pools = |convolution| POOL_AFTER.iter().filter(|&&after| after <= convolution).count();
    max_runs.iter().enumerate().map(move |(convolution, max)| max << pools(convolution))
}

/// How far an axis is looked at for the plan of a tile.
pub(super) struct Neighbourhood {
    /// Patches of the axis.
    count: usize,
    /// Patches at the beginning that see the left end.
    left: usize,
    /// The first of those that see the right end.
    right: usize,
    /// Patches on each side of a tile.
    margin: usize,
    /// See [`period`].
    period: usize,
}

impl Neighbourhood {
    /// `reach`: pixels that a patch sees beyond itself.
    pub fn new(axis: &Axis, max_runs: &MaxRuns, reach: usize) -> Self {
        let Axis { len, patch_size, stride, .. } = *axis;
        let count = axis.count();
        // Patch k sees nothing beyond the right end while k * stride is at most this: of the crop, and of what all patches cover.
        let inside = len.checked_sub(patch_size - patch_size / 2).map(|room| room.min((count - 1) * stride));
        let inside = inside.and_then(|room| room.checked_sub(reach));
        Self {
            count,
            left: (patch_size / 2 + reach).div_ceil(stride).min(count),
            right: inside.map_or(0, |inside| inside / stride + 1),
            margin: (patch_size + 2 * reach + cuts(max_runs).sum::<usize>()).div_ceil(stride) + before(stride),
            period: period(max_runs, stride),
        }
    }

    /// For a tile with patches from the first to the last of `tile`.
    pub fn of(&self, tile: Range<usize>) -> Vec<Range<usize>> {
        // Tiles of nearly the same length have the same neighbourhoods.
        let len = tile.len().next_power_of_two();
        let around = len + 2 * self.margin + self.period;
        let (left_end, right_begin) = (self.left + around, self.right.saturating_sub(around));
        if left_end >= right_begin {
            return vec![0..self.count];
        }
        let first = tile.start.saturating_sub(self.margin) / self.period * self.period;
        if first < self.left || first + around > self.right {
            vec![0..left_end, right_begin..self.count]
        } else {
            vec![first..first + around]
        }
    }
}

/// Patches from one to the next that has coarse pixels in common with it and decides which of its values are new.
fn before(stride: usize) -> usize {
    if in_order(stride) { COARSEST >> stride.trailing_zeros().min(COARSEST.trailing_zeros()) } else { 0 }
}

/// Limits of the strips of `axis` that are planned at a time.
pub(crate) fn strip_limits(axis: &Axis, max_runs: Option<&MaxRuns>) -> StripLimits {
    StripLimits { max: max_tile(axis), period: max_runs.map_or(1, |max_runs| period(max_runs, axis.stride)) }
}

/// Patches of the longest tile of an axis.
pub(super) fn max_tile(axis: &Axis) -> usize {
    (MAX_COVERED / axis.stride).min(MAX_ADDED_UP / axis.patch_size).max(1)
}

/// Patches from a cut of the runs of all layers to the next.
fn period(max_runs: &MaxRuns, stride: usize) -> usize {
    let together = |pixels: usize| cuts(max_runs).skip(1).all(|cut| pixels.is_multiple_of(cut));
    (1..).find(|&patches| together(patches * stride)).unwrap_or(1)
}
