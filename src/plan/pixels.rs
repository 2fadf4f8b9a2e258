//! The two axes together: the extended images of a tile's layers, and which of their pixels the
//! wanted lattice points need.
//!
//! ```text
//! needed(layer, r', c') = some needed (r, c) of the next layer has r' among its row taps
//!                                                            and c' among its column taps
//! ```
//! When every lattice point is wanted every pixel is needed, and nothing is listed.

use std::sync::Arc;

use super::axis::{AxisPlan, TapTable};
use super::{STEPS, Step};
use crate::error::{Check, Error};
use crate::memory::{try_filled, try_with_capacity};

/// The extended image of one layer: rows x columns of pixels, all of them or listed ones stored.
#[derive(Debug)]
pub(crate) struct Image {
    pub rows: usize,
    pub columns: usize,
    listed: Option<Listed>,
}

#[derive(Debug)]
struct Listed {
    /// Stored pixels (row * columns + column), ascending.
    pixels: Vec<u32>,
    /// Where each pixel is stored, or [`NOWHERE`].
    slots: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Image {
    fn dense(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            listed: None,
        }
    }

    /// Stored pixels.
    pub fn len(&self) -> usize {
        match &self.listed {
            Some(listed) => listed.pixels.len(),
            None => self.rows * self.columns,
        }
    }

    /// Stored pixels (row * columns + column), ascending; `None`: all are.
    pub fn listed(&self) -> Option<&[u32]> {
        self.listed.as_ref().map(|listed| listed.pixels.as_slice())
    }

    /// (row, column) of stored pixel `slot`.
    pub fn position(&self, slot: usize) -> (usize, usize) {
        let pixel = match &self.listed {
            Some(listed) => listed.pixels[slot] as usize,
            None => slot,
        };
        (pixel / self.columns, pixel % self.columns)
    }

    /// Where pixel (row, column) is stored, if it is needed by any wanted lattice point.
    pub fn slot(&self, row: usize, column: usize) -> usize {
        let pixel = row * self.columns + column;
        match &self.listed {
            Some(listed) => listed.slots[pixel] as usize,
            None => pixel,
        }
    }

    /// Whether pixel (row, column) is stored.
    pub fn stores(&self, row: usize, column: usize) -> bool {
        let pixel = row * self.columns + column;
        (self.listed.as_ref()).is_none_or(|listed| listed.slots[pixel] != NOWHERE)
    }

    /// Bytes of the lists.
    fn bytes(&self) -> usize {
        self.listed
            .as_ref()
            .map_or(0, |listed| 4 * (listed.pixels.len() + listed.slots.len()))
    }

    /// Stores the pixels that `needed` marks ([rows][columns]).
    fn list(&mut self, needed: &[bool], check: Check<'_>) -> Result<(), Error> {
        let count = needed.iter().filter(|&&needed| needed).count();
        if count == needed.len() {
            return Ok(());
        }
        if needed.len() >= NOWHERE as usize {
            return Err(Error::Unsupported(format!(
                "a tile with a ROI has {} pixels in a layer, the limit is 2^32: lower the memory \
                 budget",
                needed.len()
            )));
        }
        let mut slots = try_filled(needed.len(), NOWHERE, "ROI plan")?;
        let mut pixels = try_with_capacity(count, "ROI plan")?;
        for (row, needed) in needed.chunks_exact(self.columns).enumerate() {
            check()?;
            for (column, _) in needed.iter().enumerate().filter(|&(_, &needed)| needed) {
                let pixel = row * self.columns + column;
                slots[pixel] = pixels.len() as u32;
                pixels.push(pixel as u32);
            }
        }
        self.listed = Some(Listed { pixels, slots });
        Ok(())
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
            STEPS.iter().enumerate().map(|(index, _)| {
                Image::dense(rows.layer(index).len(), columns.layer(index).len())
            }),
        );
        if let Some(points) = points {
            let mut needed = try_with_capacity(points.len(), "ROI plan")?;
            needed.extend_from_slice(points);
            // The input image stays whole.
            for index in (1..images.len()).rev() {
                let (rows, columns) = (rows.layer(index - 1), columns.layer(index - 1));
                whole_chains(&mut needed, rows, columns, check)?;
                images[index].list(&needed, check)?;
                if index == 1 {
                    break;
                }
                needed = before(&needed, rows, columns, &images[index - 1], check)?;
            }
        }
        Ok(Self {
            rows,
            columns,
            images,
        })
    }

    /// Most bytes that the pixel lists of a tile of these axes can take.
    pub fn most_list_bytes(rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        (0..STEPS.len())
            .map(|index| 8 * rows.layer(index).len() as u64 * columns.layer(index).len() as u64)
            .sum()
    }

    /// See there.
    pub fn geometry(&self) -> TileGeometry {
        TileGeometry {
            rows: Arc::as_ptr(&self.rows) as usize,
            columns: Arc::as_ptr(&self.columns) as usize,
        }
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
        steps
            .map(|index| self.step_macs(index, convolutions, head))
            .sum()
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

/// Adds the pixels that are evaluated together with `needed` ones: a chain of rows x a chain of columns.
fn whole_chains(
    needed: &mut [bool],
    rows: &TapTable,
    columns: &TapTable,
    check: Check<'_>,
) -> Result<(), Error> {
    let width = columns.len();
    for rows in (0..rows.chains()).map(|chain| rows.chain(chain)) {
        check()?;
        for columns in (0..columns.chains()).map(|chain| columns.chain(chain)) {
            let line = |row: usize| row * width + columns.start..row * width + columns.end;
            if rows.clone().any(|row| needed[line(row)].contains(&true)) {
                rows.clone().for_each(|row| needed[line(row)].fill(true));
            }
        }
    }
    Ok(())
}

/// Which pixels of `input` the `needed` outputs read: rows first, then columns.
fn before(
    needed: &[bool],
    rows: &TapTable,
    columns: &TapTable,
    input: &Image,
    check: Check<'_>,
) -> Result<Vec<bool>, Error> {
    let width = columns.len();
    // [input rows][output columns]
    let mut by_rows = try_filled(input.rows * width, false, "ROI plan")?;
    for row in 0..rows.len() {
        check()?;
        let wanted = &needed[row * width..(row + 1) * width];
        for &tap in rows.taps_of(row).iter().filter(|&&tap| tap >= 0) {
            let into = &mut by_rows[tap as usize * width..][..width];
            for (into, &wanted) in into.iter_mut().zip(wanted) {
                *into |= wanted;
            }
        }
    }
    let mut before = try_filled(input.rows * input.columns, false, "ROI plan")?;
    for (from, into) in by_rows
        .chunks_exact(width)
        .zip(before.chunks_exact_mut(input.columns))
    {
        check()?;
        for (column, _) in from.iter().enumerate().filter(|&(_, &wanted)| wanted) {
            for &tap in columns.taps_of(column).iter().filter(|&&tap| tap >= 0) {
                into[tap as usize] = true;
            }
        }
    }
    Ok(before)
}
