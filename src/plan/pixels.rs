//! The two axes together: the extended images of a tile's layers, and which of their pixels are stored: those that the
//! wanted lattice points need.
//!
//! When every lattice point is wanted every pixel is stored, and nothing is listed.

use std::sync::Arc;

use super::axis::AxisPlan;
use super::needed::Needed;
use super::stored::Stored;
use super::{STEPS, Step};
use crate::error::{Check, Error};

/// The extended image of one layer: rows x columns of pixels, all of them or listed ones stored, row by row.
#[derive(Debug)]
pub(crate) struct Image {
    pub rows: usize,
    pub columns: usize,
    listed: Option<Stored>,
}

impl Image {
    fn dense(rows: usize, columns: usize) -> Self {
        Self { rows, columns, listed: None }
    }

    /// Stored pixels.
    pub fn len(&self) -> usize {
        match &self.listed {
            Some(listed) => listed.len(),
            None => self.rows * self.columns,
        }
    }

    /// The stored pixels; `None`: all are.
    pub fn listed(&self) -> Option<&Stored> {
        self.listed.as_ref()
    }

    /// (row, column) of stored pixel `slot`.
    pub fn position(&self, slot: usize) -> (usize, usize) {
        match &self.listed {
            Some(listed) => listed.position(slot),
            None => (slot / self.columns, slot % self.columns),
        }
    }

    /// Where pixel (row, column) is stored; only for one that is.
    pub fn slot(&self, row: usize, column: usize) -> usize {
        match &self.listed {
            Some(listed) => listed.slot(row, column),
            None => row * self.columns + column,
        }
    }

    /// Whether pixel (row, column) is stored.
    pub fn stores(&self, row: usize, column: usize) -> bool {
        (self.listed.as_ref()).is_none_or(|listed| listed.stores(row, column))
    }

    /// Bytes of the lists.
    fn bytes(&self) -> usize {
        self.listed.as_ref().map_or(0, Stored::bytes)
    }
}

/// Which axes a tile has: equal for tiles that differ in place only, as long as one of them lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TileGeometry {
    rows: usize,
    columns: usize,
}

/// The plan of one tile.
#[derive(Debug)]
pub(crate) struct TilePlan {
    pub rows: Arc<AxisPlan>,
    pub columns: Arc<AxisPlan>,
    /// The input image, then the output of every step; the last is the lattice.
    images: Vec<Image>,
}

impl TilePlan {
    /// Bytes of the images: the input, then one per step.
    pub const IMAGE_BYTES: usize = size_of::<Image>() * (STEPS.len() + 1);

    /// Joins two axes. `points`: the lattice points that are wanted ([rows][columns]); `None`: all.
    pub fn new(
        rows: Arc<AxisPlan>,
        columns: Arc<AxisPlan>,
        points: Option<&[bool]>,
        check: Check<'_>,
    ) -> Result<Self, Error> {
        let mut images = vec![Image::dense(rows.inputs(), columns.inputs())];
        images.extend(
            STEPS
                .iter()
                .enumerate()
                .map(|(index, _)| Image::dense(rows.layer(index).len(), columns.layer(index).len())),
        );
        if let Some(points) = points {
            let width = images[STEPS.len()].columns;
            let mut needed = Needed::points(points, width, check)?;
            // The input image stays whole.
            for index in (0..STEPS.len()).rev() {
                let (rows, columns) = (rows.layer(index), columns.layer(index));
                needed = needed.with_whole_chains(rows, columns, check)?;
                images[index + 1].listed = Stored::new(&needed)?;
                if index > 0 {
                    let input = &images[index];
                    let (rows, columns) = ((rows, input.rows), (columns, input.columns));
                    needed = needed.before(rows, columns, check)?;
                }
            }
        }
        Ok(Self { rows, columns, images })
    }

    /// Most bytes that the pixel lists of a tile of these axes can take.
    pub fn most_list_bytes(rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        (0..STEPS.len()).map(|index| Stored::most_bytes(rows.layer(index).len(), columns.layer(index).len())).sum()
    }

    /// See there.
    pub fn geometry(&self) -> TileGeometry {
        TileGeometry { rows: Arc::as_ptr(&self.rows) as usize, columns: Arc::as_ptr(&self.columns) as usize }
    }

    /// The image that step `index` reads.
    pub fn input_of(&self, index: usize) -> &Image {
        &self.images[index]
    }

    /// The image that step `index` writes.
    pub fn output_of(&self, index: usize) -> &Image {
        &self.images[index + 1]
    }

    /// The image of lattice points.
    pub fn lattice(&self) -> &Image {
        &self.images[self.images.len() - 1]
    }

    /// Multiply-accumulates of the tile. `convolutions[i]`: of one output pixel of convolution i;
    /// `head`: of one lattice point, all dense layers.
    pub fn macs(&self, convolutions: &[u64], head: u64) -> u64 {
        let steps = 0..STEPS.len();
        steps.map(|index| self.step_macs(index, convolutions, head)).sum()
    }

    /// Of these, those of step `index`.
    pub fn step_macs(&self, index: usize, convolutions: &[u64], head: u64) -> u64 {
        let pixels = self.output_of(index).len() as u64;
        match STEPS[index] {
            Step::Convolution(i) => pixels * convolutions[i],
            Step::Pool => 0,
            Step::Head => pixels * head,
        }
    }

    /// Bytes of the images and of their pixel lists.
    pub fn bytes(&self) -> usize {
        let lists: usize = self.images.iter().map(Image::bytes).sum();
        Self::IMAGE_BYTES + lists
    }
}
