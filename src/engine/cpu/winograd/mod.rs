//! table_conv by Winograd's method on the chains of the plan (see `plan::chains`).
//!
//! ```text
//! a tile = a chain of rows x a chain of columns: reads (m + 2) x (n + 2) pixels, writes m x n
//! for each block of tiles:
//!     inputs[point][tile][channel] = B x B^T              in parallel over tiles
//!     sums[point][panel][tile][output] = inputs[point][tile][..] * weights[panel][point]
//!                                                         in parallel over points and panels of outputs
//!     out = relu(A sums A^T + bias)                       in parallel over tiles
//! ```
//! A point (i, j) has only the tiles with m + 2 > i and n + 2 > j. All threads work on one block, so that each
//! weight is fetched once for it. Tiles and blocks do not mix sums: results depend on neither.

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

/// Rows that threads write to, each row by one of them.
#[derive(Clone, Copy)]
struct Shared<'a> {
    floats: *mut f32,
    len: usize,
    _of: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: whoever writes through it sees to it that no row has two writers.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    fn new(rows: &'a mut [f32]) -> Self {
        Self { floats: rows.as_mut_ptr(), len: rows.len(), _of: std::marker::PhantomData }
    }

    /// The first row.
    fn start(&self) -> *mut f32 {
        self.floats
    }
}

/// Tiles that a thread transforms at a time.
const TILES_AT_A_TIME: usize = 4;

/// Of a block, for each point: how many tiles have it, or how many rows come before its own.
type PerPoint = [[usize; SIDE]; SIDE];

/// Some neighbouring tiles of a block.
struct Run {
    /// Numbers in the grid.
    tiles: Range<usize>,
    /// For each point, the row of the first of these tiles that has it, counted from the point's first.
    first: PerPoint,
}

/// A block's tiles, and where their rows are.
struct Block {
    runs: Vec<Run>,
    /// Rows of each point.
    count: PerPoint,
    /// Rows of all points before.
    before: PerPoint,
    /// Rows of all points.
    rows: usize,
    /// Output pixels.
    pixels: usize,
}

impl Block {
    fn new(grid: &Grid<'_>, numbers: Range<usize>) -> Self {
        let mut count = [[0; SIDE]; SIDE];
        let mut pixels = 0;
        let runs = (numbers.clone().step_by(TILES_AT_A_TIME)).map(|start| {
            let tiles = start..numbers.end.min(start + TILES_AT_A_TIME);
            let first = count;
            for tile in grid.tiles(tiles.clone()) {
                let (rows, columns) = tile.points();
                for count in &mut count[..rows] {
                    count[..columns].iter_mut().for_each(|count| *count += 1);
                }
                pixels += tile.pixels();
            }
            Run { tiles, first }
        });
        let runs = runs.collect();
        let mut rows = 0;
        let before = count.map(|count| {
            count.map(|count| {
                rows += count;
                rows - count
            })
        });
        Self { runs, count, before, rows, pixels }
    }
}

impl Winograd<'_> {
    /// Step `index` of the plan. `room`: [`WinogradLayer::room`] floats.
    pub fn step(
        &self,
        plan: &TilePlan,
        index: usize,
        from: &[f32],
        into: &mut [f32],
        room: &mut [f32],
    ) -> Result<(), Error> {
        let grid = Grid::new(plan, index)?;
        let into = Shared::new(into);
        for numbers in grid.blocks(self.layer.block_rows()) {
            let block = Block::new(&grid, numbers);
            let (inputs, sums) = room.split_at_mut(block.rows * self.layer.input_stride());
            self.transform_inputs(&grid, &block, from, Shared::new(inputs));
            self.multiply(&block, inputs, sums)?;
            self.transform_sums(&grid, &block, sums, into);
            self.control.add_macs(self.macs * block.pixels as u64);
        }
        Ok(())
    }

    /// Fills `into`, [rows of all points][input stride].
    fn transform_inputs(&self, grid: &Grid<'_>, block: &Block, from: &[f32], into: Shared<'_>) {
        let channels = self.layer.channels;
        let stride = self.layer.input_stride();
        assert!(from.len() >= grid.input.len() * channels && into.len >= block.rows * stride);
        let zeros = &self.workspace.zeros[..channels];
        block.runs.par_iter().with_max_len(1).for_each(|run| {
            let mut points = each(|i, j| into.start().wrapping_add((block.before[i][j] + run.first[i][j]) * stride));
            for tile in grid.tiles(run.tiles.clone()) {
                let Tile { rows, columns } = tile;
                let mut pixels = [[zeros.as_ptr(); SIDE]; SIDE];
                for (pixels, &row) in pixels.iter_mut().zip(&rows.taps[..rows.len + 2]) {
                    for (pixel, &column) in pixels.iter_mut().zip(&columns.taps[..columns.len + 2]) {
                        if row != ZERO && column != ZERO {
                            let slot = grid.input.slot(row as usize, column as usize);
                            *pixel = from.as_ptr().wrapping_add(slot * channels);
                        }
                    }
                }
                let transform =
                    InputTransform { from: &pixels, into: &points, values: [rows.len, columns.len], channels };
                // SAFETY: the machine has these instructions; pixels that a stored tile reads are stored, and all lie in
                // `from`; every point has a row for each of its tiles, which all lie in `into`.
                unsafe { self.workspace.instructions.run(transform) };
                tile.advance(&mut points, stride);
            }
        });
    }

    /// `sums`, [point][panel][row][output in panel].
    fn multiply(&self, block: &Block, inputs: &[f32], sums: &mut [f32]) -> Result<(), Error> {
        let stride = self.layer.input_stride();
        let mut rest = sums;
        let mut products = Vec::with_capacity(POINTS * self.layer.panels());
        for (point, &count) in block.count.iter().flatten().enumerate() {
            for panel in 0..self.layer.panels() {
                let (sums, after) = rest.split_at_mut(count * PANEL);
                products.push((point, panel, sums));
                rest = after;
            }
        }
        (products.into_par_iter().with_max_len(1)).try_for_each(|(point, panel, sums)| {
            self.control.check()?;
            let (i, j) = (point / SIDE, point % SIDE);
            let rows = Rows { data: &inputs[block.before[i][j] * stride..], stride };
            let sums = Sums { data: sums, stride: PANEL, outputs: PANEL, add: false };
            let weights = self.layer.weights(point, panel);
            let instructions = self.workspace.instructions;
            product(instructions, rows, block.count[i][j], weights, sums);
            Ok(())
        })
    }

    /// Makes output pixels of `sums`.
    fn transform_sums(&self, grid: &Grid<'_>, block: &Block, sums: &[f32], into: Shared<'_>) {
        let layer = self.layer;
        let outputs = layer.outputs();
        assert!(sums.len() >= block.rows * layer.panels() * PANEL);
        assert!(into.len >= grid.output.len() * outputs);
        block.runs.par_iter().with_max_len(1).for_each(|run| {
            // In the first panel of each point.
            let mut points = each(|i, j| {
                let row = block.before[i][j] * layer.panels() + run.first[i][j];
                sums.as_ptr().cast_mut().wrapping_add(row * PANEL)
            });
            for tile in grid.tiles(run.tiles.clone()) {
                let Tile { rows, columns } = tile;
                let mut pixels = [[std::ptr::null_mut(); SIDE]; SIDE];
                for (i, pixels) in pixels[..rows.len].iter_mut().enumerate() {
                    for (j, pixel) in pixels[..columns.len].iter_mut().enumerate() {
                        let slot = grid.output.slot(rows.first + i, columns.first + j);
                        *pixel = into.start().wrapping_add(slot * outputs);
                    }
                }
                let transform = OutputTransform {
                    from: &points,
                    counts: &block.count,
                    into: &pixels,
                    values: [rows.len, columns.len],
                    bias: &layer.bias,
                };
                // SAFETY: the machine has these instructions; every point has a row in every panel for each of its
                // tiles, which all lie in `sums`; the tile's pixels are stored, lie in `into`, and no other tile has
                // them.
                unsafe { self.workspace.instructions.run(transform) };
                tile.advance(&mut points, PANEL);
            }
        });
    }
}

/// One of each point.
fn each<T>(of: impl Fn(usize, usize) -> T) -> [[T; SIDE]; SIDE] {
    std::array::from_fn(|i| std::array::from_fn(|j| of(i, j)))
}
