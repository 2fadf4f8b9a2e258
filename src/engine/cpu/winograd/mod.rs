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

mod points;
mod transform;

use std::ops::Range;

use rayon::prelude::*;

use super::arena::try_zeroed;
use super::product::{PANEL, Rows, Sums, product};
use super::weights::padded;
use super::workspace::Workspace;
use crate::engine::Control;
use crate::error::Error;
use crate::network::Convolution;
use crate::plan::{Image, TapTable, TilePlan, ZERO};
use points::{SIDE, kernel};
use transform::{InputTransform, OutputTransform};

/// Points of the largest tile.
const POINTS: usize = SIDE * SIDE;
/// Floats of a block's transformed inputs and sums: enough tiles to use each weight many times while those of
/// one point stay in the L2 cache.
const BLOCK_FLOATS: usize = 3 << 20;
/// Between rows of transformed inputs and sums, so that they do not all fall on the same cache lines.
const GAP: usize = 16;

/// A convolution's transformed weights.
pub(super) struct WinogradLayer {
    /// [point][panel of outputs][channel][output in panel]
    panels: Vec<f32>,
    /// [outputs], padding included.
    bias: Vec<f32>,
    /// Channels that it reads, padding included.
    channels: usize,
}

impl WinogradLayer {
    /// Transforms the weights of a convolution that reads `channels` channels, padding included. On all threads
    /// of the pool.
    pub fn new(convolution: &Convolution, channels: usize) -> Result<Self, Error> {
        let weight = &convolution.weight;
        let (outputs, inputs, ..) = weight.dim();
        let count = outputs.div_ceil(PANEL);
        let mut panels = try_zeroed(POINTS * count * channels * PANEL, "packed weights")?;
        (panels.par_chunks_mut(channels * PANEL).enumerate()).for_each(|(number, weights)| {
            let (point, first) = (number / count, number % count * PANEL);
            let (rows, columns) = (kernel(point / SIDE), kernel(point % SIDE));
            for (channel, weights) in weights.chunks_exact_mut(PANEL).take(inputs).enumerate() {
                for (output, into) in (first..outputs).zip(weights) {
                    let taps = weight.slice(ndarray::s![output, channel, .., ..]);
                    let terms = taps.indexed_iter();
                    let sum: f64 = terms
                        .map(|((i, j), w)| rows[i] * columns[j] * w.to_f64())
                        .sum();
                    *into = sum as f32;
                }
            }
        });
        Ok(Self {
            panels,
            bias: padded(convolution.bias.iter().map(|bias| bias.to_f32()))?,
            channels,
        })
    }

    /// Outputs, padding included.
    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    pub fn bytes(&self) -> u64 {
        4 * (self.panels.len() + self.bias.len()) as u64
    }

    /// Floats of the workspace of a thread.
    pub fn workspace_floats(&self) -> usize {
        self.block_points() * self.point_floats()
    }

    /// Points of a block, all its tiles taken together.
    fn block_points(&self) -> usize {
        (BLOCK_FLOATS / self.point_floats()).max(POINTS)
    }

    fn point_floats(&self) -> usize {
        self.input_stride() + self.sum_stride()
    }

    fn input_stride(&self) -> usize {
        self.channels + GAP
    }

    fn sum_stride(&self) -> usize {
        self.outputs() + GAP
    }
}

/// One layer of one tile of the plan.
pub(super) struct Winograd<'a> {
    pub layer: &'a WinogradLayer,
    /// Multiply-accumulates of one output pixel that are counted for the progress.
    pub macs: u64,
    pub workspace: &'a Workspace,
    pub control: &'a Control,
}

/// The chains of a step, and where the images that they read and write are stored.
struct Grid<'a> {
    rows: &'a TapTable,
    columns: &'a TapTable,
    input: &'a Image,
    output: &'a Image,
}

/// A tile of the grid.
struct Tile {
    /// Values.
    rows: Range<usize>,
    columns: Range<usize>,
    /// Chains.
    row: usize,
    column: usize,
}

impl Tile {
    /// Points of the tile, as numbers.
    fn points(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (rows, columns) = (self.rows.len() + 2, self.columns.len() + 2);
        (0..rows).flat_map(move |i| (0..columns).map(move |j| (i, j)))
    }
}

impl Grid<'_> {
    /// Chains of rows times chains of columns.
    fn len(&self) -> usize {
        self.rows.chains() * self.columns.chains()
    }

    /// Tile `number`, if its pixels are stored: whole tiles are or are not.
    fn tile(&self, number: usize) -> Option<Tile> {
        let (row, column) = (
            number / self.columns.chains(),
            number % self.columns.chains(),
        );
        let tile = Tile {
            rows: self.rows.chain(row),
            columns: self.columns.chain(column),
            row,
            column,
        };
        self.output
            .stores(tile.rows.start, tile.columns.start)
            .then_some(tile)
    }

    /// Runs of tiles with at most `most` points together, one tile at least.
    fn blocks(&self, most: usize) -> Vec<Range<usize>> {
        let mut blocks = Vec::new();
        let (mut first, mut points) = (0, 0);
        for number in 0..self.len() {
            let Some(tile) = self.tile(number) else {
                continue;
            };
            let own = (tile.rows.len() + 2) * (tile.columns.len() + 2);
            if points > 0 && points + own > most {
                blocks.push(first..number);
                (first, points) = (number, 0);
            }
            points += own;
        }
        blocks.push(first..self.len());
        blocks
    }
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

impl Winograd<'_> {
    /// Step `index` of the plan.
    pub fn step(
        &self,
        plan: &TilePlan,
        index: usize,
        from: &[f32],
        into: &mut [f32],
    ) -> Result<(), Error> {
        let grid = Grid {
            rows: plan.rows.layer(index),
            columns: plan.columns.layer(index),
            input: plan.input_of(index),
            output: plan.output_of(index),
        };
        // Small images are spread over all threads.
        let threads = self.workspace.threads();
        let spread = grid.output.len() * POINTS / 36 / (4 * threads);
        let most = self.layer.block_points().min(spread).max(POINTS);
        let into = Shared::new(into);
        (grid.blocks(most).into_par_iter().with_max_len(1)).try_for_each(|tiles| {
            let mut workspace = self.workspace.of_this_thread();
            self.block(&grid, tiles, from, into, &mut workspace)
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
        let layer = self.layer;
        let tiles = || numbers.clone().filter_map(|number| grid.tile(number));
        let mut count = [[0; SIDE]; SIDE];
        for tile in tiles() {
            tile.points().for_each(|(i, j)| count[i][j] += 1);
        }
        let mut total = 0;
        let first = count.map(|count| {
            count.map(|count| {
                total += count;
                total - count
            })
        });
        let (input_stride, sum_stride) = (layer.input_stride(), layer.sum_stride());
        let (inputs, sums) = workspace.split_at_mut(total * input_stride);
        self.transform_inputs(grid, tiles(), first, from, inputs);
        let outputs = layer.outputs();
        let panels = outputs.div_ceil(PANEL);
        for (number, weights) in (layer.panels.chunks_exact(layer.channels * PANEL)).enumerate() {
            let (point, panel) = (number / panels, number % panels);
            let (first, count) = (
                first[point / SIDE][point % SIDE],
                count[point / SIDE][point % SIDE],
            );
            self.control.check()?;
            let rows = Rows {
                data: &inputs[first * input_stride..],
                stride: input_stride,
            };
            let sums = Sums {
                data: &mut sums[first * sum_stride + panel * PANEL..],
                stride: sum_stride,
                outputs: PANEL.min(outputs - panel * PANEL),
                add: false,
            };
            product(self.workspace.instructions, rows, count, weights, sums);
        }
        self.transform_sums(grid, tiles(), first, sums, into);
        let pixels: usize = tiles()
            .map(|tile| tile.rows.len() * tile.columns.len())
            .sum();
        self.control.add_macs(self.macs * pixels as u64);
        Ok(())
    }

    /// Fills `into`, [points of all tiles][channels]; `next`: where each point's tiles begin.
    fn transform_inputs(
        &self,
        grid: &Grid<'_>,
        tiles: impl Iterator<Item = Tile>,
        mut next: [[usize; SIDE]; SIDE],
        from: &[f32],
        into: &mut [f32],
    ) {
        let channels = self.layer.channels;
        let zeros = &self.workspace.zeros[..channels];
        let stride = self.layer.input_stride();
        for tile in tiles {
            let chain = |axis: &TapTable, chain| {
                let mut taps = [ZERO; SIDE];
                taps.iter_mut()
                    .zip(axis.inputs_of_chain(chain))
                    .for_each(|(to, tap)| *to = tap);
                taps
            };
            let (rows, columns) = (chain(grid.rows, tile.row), chain(grid.columns, tile.column));
            let mut pixels = [[zeros.as_ptr(); SIDE]; SIDE];
            let mut points = [[std::ptr::null_mut(); SIDE]; SIDE];
            for (i, j) in tile.points() {
                if rows[i] != ZERO && columns[j] != ZERO {
                    let slot = grid.input.slot(rows[i] as usize, columns[j] as usize);
                    pixels[i][j] = from[slot * channels..][..channels].as_ptr();
                }
                points[i][j] = into[next[i][j] * stride..][..channels].as_mut_ptr();
                next[i][j] += 1;
            }
            let transform = InputTransform {
                from: &pixels,
                into: &points,
                chains: [tile.rows.len(), tile.columns.len()],
                channels,
            };
            // SAFETY: the machine has these instructions; all pixels and points of the tile are slices of
            // `channels` floats.
            unsafe { self.workspace.instructions.run(transform) };
        }
    }

    /// Makes output pixels of `from`, [points of all tiles][sums]; `next`: where each point's tiles begin.
    fn transform_sums(
        &self,
        grid: &Grid<'_>,
        tiles: impl Iterator<Item = Tile>,
        mut next: [[usize; SIDE]; SIDE],
        from: &[f32],
        into: Shared<'_>,
    ) {
        let outputs = self.layer.outputs();
        let stride = self.layer.sum_stride();
        for tile in tiles {
            let mut points = [[std::ptr::null(); SIDE]; SIDE];
            for (i, j) in tile.points() {
                points[i][j] = from[next[i][j] * stride..][..outputs].as_ptr();
                next[i][j] += 1;
            }
            let mut pixels = [[std::ptr::null_mut(); SIDE]; SIDE];
            for (pixels, row) in pixels.iter_mut().zip(tile.rows.clone()) {
                for (pixel, column) in pixels.iter_mut().zip(tile.columns.clone()) {
                    *pixel = into.pixel(grid.output.slot(row, column), outputs);
                }
            }
            let transform = OutputTransform {
                from: &points,
                into: &pixels,
                chains: [tile.rows.len(), tile.columns.len()],
                bias: &self.layer.bias,
            };
            // SAFETY: the machine has these instructions; all points of the tile are slices of `outputs` floats,
            // its pixels have room for as many, and no other tile has them.
            unsafe { self.workspace.instructions.run(transform) };
        }
    }
}
