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
//! head      key(p)    = (value[p][0], ..., value[p][g-1])             one output pixel per patch
//! value'[p][j] = number of key(p, j) among the distinct keys of this layer
//! ```
//!
//! Equal keys are equal activations, for any patch size, stride, padding and depth. Each layer of all patches of a tile
//! becomes one convolution over an *extended image* `[row values][column values][channels]` whose neighbours come from
//! two per-axis tap tables ([`axis`], made by [`value_numbering`], kept by [`cache`]). With a ROI, [`roi`] finds the
//! pixels that the wanted patches need; [`tile`] joins it all. For engines that evaluate neighbouring values together,
//! [`winograd_runs`] says which, and [`neighbourhood`] which patches decide that for a tile.
//!
//! Only values that some patch needs are numbered: an odd row that a pool drops costs nothing.

// Lists of ranges often have one.
#![allow(clippy::single_range_in_vec_init)]

mod axis;
mod cache;
mod neighbourhood;
mod roi;
mod steps;
mod stored_pixels;
#[cfg(test)]
mod tests;
mod tile;
mod value_numbering;
mod winograd_runs;

pub(crate) use axis::{AxisPlan, AxisSizes, TapTable};
pub(crate) use cache::AxisPlans;
pub(crate) use neighbourhood::strip_limits;
pub(crate) use steps::{HEAD, MacsPerOutput, STEPS, Step, ZERO};
pub(crate) use tile::{Image, PlannedTile, TileGeometry, TilePlan};
pub(crate) use value_numbering::values_of_a_patch;
pub(crate) use winograd_runs::{MAX_RUN, MaxRuns};
