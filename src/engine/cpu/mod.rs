//! The CPU engine: f32 arithmetic, tables gathered into matrices, products by the `gemm` crate.
//!
//! ```text
//! for each layer, for each block of output pixels (in parallel):
//!     out[pixel][..] = bias
//!     for each group of taps (about 512 inputs):
//!         a[pixel][tap, channel] = x[slot of the tap][channel], zeros where the tap is -1
//!         out += a * weights[tap, channel][..]
//!     out = max(out, 0)
//! ```
//!
//! Activations are [stored pixels][channels], channels padded to a multiple of 16 with zeros. The first
//! layer sees two channels, [intensity, 1]: the second carries the mean of the normalisation, which is
//! there inside the patch and not in its zero border (see `weights`).
//!
//! A sum always runs over the same groups in the same order, whatever the block, so results do not
//! depend on threads, tiles, budget or ROI.

mod arena;
mod table_conv;
mod table_max;
mod weights;

use crate::engine::{Control, Device, Engine, Settings};
use crate::error::Error;
use crate::plan::{AxisPlan, Image, STEPS, Step, TilePlan};
use arena::try_zeroed;
use table_conv::{TableConv, Workspace, spare_pixels};
use table_max::table_max;
use weights::Weights;

/// Channels of the first layer's input: intensity, and 1 inside the patch.
const INPUT_CHANNELS: usize = 2;

/// See the module.
pub(crate) struct CpuEngine {
    weights: Weights,
    workspace: Workspace,
    /// Activations: two parts, which a layer reads and writes and which then change places.
    arena: Vec<f32>,
    threads: usize,
}

impl CpuEngine {
    pub fn new(settings: &Settings<'_>) -> Result<Self, Error> {
        let weights = Weights::new(settings)?;
        let workspace = Workspace::new(settings.threads, &weights)?;
        Ok(Self {
            weights,
            workspace,
            arena: Vec::new(),
            threads: settings.threads,
        })
    }

    /// Floats of the two parts of the arena, given how many pixels each image stores. The dense layers follow
    /// the head as further images of the lattice.
    fn arena_floats(&self, pixels: impl Fn(usize) -> usize) -> [usize; 2] {
        let mut floats = [pixels(0) * INPUT_CHANNELS, 0];
        let mut channels = INPUT_CHANNELS;
        let mut into = 1;
        let mut need = |count: usize, channels: usize| {
            let count = spare_pixels(count).saturating_mul(channels);
            floats[into] = floats[into].max(count);
            into = 1 - into;
        };
        let mut lattice = 0;
        for (index, &step) in STEPS.iter().enumerate() {
            channels = match step {
                Step::Convolution(i) => self.weights.convolutions[i].outputs(),
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

impl Engine for CpuEngine {
    fn name(&self) -> String {
        let simd = instruction_set();
        let plural = if self.threads == 1 { "" } else { "s" };
        format!("cpu ({simd}, {} thread{plural})", self.threads)
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn fixed_bytes(&self) -> u64 {
        self.weights.bytes() + self.workspace.bytes()
    }

    fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        let floats = self.arena_floats(|image| match image {
            0 => rows.inputs() * columns.inputs(),
            _ => rows.layer(image - 1).len() * columns.layer(image - 1).len(),
        });
        floats_bytes(floats)
    }

    fn plan_bytes(&self, plan: &TilePlan) -> u64 {
        let floats = self.arena_floats(|image| image_of(plan, image).len());
        floats_bytes(floats)
    }

    fn unit_macs(&self) -> (&[u64], u64) {
        (&self.weights.convolution_macs, self.weights.head_macs)
    }

    fn trim(&mut self, bytes: u64) {
        if 4 * self.arena.len() as u64 > bytes {
            self.arena = Vec::new();
        }
    }

    fn run(
        &mut self,
        plan: &TilePlan,
        input: &[f32],
        logits: &mut [f32],
        control: &Control,
    ) -> Result<(), Error> {
        let floats = self.arena_floats(|image| image_of(plan, image).len());
        let needed = floats[0].saturating_add(floats[1]);
        if self.arena.len() < needed {
            self.arena = Vec::new(); // gives the old one back before the new one is taken
            self.arena = try_zeroed(needed, "activations of a tile")?;
        }
        let (mut from, mut into) = self.arena[..needed].split_at_mut(floats[0]);
        for (pair, &intensity) in from.chunks_exact_mut(INPUT_CHANNELS).zip(input) {
            pair.copy_from_slice(&[intensity, 1.0]);
        }
        let conv = |layer, macs| TableConv {
            layer,
            macs,
            workspace: &self.workspace,
            control,
        };
        let mut channels = INPUT_CHANNELS;
        for (index, &step) in STEPS.iter().enumerate() {
            match step {
                Step::Convolution(i) => {
                    let layer = &self.weights.convolutions[i];
                    let macs = self.weights.convolution_macs[i];
                    conv(layer, macs).step(plan, index, from, into)?;
                    channels = layer.outputs();
                }
                Step::Pool => table_max(plan, index, channels, from, into, control)?,
                Step::Head => {
                    let layer = &self.weights.dense[0];
                    conv(layer, self.weights.head_macs).step(plan, index, from, into)?;
                }
            }
            std::mem::swap(&mut from, &mut into);
        }
        let points = plan.lattice().len();
        for layer in &self.weights.dense[1..] {
            // Its work is counted with the head.
            conv(layer, 0).pointwise(points, from, into)?;
            std::mem::swap(&mut from, &mut into);
        }
        let stride = self.weights.dense[self.weights.dense.len() - 1].outputs();
        let classes = self.weights.classes;
        for (out, padded) in logits
            .chunks_exact_mut(classes)
            .zip(from.chunks_exact(stride))
        {
            out.copy_from_slice(&padded[..classes]);
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::bad_model(
                "the network's output is not finite: its weights, with this mean and std, make \
                 activations overflow"
                    .into(),
            ));
        }
        Ok(())
    }
}

fn floats_bytes(floats: [usize; 2]) -> u64 {
    (floats[0] as u64)
        .saturating_add(floats[1] as u64)
        .saturating_mul(4)
}

fn image_of(plan: &TilePlan, image: usize) -> &Image {
    match image {
        0 => plan.input_of(0),
        _ => plan.output_of(image - 1),
    }
}

/// The instruction set that the `gemm` crate picks on this machine.
fn instruction_set() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "avx512f";
        }
        if is_x86_feature_detected!("fma") {
            return "fma";
        }
    }
    std::env::consts::ARCH
}
