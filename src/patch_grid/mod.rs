//! The patch grid: the patches' centres on each axis, the crop, the patches that a ROI asks for ([`selection`]), and the subgrids
//! that are evaluated together ([`subgrid`]).
//!
//! ```text
//! centre k = origin + k * stride while inside the crop     origin: the crop's corner
//! start  k = centre k - patch_size / 2                     first pixel of the patch, may be black
//! footprint of k = the voxels of the crop that are nearest to centre k, ties to the lower index
//! ```
//! Pixels are the model's; crop and footprints count the caller's voxels ([`voxel_axis`]).

mod axis;
mod grid;
mod selection;
mod subgrid;
mod voxel_axis;

pub use axis::Axis;
pub use grid::{Crop, Padding, PatchGrid, check_patch};
pub(crate) use selection::Selection;
pub(crate) use subgrid::{StripLimits, Strips, Subgrid, interleaved, splits};
pub(crate) use voxel_axis::CentrePair;
