//! Engines turn slices of a volume into slices of a mask.
//!
//! ```text
//! open
//! multi_gpu cpu cuda
//! first_layer
//! mod                    this file: what every engine is
//! bytes control work
//! ```
//!
//! ```text
//! begin                                    once a call
//!   slice       voxels -> network input    once a slice
//!   reserve     memory for its tiles       when the tiles change
//!   evaluate    tiles -> logits            once or more a slice
//!   submit      the slice is complete
//!   wait, write logits -> caller's voxels  the oldest submitted slice
//! drop                                     ends the call, also after a failure
//! ```
//! An engine may still work on slice z while slice z + 1 is handed to it ([`EngineInfo::pipeline_depth`]).
//!
//! The network is two operations on extended images (see `plan`), and an engine implements just those:
//!
//! ```text
//! gather_conv     (x, row_taps[R][T], column_taps[C][T], weights, bias, relu) -> [R][C][out]
//! gather_max_pool (x, row_taps[R][2], column_taps[C][2])                      -> [R][C][channels]
//! ```

mod bytes;
mod control;
pub(crate) mod cpu;
pub(crate) mod cuda;
mod first_layer;
mod multi_gpu;
pub(crate) mod open;
mod work;

use std::sync::Arc;

pub use bytes::Bytes;
pub(crate) use bytes::{Reservation, TileMemory};
pub(crate) use control::Control;
pub use work::{LayerWork, Span};

use crate::axes::Axes;
use crate::error::Error;
use crate::intensity::Intensity;
use crate::mask::{Decision, OutputViews, PerOutput};
use crate::network::feature_side;
use crate::patch_grid::{PatchGrid, Selection};
use crate::plan::{AxisSizes, MacsPerOutput, MaxRuns, PlannedTile};
use crate::volume::{Extents, Memory, StridedArray, Volume};
use crate::weights::Model;

/// The caller's choice of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is a usable one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPUs of these numbers, each once: slices are dealt out to them.
    Cuda(Vec<u32>),
}

/// The kind of device that an engine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// NVIDIA GPUs, one or several.
    Cuda,
}

/// Settings that an engine is made from.
pub(crate) struct Settings<'a> {
    pub model: &'a Model,
    /// Pixels along each side.
    pub patch_size: usize,
    /// Mean of each network channel.
    pub mean: [f64; 3],
    /// Deviation of each network channel.
    pub std: [f64; 3],
    /// Worker threads, at least 1.
    pub threads: usize,
}

impl Settings<'_> {
    /// Everything that a model's packed weights depend on, besides the model.
    pub fn key(&self, engine: &str) -> String {
        let Self { mean, std, .. } = self;
        format!("{engine}, side {}, mean {mean:?}, std {std:?}", self.feature_side())
    }

    /// Side of the feature map that enters the first dense layer.
    pub fn feature_side(&self) -> usize {
        feature_side(self.patch_size)
    }

    /// The network's own, without an engine's padding.
    pub fn macs_per_output(&self) -> MacsPerOutput {
        let (convolutions, dense) = (self.model.convolutions(), self.model.dense());
        let channels = convolutions.last().map_or(0, |last| last.bias.len());
        let first_dense = dense.first().map_or(self.model.describe().classes as usize, |next| next.weight.dim().1);
        let head = channels * self.feature_side().pow(2) * first_dense;
        MacsPerOutput {
            convolutions: convolutions.iter().map(|convolution| convolution.weight.len() as u64).collect(),
            head: (head + dense.iter().map(|dense| dense.weight.len()).sum::<usize>()) as u64,
        }
    }
}

/// The geometry that all slices of a call share.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    pub extents: Extents,
    pub grid: PatchGrid,
    /// Only some pixels of each slice are wanted.
    pub roi: bool,
    /// The network's outputs.
    pub classes: usize,
}

/// An engine's part of a call of [`crate::session::Session::segment`].
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub geometry: Geometry,
    pub volume: &'a Volume<'a>,
    /// The outputs that the caller has buffers for.
    pub outputs: PerOutput<Option<StridedArray>>,
    pub outputs_memory: Memory,
    pub intensity: Intensity,
    pub decision: Decision,
    pub control: &'a Control,
}

impl Request<'_> {
    /// What of the caller's lies in device memory, if anything.
    pub fn on_device(&self) -> Option<&'static str> {
        let memories = [("volume", self.volume.memory()), ("outputs", self.outputs_memory)];
        memories.into_iter().find(|(_, memory)| *memory != Memory::Host).map(|(name, _)| name)
    }
}

/// Tiles to be evaluated.
#[derive(Clone, Copy)]
pub(crate) enum Tiles<'a> {
    /// A tile that may not come again.
    One(&'a PlannedTile),
    /// All tiles of the slice, the same for every slice of the call.
    Cached(&'a [PlannedTile]),
}

impl<'a> Tiles<'a> {
    pub fn as_slice(self) -> &'a [PlannedTile] {
        match self {
            Self::One(tile) => std::slice::from_ref(tile),
            Self::Cached(tiles) => tiles,
        }
    }
}

/// A slice that an [`EngineCall`] has taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceId {
    /// Its number in the volume.
    pub z: usize,
    /// The engine's pipeline slot.
    slot: usize,
}

/// Everything about an engine that stays as it is.
#[derive(Clone)]
pub(crate) struct EngineInfo {
    /// For people: what it runs on and how.
    pub name: String,
    pub device: DeviceKind,
    /// Budget where the caller leaves the choice to the library.
    pub automatic_budget: Bytes,
    /// Held for the life of the engine: packed weights and workspace of the threads.
    pub fixed: Bytes,
    /// Values of the longest Winograd run of each layer on both axes, if it evaluates such (see `plan`).
    pub max_runs: Axes<Option<MaxRuns>>,
    /// Slices that may be submitted and not yet waited for when the next one comes.
    pub pipeline_depth: usize,
    /// Preferred upper bound of a tile's host memory; smaller tiles are better only where they hardly make more work.
    pub preferred_tile_bytes: u64,
    pub macs_per_output: MacsPerOutput,
    pub memory: Arc<dyn MemoryModel>,
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// The caller should know.
    Warning,
    /// A choice that was made.
    Info,
}

/// A log line for the caller when a session is made.
pub(crate) type Note = (LogLevel, String);

/// The memory that an engine needs, besides [`EngineInfo::fixed`].
pub(crate) trait MemoryModel: Send + Sync {
    /// Held during a call, besides its tiles. Fails where slices of this geometry are more than the engine can do.
    fn call(&self, geometry: &Geometry) -> Result<Bytes, Error>;

    /// Held for a tile of these axes.
    fn tile(&self, axes: &Axes<AxisSizes>) -> TileMemory;

    /// Held for this tile, at most [`MemoryModel::tile`] of its axes.
    fn planned(&self, tile: &PlannedTile) -> Bytes {
        let memory = self.tile(&tile.plan.sizes());
        let lists = if tile.plan.patches().listed().is_some() { memory.lists } else { 0 };
        memory.whole + Bytes::host(lists)
    }

    /// The reservation for a call of so many slices, whose largest tile takes `largest`.
    fn reservation(&self, _slices: usize, largest: Bytes, budget: Bytes) -> Reservation {
        Reservation::in_turn(largest, budget)
    }
}

/// See the module. All of it runs on the session's own threads.
pub(crate) trait Engine: Send {
    fn info(&self) -> EngineInfo;

    /// Work of single layers so far, where the engine can tell.
    fn layers(&self) -> Vec<LayerWork> {
        Vec::new()
    }

    /// Turns the notes of when each slice was where on or off for later calls, where the engine takes them. Returns those
    /// of the last call.
    fn trace(&mut self, _on: bool) -> Result<Vec<Span>, Error> {
        Ok(Vec::new())
    }

    /// Gives back memory that can be had again when it is needed.
    fn trim(&mut self);

    /// Begins a call, which ends when it is dropped: nothing of the caller's is touched after that.
    fn begin<'a>(&'a mut self, request: Request<'a>) -> Result<Box<dyn EngineCall + 'a>, Error>;
}

/// A call in flight. `evaluate` runs on a thread of the session's rayon pool.
pub(crate) trait EngineCall {
    /// Reserves memory for tiles; what it has to replace is given back first, once it is no longer at work.
    /// [`Error::DeviceOutOfMemory`] asks for smaller tiles.
    fn reserve(&mut self, reservation: Reservation) -> Result<(), Error>;

    /// Takes in slice `z`: all of its patches are still to be evaluated.
    fn slice(&mut self, z: usize) -> Result<SliceId, Error>;

    /// Evaluates some of the slice's patches.
    fn evaluate(&mut self, slice: SliceId, tiles: Tiles<'_>) -> Result<(), Error>;

    /// All wanted patches have been handed over; `selection` says which pixels count.
    fn submit(&mut self, slice: SliceId, selection: Selection) -> Result<(), Error>;

    /// Waits for the oldest submitted slice. Returns the number of its voxels that were not finite.
    fn wait(&mut self, slice: SliceId) -> Result<u64, Error>;

    /// Writes that slice to the caller's buffers.
    fn write(&mut self, slice: SliceId, outputs: &mut OutputViews<'_>) -> Result<(), Error>;

    /// The call is about to be dropped: work under way need not be finished.
    fn abandon(&mut self) {}
}
