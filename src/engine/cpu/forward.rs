//! The forward pass of one tile: each layer reads what lies at one end of an arena, and writes at the other end.

use std::sync::Arc;
use std::time::Instant;

use super::black::Black;
use super::gather_conv::GatherConv;
use super::max_pool::MaxPool;
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
    /// A chunk of Winograd run pairs.
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
        let needed = weights.activation_floats(plan);
        if self.arena.len() < needed {
            self.arena = Zeros::default(); // gives the old one back before the new one is taken
            self.arena = Zeros::touched(needed, "activations of a tile", &control.cancel)?;
        }
        let arena = &mut self.arena[..needed];
        let (mut read, mut at_start) = (plan.input_of(0).len() * INPUT_CHANNELS, true);
        fill_input(tile, grid, image, width, &mut arena[..read], &control.cancel)?;
        let mut black = Black::of_input(plan, &arena[..read])?;
        let workspace = &self.workspace;
        let gather = |layer, macs| GatherConv { layer, macs, workspace, control };
        let mut channels = INPUT_CHANNELS;
        for (index, &step) in STEPS.iter().enumerate() {
            if step == Step::Pool {
                continue; // a part of the convolution before it
            }
            let began = Instant::now();
            let output = plan.output_of(index + usize::from(MaxPool::follows(index)));
            channels = weights.channels_after(step, channels);
            let written = output.len() * channels;
            let (from, into) = ends(arena, at_start, read, written);
            let macs = weights.macs_per_output.step(step);
            let mut products = plan.step_macs(index, &weights.macs_per_output);
            match step {
                Step::Convolution(i @ 1..) => {
                    let layer = &weights.convolutions[i - 1];
                    let winograd = Winograd { layer, macs, workspace, control };
                    let (taken, black_outputs) =
                        winograd.step(plan, index, black.as_ref(), from, into, &mut self.scratch)?;
                    (products, black) = (taken * macs / 9, black_outputs);
                }
                _ => {
                    let layer = if step == Step::Head { &weights.dense[0] } else { &weights.first };
                    gather(layer, macs).step(plan, index, from, into)?;
                    black = match black {
                        Some(black) if step != Step::Head => black.after(plan, index, &control.cancel)?,
                        _ => None,
                    };
                }
            }
            let layer = &mut self.layers[index];
            layer.seconds += began.elapsed().as_secs_f64();
            layer.bytes += 4 * (read + written) as u64;
            layer.macs += plan.step_macs(index, &weights.macs_per_output);
            layer.products += products;
            (at_start, read) = (!at_start, written);
        }
        let began = Instant::now();
        let patches = plan.patches().len();
        for layer in &weights.dense[1..] {
            let written = patches * layer.outputs();
            let (from, into) = ends(arena, at_start, read, written);
            // Its work is counted with the head.
            gather(layer, 0).patchwise(patches, from, into)?;
            (at_start, read) = (!at_start, written);
        }
        self.layers[HEAD].seconds += began.elapsed().as_secs_f64();
        let padded = weights.dense[weights.dense.len() - 1].outputs();
        let (logits, _) = ends(arena, at_start, read, 0);
        Ok((logits, padded))
    }
}

/// The floats that a layer reads, at the start of the arena or else at its end, and those that it writes, at the other end.
fn ends(arena: &mut [f32], read_start: bool, read: usize, written: usize) -> (&mut [f32], &mut [f32]) {
    let (first, last) = if read_start { (read, written) } else { (written, read) };
    let (first, rest) = arena.split_at_mut(first);
    let at = rest.len() - last;
    let last = &mut rest[at..];
    if read_start { (first, last) } else { (last, first) }
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
