//! The plan of a tile: the extended images of its layers, and the pixels of each that are stored because wanted patches
//! need them.
//!
//! If every patch is wanted every pixel is stored, and nothing is listed.

use std::sync::Arc;

use super::axis::{AxisPlan, AxisSizes};
use super::roi::Needed;
use super::steps::{HEAD, MacsPerOutput, STEPS};
use super::stored_pixels::StoredPixels;
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;

/// The extended image of one layer: rows x columns of pixels, all of them or listed ones stored, row by row.
#[derive(Debug)]
pub(crate) struct Image {
    pub rows: usize,
    pub columns: usize,
    listed: Option<StoredPixels>,
}

impl Image {
    fn dense(size: Axes<usize>) -> Self {
        Self { rows: size.rows, columns: size.columns, listed: None }
    }

    pub fn len(&self) -> usize {
        match &self.listed {
            Some(listed) => listed.len(),
            None => self.rows * self.columns,
        }
    }

    /// The stored pixels; `None`: all are.
    pub fn listed(&self) -> Option<&StoredPixels> {
        self.listed.as_ref()
    }

    /// (row, column) of stored pixel `index`.
    pub fn position(&self, index: usize) -> (usize, usize) {
        match &self.listed {
            Some(listed) => listed.position(index),
            None => (index / self.columns, index % self.columns),
        }
    }

    /// Index of pixel (row, column) among the stored ones; only for one that is stored.
    pub fn index_of(&self, row: usize, column: usize) -> usize {
        match &self.listed {
            Some(listed) => listed.index_of(row, column),
            None => row * self.columns + column,
        }
    }

    /// True where pixel (row, column) is stored.
    pub fn stores(&self, row: usize, column: usize) -> bool {
        (self.listed.as_ref()).is_none_or(|listed| listed.stores(row, column))
    }
}

/// Identity of a tile's axes: equal for tiles that differ in position only, as long as one of them lives.
pub(crate) type TileGeometry = Axes<usize>;

#[derive(Debug)]
pub(crate) struct TilePlan {
    pub axes: Axes<Arc<AxisPlan>>,
    /// The input image, then the output of every step.
    images: Vec<Image>,
}

impl TilePlan {
    /// Bytes of the images: the input, then one per step.
    pub const IMAGE_BYTES: usize = size_of::<Image>() * (STEPS.len() + 1);

    /// Joins two axes. `patches`: the wanted ones ([rows][columns]); `None`: all.
    pub fn new(axes: Axes<Arc<AxisPlan>>, patches: Option<&[bool]>, cancel: &Cancel) -> Result<Self, Error> {
        let sizes = axes.sizes();
        let mut images = vec![Image::dense(sizes.inputs())];
        images.extend((0..STEPS.len()).map(|index| Image::dense(sizes.output(index))));
        if let Some(patches) = patches {
            let mut needed = Needed::patches(patches, images[STEPS.len()].columns, cancel)?;
            // The input image stays whole.
            for index in (0..STEPS.len()).rev() {
                let layer = axes.layer(index);
                needed = needed.with_whole_runs(layer, cancel)?;
                images[index + 1].listed = StoredPixels::new(&needed, cancel)?;
                if index > 0 {
                    let input = Axes { rows: images[index].rows, columns: images[index].columns };
                    needed = needed.before(layer, input, cancel)?;
                }
            }
        }
        Ok(Self { axes, images })
    }

    /// Maximum bytes of the pixel lists of a tile of these axes.
    pub fn max_list_bytes(axes: &Axes<AxisSizes>) -> u64 {
        (0..STEPS.len()).map(|index| StoredPixels::max_bytes(axes.output(index))).sum()
    }

    pub fn sizes(&self) -> Axes<AxisSizes> {
        self.axes.sizes()
    }

    pub fn geometry(&self) -> TileGeometry {
        self.axes.as_ref().map(|axis| Arc::as_ptr(axis) as usize)
    }

    /// The image that step `index` reads.
    pub fn input_of(&self, index: usize) -> &Image {
        &self.images[index]
    }

    /// The image that step `index` writes.
    pub fn output_of(&self, index: usize) -> &Image {
        &self.images[index + 1]
    }

    /// The head's output: one pixel for each patch.
    pub fn patches(&self) -> &Image {
        self.output_of(HEAD)
    }

    /// Multiply-accumulates of the tile.
    pub fn macs(&self, per_output: &MacsPerOutput) -> u64 {
        (0..STEPS.len()).map(|index| self.step_macs(index, per_output)).sum()
    }

    /// Multiply-accumulates of step `index`.
    pub fn step_macs(&self, index: usize, per_output: &MacsPerOutput) -> u64 {
        self.output_of(index).len() as u64 * per_output.step(STEPS[index])
    }

    /// Bytes of the images and of their pixel lists.
    pub fn bytes(&self) -> usize {
        let lists = self.images.iter().filter_map(Image::listed).map(StoredPixels::bytes);
        Self::IMAGE_BYTES + lists.sum::<usize>()
    }
}

/// A tile, or some patches stacked on the row axis, ready to be evaluated.
pub(crate) struct PlannedTile {
    pub plan: TilePlan,
    /// First pixel (row, column) of the crop that each band of input rows is counted from. A tile has one band; stacked
    /// patches have one each.
    pub starts: Vec<(i64, i64)>,
    /// Index in the patch grid of each pixel that the head stores.
    pub patches: Vec<usize>,
}

impl PlannedTile {
    /// Bytes of all of it but the axes, which tiles share.
    pub fn bytes(&self) -> u64 {
        let lists = size_of_val(&self.starts[..]) + size_of_val(&self.patches[..]);
        (size_of::<Self>() + self.plan.bytes() + lists) as u64
    }

    /// Maximum of [`PlannedTile::bytes`] for these axes; without a ROI nothing is `listed`.
    pub fn max_bytes(axes: &Axes<AxisSizes>, listed: bool) -> u64 {
        let lists = if listed { TilePlan::max_list_bytes(axes) } else { 0 };
        (size_of::<Self>() + TilePlan::IMAGE_BYTES + size_of::<(i64, i64)>()) as u64
            + (size_of::<usize>() * axes.patches()) as u64
            + lists
    }
}
