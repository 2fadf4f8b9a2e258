//! table_conv by Winograd's method on the chains of the plan (see `plan::chains`).
//!
//! ```text
//! a tile = a chain of rows x a chain of columns: reads (m + 2) x (n + 2) pixels, writes m x n
//! for each block of tiles (in parallel):
//!     v[point][tile][channel] = B x B^T          of each tile and channel
//!     for each point, for each panel of outputs:
//!         z[point][tile][..] = v[point][tile][..] * weights[panel][point]
//!     out = relu(A z A^T + bias)
//! ```
//! A point (i, j) has only the tiles with m + 2 > i and n + 2 > j. Tiles and blocks do not mix sums, so results
//! depend on neither.

mod grid;
mod layer;
mod points;
#[cfg(test)]
mod tests;
mod transform;

use std::ops::Range;

use rayon::prelude::*;

use super::product::{PANEL, Rows, Sums, product};
use super::workspace::Workspace;
use crate::engine::Control;
use crate::error::Error;
use crate::plan::{TilePlan, ZERO};
use grid::{Grid, Tile};
pub(super) use layer::WinogradLayer;
use points::{POINTS, SIDE};
use transform::{InputTransform, OutputTransform};

/// Points of all tiles of step `index`: products of one input and one output.
pub(super) fn winograd_products(plan: &TilePlan, index: usize) -> Result<u64, Error> {
    Ok(Grid::new(plan, index)?.points())
}

/// One layer of one tile of the plan.
pub(super) struct Winograd<'a> {
    pub layer: &'a WinogradLayer,
    /// Multiply-accumulates of one output pixel that are counted for the progress.
    pub macs: u64,
    pub workspace: &'a Workspace,
    pub control: &'a Control,
}

/// An image that threads write to, each pixel by one of them.
#[derive(Clone, Copy)]
struct Shared<'a> {
    floats: *mut f32,
    len: usize,
    _of: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: whoever writes through it sees to it that no pixel has two writers.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(image: &'a mut [f32]) -> Self {
        Self {
            floats: image.as_mut_ptr(),
            len: image.len(),
            _of: std::marker::PhantomData,
        }
    }

    /// Room for the `channels` floats of the pixel in `slot`.
    fn pixel(&self, slot: usize, channels: usize) -> *mut f32 {
        assert!((slot + 1) * channels <= self.len);
        // SAFETY: within the image.
        unsafe { self.floats.add(slot * channels) }
    }
}

/// For each point of a block: the first of its rows, one for each tile that has the point.
type FirstRows = [[usize; SIDE]; SIDE];

impl Winograd<'_> {
    /// Step `index` of the plan.
    pub fn step(
        &self,
        plan: &TilePlan,
        index: usize,
        from: &[f32],
        into: &mut [f32],
    ) -> Result<(), Error> {
        let grid = Grid::new(plan, index)?;
        // Small images are spread over all threads: a large tile has 16 points for 9 pixels.
        let spread = grid.output.len() * 16 / 9 / (4 * self.workspace.threads());
        let most = self.layer.block_points().min(spread).max(POINTS);
        let into = Shared::new(into);
        (grid.blocks(most).into_par_iter().with_max_len(1)).try_for_each(|numbers| {
            let mut workspace = self.workspace.of_this_thread();
            self.block(&grid, numbers, from, into, &mut workspace)
        })
    }

    /// Tiles `numbers` of the grid.
    fn block(
        &self,
        grid: &Grid<'_>,
        numbers: Range<usize>,
        from: &[f32],
        into: Shared<'_>,
        workspace: &mut [f32],
    ) -> Result<(), Error> {
        let mut count = [[0; SIDE]; SIDE];
        let mut pixels = 0;
        for tile in grid.tiles(numbers.clone()) {
            let (rows, columns) = tile.points();
            for count in &mut count[..rows] {
                count[..columns].iter_mut().for_each(|count| *count += 1);
            }
            pixels += tile.pixels();
        }
        let mut total = 0;
        let first: FirstRows = count.map(|count| {
            count.map(|count| {
                total += count;
                total - count
            })
        });
        let (inputs, sums) = workspace.split_at_mut(total * self.layer.input_stride());
        self.transform_inputs(grid, numbers.clone(), first, from, inputs);
        for i in 0..SIDE {
            for j in 0..SIDE {
                self.products(i * SIDE + j, first[i][j], count[i][j], inputs, sums)?;
            }
        }
        self.transform_sums(grid, numbers, first, sums, into);
        self.control.add_macs(self.macs * pixels as u64);
        Ok(())
    }

    /// `sums` of the `count` rows of a point from `first` on, all outputs.
    fn products(
        &self,
        point: usize,
        first: usize,
        count: usize,
        inputs: &[f32],
        sums: &mut [f32],
    ) -> Result<(), Error> {
        let layer = self.layer;
        for panel in 0..layer.outputs().div_ceil(PANEL) {
            self.control.check()?;
            let rows = Rows {
                data: &inputs[first * layer.input_stride()..],
                stride: layer.input_stride(),
            };
            let sums = Sums {
                data: &mut sums[first * layer.sum_stride() + panel * PANEL..],
                stride: layer.sum_stride(),
                outputs: PANEL.min(layer.outputs() - panel * PANEL),
                add: false,
            };
            let weights = layer.weights(point, panel);
            product(self.workspace.instructions, rows, count, weights, sums);
        }
        Ok(())
    }

    /// Fills `into`, [rows of all points][channels].
    fn transform_inputs(
        &self,
        grid: &Grid<'_>,
        numbers: Range<usize>,
        mut next: FirstRows,
        from: &[f32],
        into: &mut [f32],
    ) {
        let channels = self.layer.channels;
        let stride = self.layer.input_stride();
        let zeros = self.workspace.zeros[..channels].as_ptr();
        for Tile { rows, columns } in grid.tiles(numbers) {
            let mut pixels = [[zeros; SIDE]; SIDE];
            let mut points = [[std::ptr::null_mut(); SIDE]; SIDE];
            for i in 0..rows.len + 2 {
                for j in 0..columns.len + 2 {
                    let (row, column) = (rows.taps[i], columns.taps[j]);
                    if row != ZERO && column != ZERO {
                        let slot = grid.input.slot(row as usize, column as usize);
                        pixels[i][j] = from[slot * channels..][..channels].as_ptr();
                    }
                    points[i][j] = into[next[i][j] * stride..][..channels].as_mut_ptr();
                    next[i][j] += 1;
                }
            }
            let transform = InputTransform {
                from: &pixels,
                into: &points,
                values: [rows.len, columns.len],
                channels,
            };
            // SAFETY: the machine has these instructions; all pixels and points of the tile are slices of
            // `channels` floats.
            unsafe { self.workspace.instructions.run(transform) };
        }
    }

    /// Makes output pixels of `from`, [rows of all points][outputs].
    fn transform_sums(
        &self,
        grid: &Grid<'_>,
        numbers: Range<usize>,
        mut next: FirstRows,
        from: &[f32],
        into: Shared<'_>,
    ) {
        let outputs = self.layer.outputs();
        let stride = self.layer.sum_stride();
        for Tile { rows, columns } in grid.tiles(numbers) {
            let mut points = [[std::ptr::null(); SIDE]; SIDE];
            for i in 0..rows.len + 2 {
                for j in 0..columns.len + 2 {
                    points[i][j] = from[next[i][j] * stride..][..outputs].as_ptr();
                    next[i][j] += 1;
                }
            }
            let mut pixels = [[std::ptr::null_mut(); SIDE]; SIDE];
            for (i, pixels) in pixels[..rows.len].iter_mut().enumerate() {
                for (j, pixel) in pixels[..columns.len].iter_mut().enumerate() {
                    let slot = grid.output.slot(rows.first + i, columns.first + j);
                    *pixel = into.pixel(slot, outputs);
                }
            }
            let transform = OutputTransform {
                from: &points,
                into: &pixels,
                values: [rows.len, columns.len],
                bias: &self.layer.bias,
            };
            // SAFETY: the machine has these instructions; all points of the tile are slices of `outputs` floats,
            // its pixels have room for as many, and no other tile has them.
            unsafe { self.workspace.instructions.run(transform) };
        }
    }
}
