//! gather_conv: taps gathered into a matrix, multiplied by packed weights.
//!
//! ```text
//! panels of 32 outputs:  weight[panel][input][output in panel], zeros where there is no output
//! input = (tap row, tap column, channel), channels padded like the activations they meet
//! ```

use rayon::prelude::*;

use super::product::{PANEL, Rows, Sums, padded, product};
use super::workspace::Workspace;
use crate::engine::Control;
use crate::error::Error;
use crate::memory::Zeros;
use crate::plan::{Image, TapTable, TilePlan};

/// Maximum pixels of one task: gathered inputs and a panel of weights stay in the L2 cache.
const TASK_PIXELS: usize = 192;
/// Approximate number of inputs gathered at a time.
const GROUP_INPUTS: usize = 512;

/// A layer's weights, as they are.
pub(super) struct GatherLayer {
    /// [panel][inputs][PANEL]
    panels: Zeros<f32>,
    /// [outputs], padding included
    bias: Vec<f32>,
    /// (row, column) of each tap, row by row.
    pub positions: Vec<(usize, usize)>,
    /// Channels of the activations that it reads, padding included.
    pub channels: usize,
    /// Negative sums become zero.
    pub relu: bool,
}

impl GatherLayer {
    /// A layer of `side` x `side` taps; `weight(output, tap, channel)` gives each parameter.
    pub fn new(
        bias: impl ExactSizeIterator<Item = f32>,
        side: usize,
        channels: usize,
        relu: bool,
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Result<Self, Error> {
        let outputs = bias.len();
        let rows = 0..side;
        let positions: Vec<_> = rows.flat_map(|row| (0..side).map(move |column| (row, column))).collect();
        let panel = positions.len() * channels * PANEL;
        let mut panels = Zeros::new(outputs.div_ceil(PANEL) * panel, "packed weights")?;
        for (number, panel) in panels.chunks_exact_mut(panel).enumerate() {
            for (input, weights) in panel.chunks_exact_mut(PANEL).enumerate() {
                let (tap, channel) = (input / channels, input % channels);
                for (output, into) in (number * PANEL..outputs).zip(weights) {
                    *into = weight(output, tap, channel);
                }
            }
        }
        Ok(Self { panels, bias: padded(bias)?, positions, channels, relu })
    }

    pub fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// [outputs]
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Weights of each panel of outputs, [inputs][PANEL].
    pub fn panels(&self) -> impl Iterator<Item = &[f32]> {
        let inputs = self.positions.len() * self.channels;
        self.panels.chunks_exact(inputs * PANEL)
    }

    pub fn bytes(&self) -> u64 {
        4 * (self.panels.len() + self.bias.len()) as u64
    }

    /// Floats that a thread needs to gather inputs.
    pub fn gathered_floats(&self) -> usize {
        self.group_taps() * self.channels * TASK_PIXELS
    }

    /// Taps that are gathered at a time.
    fn group_taps(&self) -> usize {
        (GROUP_INPUTS / self.channels).clamp(1, self.positions.len())
    }
}

/// The source of an output pixel's inputs.
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
                let index = input.index_of(r as usize, c as usize);
                to.copy_from_slice(&from[index * channels..][..channels]);
            }
        }
    }
}

/// One layer of one tile.
pub(super) struct GatherConv<'a> {
    pub layer: &'a GatherLayer,
    /// Multiply-accumulates of one output pixel that are counted for the progress.
    pub macs: u64,
    pub workspace: &'a Workspace,
    pub control: &'a Control,
}

impl GatherConv<'_> {
    /// Step `index` of the plan.
    pub fn step(&self, plan: &TilePlan, index: usize, from: &[f32], into: &mut [f32]) -> Result<(), Error> {
        let taps = Taps::Tables {
            rows: plan.axes.rows.layer(index),
            columns: plan.axes.columns.layer(index),
            input: plan.input_of(index),
            output: plan.output_of(index),
        };
        self.run(&taps, plan.output_of(index).len(), from, into)
    }

    /// A dense layer after the head: each of `patches` patches by itself.
    pub fn patchwise(&self, patches: usize, from: &[f32], into: &mut [f32]) -> Result<(), Error> {
        self.run(&Taps::SamePixel, patches, from, into)
    }

    /// `into`: [pixels][outputs].
    fn run(&self, taps: &Taps<'_>, pixels: usize, from: &[f32], into: &mut [f32]) -> Result<(), Error> {
        let outputs = self.layer.outputs();
        // Small images are spread over all threads.
        let spread = pixels.div_ceil(4 * self.workspace.threads());
        let most = spread.clamp(1, TASK_PIXELS);
        into[..pixels * outputs].par_chunks_mut(most * outputs).enumerate().try_for_each(|(number, into)| {
            let mut gathered = self.workspace.of_this_thread();
            self.task(taps, number * most, from, into, &mut gathered)?;
            let pixels = into.len() / outputs;
            self.control.add_macs(self.macs * pixels as u64);
            Ok(())
        })
    }

    /// Output pixels `first..` that fit in `into` ([pixels][outputs]).
    fn task(
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
        let group = layer.group_taps();
        for (number, positions) in layer.positions.chunks(group).enumerate() {
            let first_input = number * group * channels;
            let inputs = positions.len() * channels;
            // gathered: [pixels][taps of the group][channels]
            for (i, row) in gathered.chunks_exact_mut(inputs).take(count).enumerate() {
                taps.gather(first + i, positions, channels, from, row);
            }
            let rows = Rows { data: gathered, stride: inputs };
            for (panel, weights) in layer.panels().enumerate() {
                self.control.cancel.check()?;
                let weights = &weights[first_input * PANEL..][..inputs * PANEL];
                let sums = Sums {
                    data: &mut into[panel * PANEL..],
                    stride: outputs,
                    outputs: PANEL.min(outputs - panel * PANEL),
                    add: true,
                };
                product(self.workspace.instructions, rows, count, weights, [&[]; 2], sums);
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
