//! All layers of one piece: two halves of an arena, which a layer reads and writes and which then change
//! places.

use std::sync::Arc;
use std::time::Instant;

use super::arena::Floats;
use super::simd::Instructions;
use super::table_conv::TableConv;
use super::table_max::table_max;
use super::weights::Weights;
use super::winograd::{Winograd, winograd_products};
use super::workspace::Workspace;
use crate::engine::first_layer::INPUT_CHANNELS;
use crate::engine::{Control, LayerWork, Settings};
use crate::error::Error;
use crate::lattice::Lattice;
use crate::memory::try_with_capacity;
use crate::plan::{AxisPlan, Image, PlannedPiece, STEPS, Step, TilePlan};

/// Weights, workspace and activations.
pub(super) struct Network {
    /// Shared with the other sessions of the model.
    pub weights: Arc<Weights>,
    workspace: Workspace,
    /// Activations.
    arena: Floats,
    /// A block of tiles.
    room: Floats,
    /// Of every step.
    pub layers: Vec<LayerWork>,
}

impl Network {
    pub fn new(settings: &Settings<'_>, instructions: Instructions) -> Result<Self, Error> {
        let weights = (settings.model).shared(&settings.key("cpu"), || Weights::new(settings))?;
        let workspace = Workspace::new(instructions, settings.threads, &weights)?;
        let room = Floats::new(weights.room(), "transformed inputs")?;
        Ok(Self { room, weights, workspace, arena: Floats::default(), layers: named_layers() })
    }

    /// What it computes with.
    pub fn instructions(&self) -> Instructions {
        self.workspace.instructions
    }

    /// Bytes of weights and workspace.
    pub fn fixed_bytes(&self) -> u64 {
        self.weights.bytes() + self.workspace.bytes() + 4 * self.room.len() as u64
    }

    /// Bytes of the activations of a tile of these axes when all its pixels are stored.
    pub fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        floats_bytes(self.arena_floats(|image| match image {
            0 => rows.inputs() * columns.inputs(),
            _ => rows.layer(image - 1).len() * columns.layer(image - 1).len(),
        }))
    }

    /// Bytes of the activations of a piece.
    pub fn piece_bytes(&self, plan: &TilePlan) -> u64 {
        floats_bytes(self.arena_floats(|image| image_of(plan, image).len()))
    }

    /// Gives the activations back.
    pub fn trim(&mut self) {
        self.arena = Floats::default();
    }

    /// Gives the activations back if they are more than `bytes`.
    pub fn trim_to(&mut self, bytes: u64) {
        if 4 * self.arena.len() as u64 > bytes {
            self.trim();
        }
    }

    /// Evaluates a piece. `image`: intensities of the slice, [height][width], 0 is black. Returns the
    /// logits, [stored lattice points][classes padded to the returned number].
    pub fn run(
        &mut self,
        piece: &PlannedPiece,
        lattice: &Lattice,
        image: &[f32],
        width: usize,
        control: &Control,
    ) -> Result<(&[f32], usize), Error> {
        let plan = &piece.plan;
        let floats = self.arena_floats(|image| image_of(plan, image).len());
        let needed = floats[0].saturating_add(floats[1]);
        if self.arena.len() < needed {
            self.trim(); // gives the old one back before the new one is taken
            self.arena = Floats::new(needed, "activations of a tile")?;
        }
        let (mut from, mut into) = self.arena[..needed].split_at_mut(floats[0]);
        fill_input(piece, lattice, image, width, from)?;
        let conv = |layer, macs| TableConv { layer, macs, workspace: &self.workspace, control };
        let mut channels = INPUT_CHANNELS;
        for (index, &step) in STEPS.iter().enumerate() {
            let (began, read) = (Instant::now(), plan.input_of(index).len() * channels);
            match step {
                Step::Convolution(0) => {
                    let layer = &self.weights.first;
                    conv(layer, self.weights.convolution_macs[0]).step(plan, index, from, into)?;
                    channels = layer.outputs();
                }
                Step::Convolution(i) => {
                    let winograd = Winograd {
                        layer: &self.weights.convolutions[i - 1],
                        macs: self.weights.convolution_macs[i],
                        workspace: &self.workspace,
                        control,
                    };
                    winograd.step(plan, index, from, into, &mut self.room)?;
                    channels = winograd.layer.outputs();
                }
                Step::Pool => table_max(plan, index, channels, from, into, control)?,
                Step::Head => {
                    let layer = &self.weights.dense[0];
                    conv(layer, self.weights.head_macs).step(plan, index, from, into)?;
                    channels = layer.outputs();
                }
            }
            std::mem::swap(&mut from, &mut into);
            let layer = &mut self.layers[index];
            layer.seconds += began.elapsed().as_secs_f64();
            layer.bytes += 4 * (read + plan.output_of(index).len() * channels) as u64;
            let weights = &self.weights;
            layer.macs += plan.step_macs(index, &weights.convolution_macs, weights.head_macs);
            layer.products += match step {
                Step::Convolution(i @ 1..) => winograd_products(plan, index)? * weights.convolution_macs[i] / 9,
                _ => plan.step_macs(index, &weights.convolution_macs, weights.head_macs),
            };
        }
        let began = Instant::now();
        let points = plan.lattice().len();
        for layer in &self.weights.dense[1..] {
            // Its work is counted with the head.
            conv(layer, 0).pointwise(points, from, into)?;
            std::mem::swap(&mut from, &mut into);
        }
        self.layers[STEPS.len() - 1].seconds += began.elapsed().as_secs_f64();
        let padded = self.weights.dense[self.weights.dense.len() - 1].outputs();
        Ok((&from[..points * padded], padded))
    }

    /// Floats of the two halves of the arena, given how many pixels each image stores. The dense layers follow
    /// the head as further images of the lattice.
    fn arena_floats(&self, pixels: impl Fn(usize) -> usize) -> [usize; 2] {
        let mut floats = [pixels(0) * INPUT_CHANNELS, 0];
        let mut channels = INPUT_CHANNELS;
        let mut into = 1;
        let mut need = |count: usize, channels: usize| {
            let count = count.saturating_mul(channels);
            floats[into] = floats[into].max(count);
            into = 1 - into;
        };
        let mut lattice = 0;
        for (index, &step) in STEPS.iter().enumerate() {
            channels = match step {
                Step::Convolution(0) => self.weights.first.outputs(),
                Step::Convolution(i) => self.weights.convolutions[i - 1].outputs(),
                Step::Pool => channels,
                Step::Head => self.weights.dense[0].outputs(),
            };
            lattice = pixels(index + 1);
            need(lattice, channels);
        }
        for dense in &self.weights.dense[1..] {
            need(lattice, dense.outputs());
        }
        floats
    }
}

/// Work of no layer yet.
fn named_layers() -> Vec<LayerWork> {
    let (mut stage, mut place) = (1, 0);
    let name = |step: &Step| match step {
        Step::Convolution(_) => {
            place += 1;
            format!("conv{stage}_{place}")
        }
        Step::Pool => {
            (stage, place) = (stage + 1, 0);
            format!("pool{}", stage - 1)
        }
        Step::Head => "dense".into(),
    };
    let layer = |name| LayerWork { name, ..LayerWork::default() };
    STEPS.iter().map(name).map(layer).collect()
}

/// Copies the pixels that the piece reads to `input`, [row values][column values][intensity, 1].
fn fill_input(
    piece: &PlannedPiece,
    lattice: &Lattice,
    image: &[f32],
    width: usize,
    input: &mut [f32],
) -> Result<(), Error> {
    let (rows, columns) = (&piece.plan.rows, &piece.plan.columns);
    let row_floats = columns.inputs() * INPUT_CHANNELS;
    let band_rows = rows.inputs() / piece.starts.len();
    let mut shown = try_with_capacity(columns.inputs(), "columns of a tile")?;
    let bands = input.chunks_exact_mut(band_rows * row_floats);
    for (band, (&(top, left), lines)) in piece.starts.iter().zip(bands).enumerate() {
        shown.clear();
        shown.extend((0..columns.inputs()).map(|c| columns.pixel(c, left, lattice.x.len)));
        for (row, pairs) in lines.chunks_exact_mut(row_floats).enumerate() {
            let line = rows
                .pixel(band * band_rows + row, top, lattice.y.len)
                .map(|y| &image[(lattice.y.origin + y) * width + lattice.x.origin..]);
            for (pair, x) in pairs.chunks_exact_mut(INPUT_CHANNELS).zip(&shown) {
                let intensity = line.zip(*x).map_or(0.0, |(line, x)| line[x]);
                pair.copy_from_slice(&[intensity, 1.0]);
            }
        }
    }
    Ok(())
}

fn floats_bytes(floats: [usize; 2]) -> u64 {
    (floats[0] as u64).saturating_add(floats[1] as u64).saturating_mul(4)
}

fn image_of(plan: &TilePlan, image: usize) -> &Image {
    match image {
        0 => plan.input_of(0),
        _ => plan.output_of(image - 1),
    }
}
