//! The forward pass of one tile: two halves of an arena, one read and one written by each layer, swapped after it.

use std::sync::Arc;
use std::time::Instant;

use super::black::Black;
use super::gather_conv::GatherConv;
use super::gather_max_pool::gather_max_pool;
use super::simd::Instructions;
use super::weights::PackedWeights;
use super::winograd::Winograd;
use super::workspace::Workspace;
use crate::cancel::Cancel;
use crate::engine::first_layer::INPUT_CHANNELS;
use crate::engine::{Control, LayerWork, Settings};
use crate::error::Error;
use crate::memory::Zeros;
use crate::memory::try_with_capacity;
use crate::patch_grid::PatchGrid;
use crate::plan::{HEAD, PlannedTile, STEPS, Step};

/// Weights, workspace and activations.
pub(super) struct Forward {
    /// Shared with the other sessions of the model.
    pub weights: Arc<PackedWeights>,
    workspace: Workspace,
    arena: Zeros<f32>,
    /// A block of Winograd run pairs.
    scratch: Zeros<f32>,
    /// Work of every step.
    pub layers: Vec<LayerWork>,
}

impl Forward {
    pub fn new(settings: &Settings<'_>, instructions: Instructions) -> Result<Self, Error> {
        let weights = settings.model.packed(&PackedWeights::key(settings), || PackedWeights::new(settings))?;
        let (floats, channels) = (weights.gathered_floats(), weights.max_channels());
        Ok(Self {
            workspace: Workspace::new(instructions, settings.threads, floats, channels)?,
            arena: Zeros::default(),
            scratch: Zeros::new(weights.scratch_floats(settings.threads), "transformed inputs")?,
            layers: named_layers(),
            weights,
        })
    }

    pub fn instructions(&self) -> Instructions {
        self.workspace.instructions
    }

    /// Bytes of weights and workspace.
    pub fn fixed_bytes(&self) -> u64 {
        self.weights.bytes() + self.workspace.bytes() + 4 * self.scratch.len() as u64
    }

    /// Gives the activations back if they are more than `bytes`.
    pub fn trim_to(&mut self, bytes: u64) {
        if 4 * self.arena.len() as u64 > bytes {
            self.arena = Zeros::default();
        }
    }

    /// Evaluates a tile. `image`: intensities of the slice, [height][width], 0 is black. Returns the
    /// logits, [patches][classes padded to the returned number].
    pub fn evaluate(
        &mut self,
        tile: &PlannedTile,
        grid: &PatchGrid,
        image: &[f32],
        width: usize,
        control: &Control,
    ) -> Result<(&[f32], usize), Error> {
        let plan = &tile.plan;
        let weights = &self.weights;
        let floats = weights.activation_floats(plan);
        let needed = floats[0].saturating_add(floats[1]);
        if self.arena.len() < needed {
            self.arena = Zeros::default(); // gives the old one back before the new one is taken
            self.arena = Zeros::touched(needed, "activations of a tile", &control.cancel)?;
        }
        let (mut from, mut into) = self.arena[..needed].split_at_mut(floats[0]);
        fill_input(tile, grid, image, width, from, &control.cancel)?;
        let mut black = Black::of_input(plan, &from[..])?;
        let workspace = &self.workspace;
        let gather = |layer, macs| GatherConv { layer, macs, workspace, control };
        let mut channels = INPUT_CHANNELS;
        for (index, &step) in STEPS.iter().enumerate() {
            let (began, read) = (Instant::now(), plan.input_of(index).len() * channels);
            let macs = weights.macs_per_output.step(step);
            let mut products = plan.step_macs(index, &weights.macs_per_output);
            match step {
                Step::Convolution(0) => {
                    gather(&weights.first, macs).step(plan, index, from, into)?;
                    channels = weights.first.outputs();
                }
                Step::Convolution(i) => {
                    let layer = &weights.convolutions[i - 1];
                    let winograd = Winograd { layer, macs, workspace, control };
                    let (taken, black_outputs) =
                        winograd.step(plan, index, black.as_ref(), from, into, &mut self.scratch)?;
                    (products, black) = (taken * macs / 9, black_outputs);
                    channels = layer.outputs();
                }
                Step::Pool => gather_max_pool(plan, index, channels, from, into, &control.cancel)?,
                Step::Head => {
                    gather(&weights.dense[0], macs).step(plan, index, from, into)?;
                    channels = weights.dense[0].outputs();
                }
            }
            std::mem::swap(&mut from, &mut into);
            if matches!(step, Step::Convolution(0) | Step::Pool) {
                black = match black {
                    Some(black) => black.after(plan, index, &control.cancel)?,
                    None => None,
                };
            }
            let layer = &mut self.layers[index];
            layer.seconds += began.elapsed().as_secs_f64();
            layer.bytes += 4 * (read + plan.output_of(index).len() * channels) as u64;
            layer.macs += plan.step_macs(index, &weights.macs_per_output);
            layer.products += products;
        }
        let began = Instant::now();
        let patches = plan.patches().len();
        for layer in &weights.dense[1..] {
            // Its work is counted with the head.
            gather(layer, 0).patchwise(patches, from, into)?;
            std::mem::swap(&mut from, &mut into);
        }
        self.layers[HEAD].seconds += began.elapsed().as_secs_f64();
        let padded = weights.dense[weights.dense.len() - 1].outputs();
        Ok((&from[..patches * padded], padded))
    }
}

/// No work yet, for every step.
fn named_layers() -> Vec<LayerWork> {
    let (mut stage, mut number) = (1, 0);
    let name = |step: &Step| match step {
        Step::Convolution(_) => {
            number += 1;
            format!("conv{stage}_{number}")
        }
        Step::Pool => {
            (stage, number) = (stage + 1, 0);
            format!("pool{}", stage - 1)
        }
        Step::Head => "dense".into(),
    };
    let layer = |name| LayerWork { name, ..LayerWork::default() };
    STEPS.iter().map(name).map(layer).collect()
}

/// Copies the pixels that the tile reads to `input`, [row values][column values][intensity, 1].
fn fill_input(
    tile: &PlannedTile,
    grid: &PatchGrid,
    image: &[f32],
    width: usize,
    input: &mut [f32],
    cancel: &Cancel,
) -> Result<(), Error> {
    let (rows, columns) = (&tile.plan.axes.rows, &tile.plan.axes.columns);
    let row_floats = columns.inputs() * INPUT_CHANNELS;
    let band_rows = rows.inputs() / tile.starts.len();
    let mut shown = try_with_capacity(columns.inputs(), "columns of a tile")?;
    let bands = input.chunks_exact_mut(band_rows * row_floats);
    for (band, (&(top, left), lines)) in tile.starts.iter().zip(bands).enumerate() {
        shown.clear();
        shown.extend((0..columns.inputs()).map(|c| columns.pixel(c, left, grid.x.len)));
        for (row, pairs) in lines.chunks_exact_mut(row_floats).enumerate() {
            cancel.check()?;
            let line = rows
                .pixel(band * band_rows + row, top, grid.y.len)
                .map(|y| &image[(grid.y.origin + y) * width + grid.x.origin..]);
            for (pair, x) in pairs.chunks_exact_mut(INPUT_CHANNELS).zip(&shown) {
                let intensity = line.zip(*x).map_or(0.0, |(line, x)| line[x]);
                pair.copy_from_slice(&[intensity, 1.0]);
            }
        }
    }
    Ok(())
}
