//! table_conv: taps gathered into a matrix, multiplied by packed weights.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use super::weights::{LANES, Layer, Weights};
use crate::engine::Control;
use crate::error::Error;
use crate::memory::{ensure_headroom, try_filled};
use crate::plan::{Image, TapTable, TilePlan};

/// Pixels of one product. With 64 outputs at most, the `gemm` crate neither re-packs nor allocates,
/// and splits the inputs at 512: sums have one order.
const PRODUCT_PIXELS: usize = 48;
/// Most pixels of one piece of work: gathered inputs and a panel of weights stay in the L2 cache.
const BLOCK_PIXELS: usize = 4 * PRODUCT_PIXELS;
/// Pixels are padded to a multiple of this, so that no product has a single column (the `gemm` crate
/// sums those in another order).
const PIXEL_GRAIN: usize = 8;
/// Inputs gathered at a time, about.
const GROUP_INPUTS: usize = 512;

/// Pixels that an arena must have room for to store `pixels`.
pub(super) fn spare_pixels(pixels: usize) -> usize {
    pixels.next_multiple_of(PIXEL_GRAIN)
}

/// Gathered inputs, one buffer per thread.
pub(super) struct Workspace {
    /// Of one thread.
    floats: usize,
    gathered: Vec<Mutex<Vec<f32>>>,
}

impl Workspace {
    pub fn new(threads: usize, weights: &Weights) -> Result<Self, Error> {
        let layers = weights.convolutions.iter().chain(&weights.dense);
        let floats = layers
            .map(|layer| group_taps(layer) * layer.channels)
            .max()
            .unwrap_or(0)
            * BLOCK_PIXELS;
        let gathered = (0..threads)
            .map(|_| Ok(Mutex::new(try_filled(floats, 0.0, "gathered inputs")?)))
            .collect::<Result<_, Error>>()?;
        warm_up()?;
        Ok(Self { floats, gathered })
    }

    pub fn bytes(&self) -> u64 {
        4 * (self.gathered.len() * self.floats) as u64
    }
}

/// The `gemm` crate allocates a buffer of the size of the L2 cache at each thread's first product, and
/// aborts the process if it cannot: so that happens now, one thread after another, each when it has seen
/// that there is memory for it.
fn warm_up() -> Result<(), Error> {
    const MOST_L2_BYTES: usize = 4 << 20;
    let turn = Mutex::new(());
    let outcomes = rayon::broadcast(|_| {
        let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        ensure_headroom(MOST_L2_BYTES, "matrix products")?;
        let (a, weights) = ([1.0; 4 * PIXEL_GRAIN], [1.0; 4 * LANES]);
        let mut out = [0.0; PIXEL_GRAIN * LANES];
        add_product(&mut out, LANES, &a, 4, &weights, LANES, PIXEL_GRAIN);
        Ok(())
    });
    outcomes.into_iter().collect()
}

/// Taps that are gathered at a time.
fn group_taps(layer: &Layer) -> usize {
    (GROUP_INPUTS / layer.channels).clamp(1, layer.positions.len())
}

/// Where the inputs of an output pixel come from.
enum Taps<'a> {
    /// The tap tables of a step.
    Tables {
        rows: &'a TapTable,
        columns: &'a TapTable,
        input: &'a Image,
        output: &'a Image,
    },
    /// One tap: the pixel itself.
    SamePixel,
}

impl Taps<'_> {
    /// Copies the inputs of `pixel` at `positions` (tap row, tap column) to `row` ([taps][channels]).
    fn gather(
        &self,
        pixel: usize,
        positions: &[(usize, usize)],
        channels: usize,
        from: &[f32],
        row: &mut [f32],
    ) {
        let (rows, columns, input) = match self {
            Self::SamePixel => {
                row.copy_from_slice(&from[pixel * channels..][..channels]);
                return;
            }
            Self::Tables {
                rows,
                columns,
                input,
                output,
            } => {
                let (r, c) = output.position(pixel);
                (rows.taps_of(r), columns.taps_of(c), input)
            }
        };
        for (&(i, j), to) in positions.iter().zip(row.chunks_exact_mut(channels)) {
            let (r, c) = (rows[i], columns[j]);
            if r < 0 || c < 0 {
                to.fill(0.0);
            } else {
                let slot = input.slot(r as usize, c as usize);
                to.copy_from_slice(&from[slot * channels..][..channels]);
            }
        }
    }
}

/// One layer of one tile.
pub(super) struct TableConv<'a> {
    pub layer: &'a Layer,
    /// Multiply-accumulates of one output pixel that are counted for the progress.
    pub macs: u64,
    pub workspace: &'a Workspace,
    pub control: &'a Control,
}

impl TableConv<'_> {
    /// Step `index` of the plan.
    pub fn step(
        &self,
        plan: &TilePlan,
        index: usize,
        from: &[f32],
        into: &mut [f32],
    ) -> Result<(), Error> {
        let taps = Taps::Tables {
            rows: plan.rows.layer(index),
            columns: plan.columns.layer(index),
            input: plan.input_of(index),
            output: plan.output_of(index),
        };
        self.run(&taps, plan.output_of(index).len(), from, into)
    }

    /// A dense layer after the head: each of `points` lattice points by itself.
    pub fn pointwise(&self, points: usize, from: &[f32], into: &mut [f32]) -> Result<(), Error> {
        self.run(&Taps::SamePixel, points, from, into)
    }

    /// `into`: [pixels][outputs].
    fn run(
        &self,
        taps: &Taps<'_>,
        pixels: usize,
        from: &[f32],
        into: &mut [f32],
    ) -> Result<(), Error> {
        let outputs = self.layer.outputs();
        let threads = self.workspace.gathered.len();
        // Small images are spread over all threads.
        let block = pixels
            .div_ceil(2 * threads)
            .next_multiple_of(PRODUCT_PIXELS)
            .min(BLOCK_PIXELS);
        into[..spare_pixels(pixels) * outputs]
            .par_chunks_mut(block * outputs)
            .enumerate()
            .try_for_each(|(number, into)| {
                let worker = rayon::current_thread_index().unwrap_or(0);
                let mut gathered = self.workspace.gathered[worker]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                let first = number * block;
                self.block(taps, first, pixels, from, into, &mut gathered)?;
                self.control
                    .add_macs(self.macs * (into.len() / outputs).min(pixels - first) as u64);
                Ok(())
            })
    }

    /// Output pixels `first..` that fit in `into` ([pixels][outputs]); those from `pixels` on are padding.
    fn block(
        &self,
        taps: &Taps<'_>,
        first: usize,
        pixels: usize,
        from: &[f32],
        into: &mut [f32],
        gathered: &mut [f32],
    ) -> Result<(), Error> {
        let layer = self.layer;
        let outputs = layer.outputs();
        let channels = layer.channels;
        let count = into.len() / outputs;
        for row in into.chunks_exact_mut(outputs) {
            row.copy_from_slice(layer.bias());
        }
        let group = group_taps(layer);
        for (number, positions) in layer.positions.chunks(group).enumerate() {
            let first_tap = number * group;
            let inputs = positions.len() * channels;
            // gathered: [pixels][taps of the group][channels]
            for (i, row) in gathered.chunks_exact_mut(inputs).take(count).enumerate() {
                let pixel = (first + i).min(pixels - 1);
                taps.gather(pixel, positions, channels, from, row);
            }
            for (output, width, weights) in layer.panels() {
                self.control.check()?;
                let weights = &weights[first_tap * channels * width..][..inputs * width];
                for start in (0..count).step_by(PRODUCT_PIXELS) {
                    let columns = (count - start).min(PRODUCT_PIXELS);
                    let a = &gathered[start * inputs..][..columns * inputs];
                    let out = &mut into[start * outputs + output..];
                    add_product(out, outputs, a, inputs, weights, width, columns);
                }
            }
        }
        if layer.relu {
            for value in into {
                *value = if *value < 0.0 { 0.0 } else { *value };
            }
        }
        Ok(())
    }
}

/// out[column][output] += sum over i of a[column][i] * weights[i][output], `out` at stride `outputs`.
fn add_product(
    out: &mut [f32],
    outputs: usize,
    a: &[f32],
    inputs: usize,
    weights: &[f32],
    width: usize,
    columns: usize,
) {
    assert!(out.len() >= (columns - 1) * outputs + width);
    assert_eq!(a.len(), columns * inputs);
    assert_eq!(weights.len(), inputs * width);
    // SAFETY: the three matrices lie within their slices, as just checked: `out` is width x columns
    // with column stride `outputs`, `weights` width x inputs, `a` inputs x columns, all dense in their
    // rows.
    unsafe {
        gemm::gemm(
            width,
            columns,
            inputs,
            out.as_mut_ptr(),
            outputs as isize,
            1,
            true,
            weights.as_ptr(),
            width as isize,
            1,
            a.as_ptr(),
            inputs as isize,
            1,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
