//! Engines evaluate one tile at a time: the plan's tables and an input image in, logits out.
//!
//! The whole network is two operations on extended images (see `plan`), and an engine implements just
//! those:
//!
//! ```text
//! table_conv(x, row_taps[R][T], column_taps[C][T], weights, bias, relu) -> [R][C][out]
//! table_max (x, row_taps[R][2], column_taps[C][2])                      -> [R][C][channels]
//! ```

pub(crate) mod cpu;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;
use crate::plan::{AxisPlan, TilePlan};
use crate::weights::Model;

/// What the caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is a usable one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(u32),
}

/// What an engine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
}

/// Settings that an engine is made from.
pub(crate) struct Settings<'a> {
    pub model: &'a Model,
    /// Side of the feature map that enters the first dense layer.
    pub feature_side: usize,
    /// Of each network channel.
    pub mean: [f64; 3],
    /// Of each network channel.
    pub std: [f64; 3],
    /// Worker threads, at least 1.
    pub threads: usize,
}

/// Evaluates tiles.
pub(crate) trait Engine: Send {
    /// For people: what it runs on and how.
    fn name(&self) -> String;

    /// What it runs on.
    fn device(&self) -> Device;

    /// Bytes held for the life of the engine: packed weights and workspace of the threads.
    fn fixed_bytes(&self) -> u64;

    /// Bytes that a tile of these axes takes when all its pixels are stored.
    fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64;

    /// Bytes that this tile takes.
    fn plan_bytes(&self, plan: &TilePlan) -> u64;

    /// Multiply-accumulates of one output pixel of each convolution, and of one lattice point.
    fn unit_macs(&self) -> (&[u64], u64);

    /// Gives workspace back that is larger than `bytes`.
    fn trim(&mut self, bytes: u64);

    /// Evaluates a tile. `input`: intensities [rows][columns], 0 is black. `logits`: [stored lattice
    /// points][classes]. Runs on the calling thread and its rayon pool.
    fn run(
        &mut self,
        plan: &TilePlan,
        input: &[f32],
        logits: &mut [f32],
        control: &Control,
    ) -> Result<(), Error>;
}

/// What the thread that waits and the threads that work tell each other.
#[derive(Default)]
pub(crate) struct Control {
    cancelled: AtomicBool,
    /// Multiply-accumulates done since the tile began.
    macs: AtomicU64,
}

impl Control {
    /// Asks the workers to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// Takes the wish to stop back: it has been heard.
    pub fn clear_cancel(&self) {
        self.cancelled.store(false, Ordering::SeqCst);
    }

    /// Fails if the call is to stop.
    pub fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Counts finished work.
    pub fn add_macs(&self, macs: u64) {
        self.macs.fetch_add(macs, Ordering::Relaxed);
    }

    /// A tile begins.
    pub fn reset_macs(&self) {
        self.macs.store(0, Ordering::Relaxed);
    }

    /// Work finished since the tile began.
    pub fn macs(&self) -> u64 {
        self.macs.load(Ordering::Relaxed)
    }
}

/// Makes the engine that the caller asked for. The second value says why it is another than the best
/// one, where it is.
pub(crate) fn create(
    choice: DeviceChoice,
    settings: &Settings<'_>,
) -> Result<(Box<dyn Engine>, Option<String>), Error> {
    let no_cuda = "this version of patchmask has no CUDA engine";
    match choice {
        DeviceChoice::Cuda(index) => Err(Error::NoDevice(format!(
            "device cuda:{index}: {no_cuda}; use the device auto or cpu"
        ))),
        DeviceChoice::Cpu => Ok((Box::new(cpu::CpuEngine::new(settings)?), None)),
        DeviceChoice::Auto => Ok((
            Box::new(cpu::CpuEngine::new(settings)?),
            Some(format!("device auto: using the CPU, {no_cuda}")),
        )),
    }
}
