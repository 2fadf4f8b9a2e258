//! Weights at the points, and the sizes that follow from them.

use rayon::prelude::*;

use super::points::{kernels, long};
use crate::axes::Axes;
use crate::engine::cpu::product::{PANEL, padded};
use crate::error::Error;
use crate::memory::Zeros;
use crate::network::Convolution;

/// Floats of a chunk's transformed inputs and sums: a quarter of those of the weights, so that fetching these again
/// for every chunk costs little, but no more than caches hold. Measured.
const MIN_CHUNK: usize = 1 << 20;
const MAX_CHUNK: usize = 4 << 20;
/// For more threads than these, chunks grow with their number, as do the caches: otherwise a thread waits for the others as long as
/// it works. See `benches/scaling.py`.
const THREADS: usize = 16;
/// Between rows of transformed inputs, so that they do not all fall on the same cache lines.
const GAP: usize = 16;

/// A convolution's transformed weights.
pub(in crate::engine::cpu) struct WinogradLayer {
    /// [panel of outputs][point][channel][output in panel]
    panels: Zeros<f32>,
    /// [outputs], padding included.
    pub bias: Vec<f32>,
    /// Channels that it reads, padding included.
    pub channels: usize,
    /// Values of the longest run of rows, which may be [`Eight`], and of columns.
    pub max_run: Axes<usize>,
}

impl WinogradLayer {
    /// Transforms the weights of a convolution that reads `channels` channels, padding included, for runs of up to `max_run`
    /// values. On all threads of the pool.
    pub fn new(convolution: &Convolution, channels: usize, max_run: Axes<usize>) -> Result<Self, Error> {
        let weight = &convolution.weight;
        let (outputs, inputs, ..) = weight.dim();
        let kernels = max_run.map(kernels);
        let panel = max_run.map(points).product() * channels * PANEL;
        let mut panels = Zeros::new(outputs.div_ceil(PANEL) * panel, "packed weights")?;
        (panels.par_chunks_mut(panel).enumerate()).for_each(|(number, panel)| {
            for channel in 0..inputs {
                for (i, output) in (number * PANEL..outputs).take(PANEL).enumerate() {
                    let taps =
                        [0, 1, 2].map(|row| [0, 1, 2].map(|column| weight[[output, channel, row, column]].to_f64()));
                    for (point, weights) in transformed(taps, &kernels).zip(panel.chunks_exact_mut(channels * PANEL)) {
                        weights[channel * PANEL + i] = point as f32;
                    }
                }
            }
        });
        Ok(Self { panels, bias: padded(convolution.bias.iter().map(|bias| bias.to_f32()))?, channels, max_run })
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// Rows have the list of points for runs of 8.
    pub fn long(&self) -> bool {
        long(self.max_run.rows)
    }

    /// Points of the largest run pair.
    pub fn points(&self) -> Axes<usize> {
        self.max_run.map(points)
    }

    /// Weights of `panel` of outputs at a point, [channels][PANEL].
    pub fn weights(&self, point: usize, panel: usize) -> &[f32] {
        let floats = self.channels * PANEL;
        &self.panels[(panel * self.points().product() + point) * floats..][..floats]
    }

    pub fn bytes(&self) -> u64 {
        4 * (self.panels.len() + self.bias.len()) as u64
    }

    pub fn panels(&self) -> usize {
        self.outputs().div_ceil(PANEL)
    }

    /// Floats that a chunk needs for transformed inputs and sums.
    pub fn scratch_floats(&self, threads: usize) -> usize {
        self.chunk_rows(threads) * self.row_floats()
    }

    /// Rows of a chunk, those of all points taken together: a pair has one at each of its points.
    pub fn chunk_rows(&self, threads: usize) -> usize {
        let floats = (self.panels.len() / 4).clamp(MIN_CHUNK, MAX_CHUNK) * threads.div_ceil(THREADS);
        (floats / self.row_floats()).max(self.points().product())
    }

    fn row_floats(&self) -> usize {
        self.input_stride() + self.panels() * PANEL
    }

    /// Floats from one row of transformed inputs to the next.
    pub fn input_stride(&self) -> usize {
        self.channels + GAP
    }
}

/// G w G^T, a kernel's weights at each point; `kernels`: G.
fn transformed(
    taps: [[f64; 3]; 3],
    kernels: &Axes<impl Iterator<Item = [f64; 3]> + Clone>,
) -> impl Iterator<Item = f64> {
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    kernels.rows.clone().flat_map(move |kernel| {
        let row = [0, 1, 2].map(|j| dot(kernel, [taps[0][j], taps[1][j], taps[2][j]]));
        kernels.columns.clone().map(move |kernel| dot(kernel, row))
    })
}

/// Points of a run of so many values.
fn points(values: usize) -> usize {
    values + 2
}
