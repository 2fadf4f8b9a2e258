//! The patches' centres on each axis, and the crop.

use std::ops::Range;

use super::axis::Axis;
use super::voxel_axis::VoxelAxis;
use crate::axes::Axes;
use crate::error::Error;
use crate::network::{PATCH_SIZE_MAX, PATCH_SIZE_MIN};
use crate::resampling::Scale;

/// A rectangle of the slice in voxels, half-open; outside it everything is black.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Left edge.
    pub x0: u64,
    /// Top edge.
    pub y0: u64,
    /// Right edge, exclusive.
    pub x1: u64,
    /// Bottom edge, exclusive.
    pub y1: u64,
}

/// Input of a convolution's taps outside their patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// Zero, as the network was trained.
    Patch,
    /// The true neighbour from the slice; zero outside what all patches cover together.
    Image,
}

/// Patch centres of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchGrid {
    /// Along rows of pixels.
    pub x: Axis,
    /// Along columns of pixels.
    pub y: Axis,
    /// The caller's voxels around the centres.
    pub(crate) voxels: Axes<VoxelAxis>,
}

impl PatchGrid {
    /// Checks patch size, stride and crop against the slice.
    pub(crate) fn new(scale: Axes<Scale>, patch_size: u32, stride: u32, crop: Option<Crop>) -> Result<Self, Error> {
        check_patch(patch_size, stride)?;
        let (width, height) = (scale.columns.voxels as u64, scale.rows.voxels as u64);
        let crop = crop.unwrap_or(Crop { x0: 0, y0: 0, x1: width, y1: height });
        let Crop { x0, y0, x1, y1 } = crop;
        if x0 >= x1 || y0 >= y1 || x1 > width || y1 > height {
            return Err(Error::invalid(format!(
                "crop {x0},{y0},{x1},{y1}: must satisfy 0 <= x0 < x1 <= {width} and \
                 0 <= y0 < y1 <= {height}"
            )));
        }
        let axis = |scale: Scale, crop: Range<usize>| {
            let pixels = scale.pixels_of(crop.clone());
            let (patch_size, stride) = (patch_size as usize, stride as usize);
            VoxelAxis::new(scale, crop, Axis { origin: pixels.start, len: pixels.len(), patch_size, stride })
        };
        let voxels = Axes {
            rows: axis(scale.rows, y0 as usize..y1 as usize),
            columns: axis(scale.columns, x0 as usize..x1 as usize),
        };
        Ok(Self { x: voxels.columns.axis(), y: voxels.rows.axis(), voxels })
    }

    /// Rows and columns of a slice in the model's pixels.
    pub(crate) fn pixels(&self) -> Axes<usize> {
        self.voxels.map(|axis| axis.scale.pixels)
    }

    /// Patches of a slice.
    pub fn patches(&self) -> usize {
        self.x.count() * self.y.count()
    }

    /// Along both.
    pub fn axes(&self) -> Axes<Axis> {
        Axes { rows: self.y, columns: self.x }
    }
}

/// Checks the ranges of patch size and stride.
pub fn check_patch(patch_size: u32, stride: u32) -> Result<(), Error> {
    if !(PATCH_SIZE_MIN..=PATCH_SIZE_MAX).contains(&(patch_size as usize)) {
        return Err(Error::invalid(format!(
            "patch_size {patch_size}: must be {PATCH_SIZE_MIN}..={PATCH_SIZE_MAX} pixels"
        )));
    }
    if !(1..=patch_size).contains(&stride) {
        return Err(Error::invalid(format!("stride {stride}: must be 1..=patch_size ({patch_size}) pixels")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Extents;

    fn axis(len: usize, stride: usize) -> Axis {
        Axis { origin: 0, len, patch_size: 32, stride }
    }

    #[test]
    fn centres_fill_the_crop() {
        let grid =
            PatchGrid::new(Scale::same_axes(Extents::new(512, 512, 1, "volume").unwrap()), 257, 7, None).unwrap();
        assert_eq!((grid.x.count(), grid.patches()), (74, 5476));
        assert_eq!(grid.x.start(0), -128);
        assert_eq!(axis(8, 8).count(), 1);
        assert_eq!(axis(9, 8).count(), 2);
    }
}
