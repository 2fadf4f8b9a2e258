//! gather_conv by Winograd's method on the runs of the plan (see `plan::winograd_runs`).
//!
//! ```text
//! a run pair = a run of rows x a run of columns: reads (m + 2) x (n + 2) pixels, writes m x n
//! for each chunk of pairs:
//!     inputs[point][pair][channel] = B x B^T              in parallel over pairs
//!     sums[point][panel][pair][output] = inputs[point][pair][..] * weights[panel][point]
//!                                                         in parallel over points and panels of outputs
//!     out = relu(A sums A^T + bias)                       in parallel over pairs
//!     or, where a pool follows, into the pooled pixels    in parallel over panels, and parts of the columns
//! ```
//! A point (i, j) has only the pairs with m + 2 > i and n + 2 > j. All threads work on one chunk, so that each
//! weight is fetched once for it. Pairs and chunks do not mix sums: results depend on neither.

mod copies;
mod layer;
mod points;
mod run_pairs;
#[cfg(test)]
mod tests;
mod transform;

use std::ops::Range;

use rayon::prelude::*;

use super::black::Black;
use super::max_pool::{MaxPool, Pooled};
use super::product::{LANES, PANEL, Rows, Sums, product};
use super::workspace::Workspace;
use crate::engine::Control;
use crate::error::Error;
use crate::memory::try_with_capacity;
use crate::plan::{MAX_RUN, TilePlan, ZERO};
pub(super) use layer::WinogradLayer;
use points::SIDE;
use run_pairs::{RunPair, RunPairs};
use transform::{InputTransform, OutputTransform};

/// One layer of one tile.
pub(super) struct Winograd<'a> {
    pub layer: &'a WinogradLayer,
    /// Multiply-accumulates of one output pixel that are counted for the progress.
    pub macs: u64,
    pub workspace: &'a Workspace,
    pub control: &'a Control,
}

/// Rows that threads write to, each row by one of them.
#[derive(Clone, Copy)]
struct SharedRows<'a> {
    floats: *mut f32,
    len: usize,
    _of: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: users ensure that no row has two writers.
unsafe impl Send for SharedRows<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedRows<'_> {}

impl<'a> SharedRows<'a> {
    fn new(rows: &'a mut [f32]) -> Self {
        Self { floats: rows.as_mut_ptr(), len: rows.len(), _of: std::marker::PhantomData }
    }

    /// The first row.
    fn start(&self) -> *mut f32 {
        self.floats
    }
}

/// Floats of an image that no cache keeps until the next layer reads it.
const PAST_CACHES: usize = 1 << 22;

/// Pairs that a thread transforms at a time.
const PAIRS_AT_A_TIME: usize = 4;

/// For each point of a chunk: the number of pairs that have it, or of rows before its own.
type PerPoint = [[usize; SIDE]; SIDE];

/// Some neighbouring pairs of a chunk.
struct Batch {
    /// Numbers of the pairs.
    pairs: Range<usize>,
    /// For each point, the row of the first of these pairs that has it, counted from the point's first.
    first: PerPoint,
}

/// A chunk's pairs and their rows.
struct Chunk {
    batches: Vec<Batch>,
    /// Rows of each point.
    count: PerPoint,
    /// Rows of all points before.
    before: PerPoint,
    /// Rows of all points.
    rows: usize,
    /// Output pixels.
    pixels: usize,
}

impl Chunk {
    fn new(pairs: &RunPairs<'_>, numbers: Range<usize>) -> Result<Self, Error> {
        let mut count = [[0; SIDE]; SIDE];
        let mut pixels = 0;
        let mut batches = try_with_capacity(numbers.len().div_ceil(PAIRS_AT_A_TIME), "a chunk of Winograd runs")?;
        batches.extend((numbers.clone().step_by(PAIRS_AT_A_TIME)).map(|start| {
            let batch = start..numbers.end.min(start + PAIRS_AT_A_TIME);
            let first = count;
            for pair in pairs.select(batch.clone()) {
                let (rows, columns) = pair.points();
                for count in &mut count[..rows] {
                    count[..columns].iter_mut().for_each(|count| *count += 1);
                }
                pixels += pair.pixels();
            }
            Batch { pairs: batch, first }
        }));
        let mut rows = 0;
        let before = count.map(|count| {
            count.map(|count| {
                rows += count;
                rows - count
            })
        });
        Ok(Self { batches, count, before, rows, pixels })
    }
}

impl Winograd<'_> {
    /// Step `index` of the plan, of which these inputs are `black`, and the pool that follows, if one does. `scratch`:
    /// [`WinogradLayer::scratch_floats`] floats. Returns the products of one input and one output that it took, and which of its
    /// outputs are black.
    pub fn step(
        &self,
        plan: &TilePlan,
        index: usize,
        black: Option<&Black>,
        from: &[f32],
        into: &mut [f32],
        scratch: &mut [f32],
    ) -> Result<(u64, Option<Black>), Error> {
        let pool = MaxPool::after(plan, index)?;
        let pairs = RunPairs::new(plan, index, pool.as_ref(), black, &self.control.cancel)?;
        if let Some(pool) = &pool {
            pool.clear(into, self.layer.outputs(), &self.control.cancel)?;
        }
        let into = SharedRows::new(into);
        let (mut products, mut pixels) = (0, 0);
        for numbers in pairs.chunks(self.layer.chunk_rows(self.workspace.threads()), &self.control.cancel)? {
            let chunk = Chunk::new(&pairs, numbers)?;
            let (inputs, sums) = scratch.split_at_mut(chunk.rows * self.layer.input_stride());
            self.transform_inputs(&pairs, &chunk, from, SharedRows::new(inputs));
            self.multiply(&chunk, inputs, sums)?;
            match &pool {
                Some(pool) => self.pool_sums(&pairs, &chunk, sums, pool, into)?,
                None => self.transform_sums(&pairs, &chunk, sums, into),
            }
            self.control.add_macs(self.macs * chunk.pixels as u64);
            products += chunk.rows as u64;
            pixels += chunk.pixels;
        }
        self.copy_black(&pairs, pool.as_ref().map_or(pairs.output, |pool| pool.output).len(), into)?;
        self.control.add_macs(self.macs * (pairs.output.len() - pixels) as u64);
        Ok((products, pairs.into_black()))
    }

    /// Fills those of the `pixels` that are copies of others.
    fn copy_black(&self, pairs: &RunPairs<'_>, pixels: usize, into: SharedRows<'_>) -> Result<(), Error> {
        let outputs = self.layer.outputs();
        assert!(into.len >= pixels * outputs);
        pairs.rows_with_copies().into_par_iter().try_for_each(|row| {
            self.control.cancel.check()?;
            pairs.copies(row, |to, from, count| {
                let pixel = |index: usize| into.start().wrapping_add(index * outputs);
                // SAFETY: pixels of an image that stores all, within `into`; none is both an original and a copy, and each copy has
                // one writer.
                unsafe { std::ptr::copy_nonoverlapping(pixel(from).cast_const(), pixel(to), count * outputs) }
            });
            Ok(())
        })
    }

    /// Fills `into`, [rows of all points][input stride].
    fn transform_inputs(&self, pairs: &RunPairs<'_>, chunk: &Chunk, from: &[f32], into: SharedRows<'_>) {
        let channels = self.layer.channels;
        let stride = self.layer.input_stride();
        assert!(from.len() >= pairs.input.len() * channels && into.len >= chunk.rows * stride);
        let zeros = &self.workspace.zeros[..channels];
        let pixels_of = |RunPair { rows, columns }: RunPair<'_>| {
            let mut pixels = [[zeros.as_ptr(); SIDE]; SIDE];
            for (pixels, &row) in pixels.iter_mut().zip(&rows.taps[..rows.len + 2]) {
                for (pixel, &column) in pixels.iter_mut().zip(&columns.taps[..columns.len + 2]) {
                    if row != ZERO && column != ZERO {
                        let index = pairs.input.index_of(row as usize, column as usize);
                        *pixel = from.as_ptr().wrapping_add(index * channels);
                    }
                }
            }
            pixels
        };
        chunk.batches.par_iter().with_max_len(1).for_each(|batch| {
            let mut points = each(|i, j| into.start().wrapping_add((chunk.before[i][j] + batch.first[i][j]) * stride));
            let mut following = pairs.select(batch.pairs.clone()).map(|pair| (pair, pixels_of(pair))).peekable();
            while let Some((pair, pixels)) = following.next() {
                let RunPair { rows, columns } = pair;
                let next = following.peek().map_or(&pixels, |(_, pixels)| pixels);
                let values = [rows.len, columns.len];
                let transform =
                    InputTransform { from: &pixels, next, into: &points, values, channels, long: self.layer.long() };
                // SAFETY: the machine has these instructions; pixels that a stored pair reads are stored, and all lie in
                // `from`; every point has a row for each of its pairs, which all lie in `into`.
                unsafe { self.workspace.instructions.run(transform) };
                pair.advance(&mut points, stride);
            }
        });
    }

    /// `sums`, [point][panel][row][output in panel].
    fn multiply(&self, chunk: &Chunk, inputs: &[f32], sums: &mut [f32]) -> Result<(), Error> {
        let (stride, points) = (self.layer.input_stride(), self.layer.points());
        let mut rest = sums;
        let mut products = try_with_capacity(points.product() * self.layer.panels(), "products of a chunk")?;
        for (point, &count) in chunk.count[..points.rows].iter().flat_map(|count| &count[..points.columns]).enumerate()
        {
            for panel in 0..self.layer.panels() {
                let (sums, after) = rest.split_at_mut(count * PANEL);
                products.push((point, panel, sums));
                rest = after;
            }
        }
        (products.into_par_iter().with_max_len(1)).try_for_each(|(point, panel, sums)| {
            self.control.cancel.check()?;
            let rows = |point: usize| {
                let (i, j) = (point / points.columns, point % points.columns);
                (&inputs[chunk.before[i][j] * stride..], chunk.count[i][j])
            };
            let (data, count) = rows(point);
            let sums = Sums { data: sums, stride: PANEL, outputs: PANEL, add: false };
            let (panels, last) = (self.layer.panels(), point + 1 == points.product());
            let next = match panel + 1 < panels {
                true => self.layer.weights(point, panel + 1),
                false if last => &[],
                false => self.layer.weights(point + 1, 0),
            };
            let after = if last {
                &[]
            } else {
                // Of the next point's rows, this panel's share.
                let (data, count) = rows(point + 1);
                &data[count * stride * panel / panels..count * stride * (panel + 1) / panels]
            };
            let weights = self.layer.weights(point, panel);
            product(self.workspace.instructions, Rows { data, stride }, count, weights, [next, after], sums);
            Ok(())
        })
    }

    /// Makes output pixels of `sums`.
    fn transform_sums(&self, pairs: &RunPairs<'_>, chunk: &Chunk, sums: &[f32], into: SharedRows<'_>) {
        let layer = self.layer;
        let outputs = layer.outputs();
        assert!(sums.len() >= chunk.rows * layer.panels() * PANEL);
        let floats = pairs.output.len() * outputs;
        assert!(into.len >= floats);
        // Pixels are multiples of the widest register.
        let stream = floats > PAST_CACHES && into.start().addr().is_multiple_of(4 * LANES);
        chunk.batches.par_iter().with_max_len(1).for_each(|batch| {
            // In the first panel of each point.
            let mut points = each(|i, j| {
                let row = chunk.before[i][j] * layer.panels() + batch.first[i][j];
                sums.as_ptr().cast_mut().wrapping_add(row * PANEL)
            });
            for pair in pairs.select(batch.pairs.clone()) {
                let RunPair { rows, columns } = pair;
                let mut pixels = [[std::ptr::null_mut(); SIDE]; SIDE];
                for (i, pixels) in pixels[..rows.len].iter_mut().enumerate() {
                    for (j, pixel) in pixels[..columns.len].iter_mut().enumerate() {
                        let index = pairs.output.index_of(rows.first + i, columns.first + j);
                        *pixel = into.start().wrapping_add(index * outputs);
                    }
                }
                let transform = OutputTransform {
                    from: &points,
                    counts: &chunk.count,
                    into: &pixels,
                    values: [rows.len, columns.len],
                    panel: 0,
                    bias: &layer.bias,
                    stream,
                    long: layer.long(),
                };
                // SAFETY: the machine has these instructions; every point has a row in every panel for each of its
                // pairs, which all lie in `sums`; the pair's pixels are stored, lie in `into`, and no other pair has
                // them.
                unsafe { self.workspace.instructions.run(transform) };
                pair.advance(&mut points, PANEL);
            }
            self.workspace.instructions.fence();
        });
    }

    /// Puts output pixels of `sums` into the pooled ones that read them. Pairs have pooled pixels in common: each task has panels of
    /// its own, or, if threads are more than panels, some pooled columns of one. The pairs between these are then made twice.
    fn pool_sums(
        &self,
        pairs: &RunPairs<'_>,
        chunk: &Chunk,
        sums: &[f32],
        pool: &MaxPool<'_>,
        into: SharedRows<'_>,
    ) -> Result<(), Error> {
        let (layer, instructions) = (self.layer, self.workspace.instructions);
        let (outputs, panels) = (layer.outputs(), layer.panels());
        assert!(sums.len() >= chunk.rows * panels * PANEL && into.len >= pool.output.len() * outputs);
        let threads = self.workspace.threads();
        let (panels_at_a_time, parts) = (panels.div_ceil(threads), threads.div_ceil(panels));
        let end = |part: usize| (pool.output.columns * part / parts) as u32;
        (0..panels.div_ceil(panels_at_a_time) * parts).into_par_iter().with_max_len(1).try_for_each(|task| {
            let (task, part) = (task / parts, task % parts);
            let within = end(part)..end(part + 1);
            let mut pixels = [0.0_f32; MAX_RUN * MAX_RUN * PANEL];
            let pixel = |i: usize, j: usize| (i * MAX_RUN + j) * PANEL;
            let start = pixels.as_mut_ptr();
            let local = each(|i, j| start.wrapping_add(pixel(i.min(MAX_RUN - 1), j.min(MAX_RUN - 1))));
            let mut readers = try_with_capacity(pool.most_readers(), "pools of a tile")?;
            for batch in &chunk.batches {
                let mut points = each(|i, j| {
                    let row = chunk.before[i][j] * panels + batch.first[i][j];
                    sums.as_ptr().cast_mut().wrapping_add(row * PANEL)
                });
                for pair in pairs.select(batch.pairs.clone()) {
                    let RunPair { rows, columns } = pair;
                    readers.clear();
                    let of = pool.readers(rows, columns, &within);
                    readers.extend(of.map(|(index, places)| (index * outputs, places.map(|(i, j)| pixel(i, j)))));
                    let wanted = if readers.is_empty() { 0 } else { panels_at_a_time };
                    for panel in (task * panels_at_a_time..panels).take(wanted) {
                        let bias = &layer.bias[panel * PANEL..outputs.min((panel + 1) * PANEL)];
                        let transform = OutputTransform {
                            from: &points,
                            counts: &chunk.count,
                            into: &local,
                            values: [rows.len, columns.len],
                            panel,
                            bias,
                            stream: false,
                            long: layer.long(),
                        };
                        let into = into.start().wrapping_add(panel * PANEL);
                        let pooled = Pooled { from: start, into, pixels: &readers, floats: bias.len() };
                        // SAFETY: the machine has these instructions; every point has a row in every panel for each of its
                        // pairs, which all lie in `sums`; pooled pixels lie in `into`, and no other task has this panel of
                        // theirs: those with the same panels have other columns.
                        unsafe {
                            instructions.run(transform);
                            instructions.run(pooled);
                        }
                    }
                    pair.advance(&mut points, PANEL);
                }
            }
            Ok(())
        })
    }
}

/// One of each point.
fn each<T>(of: impl Fn(usize, usize) -> T) -> [[T; SIDE]; SIDE] {
    std::array::from_fn(|i| std::array::from_fn(|j| of(i, j)))
}
