//! The plan: which activations of all patches are the same, found by value numbering on each axis.
//!
//! VGG16 pads every convolution with zeros at the border of *each patch*, so near its border a patch's
//! activations differ from its neighbour's at the same pixel. But row r of an activation depends on the
//! patch only through "which input rows, in which order, with zeros where", and columns likewise. So
//! number the distinct *values* of each axis, layer by layer, as a compiler numbers common
//! subexpressions (hash-consing; Click, "Global code motion / global value numbering", 1995):
//!
//! ```text
//! input     key(p, j) = the pixel start(p) + j, or BLACK (one value for all black pixels)
//! conv 3x3  key(p, j) = (value[p][j-1] or ZERO, value[p][j], value[p][j+1] or ZERO)
//! pool 2    key(p, j) = (value[p][2j], value[p][2j+1])
//! head      key(p)    = (value[p][0], ..., value[p][g-1])             one lattice point per patch
//! value'[p][j] = number of key(p, j) among the distinct keys of this layer
//! ```
//!
//! Equal keys are equal activations, for any patch size, stride, padding and depth. Each layer of all
//! patches of a tile becomes one convolution over an *extended image*
//! `[row values][column values][channels]` whose neighbours come from two per-axis tap tables
//! ([`axis`], made by [`numbering`], kept by [`cache`]); [`needed`] finds which of its pixels the wanted
//! lattice points need, and [`pixels`] joins it all. For engines that evaluate neighbouring values together, [`chains`] says which.
//!
//! Only values that some patch needs are numbered: an odd row that a pool drops costs nothing.

mod axis;
mod cache;
mod chains;
#[cfg(test)]
mod figures;
mod needed;
mod numbering;
mod piece;
mod pixels;
mod stored;

pub(crate) use axis::{AxisPlan, TapTable};
pub(crate) use cache::AxisPlans;
pub(crate) use chains::MOST_CHAIN;
pub(crate) use piece::PlannedPiece;
pub(crate) use pixels::{Image, TileGeometry, TilePlan};

use crate::network::{CONVOLUTIONS, POOL_AFTER};

/// A tap that reads nothing but zeros.
pub(crate) const ZERO: i32 = -1;

/// One layer as the plan sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// 3x3 convolution; the number counts from 0.
    Convolution(usize),
    /// Max pool 2x2, stride 2, floor.
    Pool,
    /// The first dense layer: a g x g convolution whose output image is the lattice.
    Head,
}

impl Step {
    /// Whether engines may evaluate several values of this layer together: convolutions but the first,
    /// which reads too few channels to be worth it.
    fn chained(self) -> bool {
        matches!(self, Self::Convolution(1..))
    }
}

/// The layers that need tables, in order. Later dense layers work point by point.
pub(crate) const STEPS: [Step; CONVOLUTIONS + POOL_AFTER.len() + 1] = {
    use Step::{Convolution as Conv, Head, Pool};
    [
        Conv(0),
        Conv(1),
        Pool,
        Conv(2),
        Conv(3),
        Pool,
        Conv(4),
        Conv(5),
        Conv(6),
        Pool,
        Conv(7),
        Conv(8),
        Conv(9),
        Pool,
        Conv(10),
        Conv(11),
        Conv(12),
        Pool,
        Head,
    ]
};
