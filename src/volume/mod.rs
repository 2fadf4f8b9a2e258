//! Borrowed views of the caller's voxels and output buffers: element type, extents, byte strides.
//!
//! Checks happen before a view is made, so that reading and writing through it is safe: extents are
//! positive, the last byte that the strides reach is addressable, and output views never reach a byte
//! twice. Rows are copied out and in with unaligned accesses: any stride and any address will do.

mod array;
mod extents;
mod output;
mod reading;

pub(crate) use array::StridedArray;
pub(crate) use extents::SLICE_SIDE_MAX;
pub use extents::{Extents, Memory, Spacing, Strides};
pub(crate) use output::OutputView;
pub use output::VolumeMut;
pub use reading::{Volume, Voxel, VoxelType};
