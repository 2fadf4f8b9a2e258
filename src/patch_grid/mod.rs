//! The patch grid: the patches' centres on each axis, the crop, the patches that a ROI asks for ([`selection`]), and the blocks of them
//! that are evaluated together ([`blocks`]).
//!
//! ```text
//! centre k = origin + k * stride while inside the crop     origin: the crop's corner
//! start  k = centre k - patch_size / 2                     first pixel of the patch, may be black
//! footprint of k = the voxels of the crop that are nearest to centre k, ties to the lower index
//! ```
//! Pixels are the model's; crop and footprints count the caller's voxels ([`voxel_axis`]).

mod axis;
mod blocks;
mod grid;
mod selection;
mod voxel_axis;

pub use axis::Axis;
pub(crate) use blocks::{PatchBlock, StripLimits, Strips, interleaved, splits};
pub use grid::{Crop, Padding, PatchGrid, check_patch};
pub(crate) use selection::Selection;
pub(crate) use voxel_axis::CentrePair;
