//! table_conv: taps gathered into a matrix, multiplied by packed weights.

use rayon::prelude::*;

use super::product::{PANEL, Rows, Sums, product};
use super::weights::Layer;
use super::workspace::Workspace;
use crate::engine::Control;
use crate::error::Error;
use crate::plan::{Image, TapTable, TilePlan};

/// Most pixels of one piece of work: gathered inputs and a panel of weights stay in the L2 cache.
const BLOCK_PIXELS: usize = 192;
/// Inputs gathered at a time, about.
const GROUP_INPUTS: usize = 512;

/// Floats that a thread needs to gather inputs.
pub(super) fn gathered_floats(layer: &Layer) -> usize {
    group_taps(layer) * layer.channels * BLOCK_PIXELS
}

/// Taps that are gathered at a time.
fn group_taps(layer: &Layer) -> usize {
    (GROUP_INPUTS / layer.channels).clamp(1, layer.positions.len())
}

/// Where the inputs of an output pixel come from.
enum Taps<'a> {
    /// The tap tables of a step.
    Tables { rows: &'a TapTable, columns: &'a TapTable, input: &'a Image, output: &'a Image },
    /// One tap: the pixel itself.
    SamePixel,
}

impl Taps<'_> {
    /// Copies the inputs of `pixel` at `positions` (tap row, tap column) to `row` ([taps][channels]).
    fn gather(&self, pixel: usize, positions: &[(usize, usize)], channels: usize, from: &[f32], row: &mut [f32]) {
        let (rows, columns, input) = match self {
            Self::SamePixel => {
                row.copy_from_slice(&from[pixel * channels..][..channels]);
                return;
            }
            Self::Tables { rows, columns, input, output } => {
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
    pub fn step(&self, plan: &TilePlan, index: usize, from: &[f32], into: &mut [f32]) -> Result<(), Error> {
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
    fn run(&self, taps: &Taps<'_>, pixels: usize, from: &[f32], into: &mut [f32]) -> Result<(), Error> {
        let outputs = self.layer.outputs();
        // Small images are spread over all threads.
        let spread = pixels.div_ceil(4 * self.workspace.threads());
        let block = spread.clamp(1, BLOCK_PIXELS);
        into[..pixels * outputs].par_chunks_mut(block * outputs).enumerate().try_for_each(|(number, into)| {
            let mut gathered = self.workspace.of_this_thread();
            self.block(taps, number * block, from, into, &mut gathered)?;
            let pixels = into.len() / outputs;
            self.control.add_macs(self.macs * pixels as u64);
            Ok(())
        })
    }

    /// Output pixels `first..` that fit in `into` ([pixels][outputs]).
    fn block(
        &self,
        taps: &Taps<'_>,
        first: usize,
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
            let first_input = number * group * channels;
            let inputs = positions.len() * channels;
            // gathered: [pixels][taps of the group][channels]
            for (i, row) in gathered.chunks_exact_mut(inputs).take(count).enumerate() {
                taps.gather(first + i, positions, channels, from, row);
            }
            let rows = Rows { data: gathered, stride: inputs };
            for (panel, weights) in layer.panels().enumerate() {
                self.control.check()?;
                let weights = &weights[first_input * PANEL..][..inputs * PANEL];
                let sums = Sums {
                    data: &mut into[panel * PANEL..],
                    stride: outputs,
                    outputs: PANEL.min(outputs - panel * PANEL),
                    add: true,
                };
                product(self.workspace.instructions, rows, count, weights, sums);
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
