//! Engines turn slices of a volume into slices of a mask, as the session plans them.
//!
//! ```text
//! begin                                    once a call
//!   intensity   slice -> network input     once a slice
//!   network     pieces -> logits           once or more a slice
//!   submit      the slice is complete
//!   wait, mask  logits -> caller's voxels  the oldest submitted slice
//! end                                      once a call, also after a failure
//! ```
//! An engine may still work on slice z while slice z + 1 is handed to it ([`Engine::lag`]).
//!
//! The network is two operations on extended images (see `plan`), and an engine implements just those:
//!
//! ```text
//! table_conv(x, row_taps[R][T], column_taps[C][T], weights, bias, relu) -> [R][C][out]
//! table_max (x, row_taps[R][2], column_taps[C][2])                      -> [R][C][channels]
//! ```

mod bytes;
mod control;
pub(crate) mod cpu;
pub(crate) mod cuda;
mod first_layer;
mod several;
mod work;

pub use bytes::{Bytes, Room};
pub(crate) use control::Control;
pub use work::{LayerWork, Span};

use crate::error::Error;
use crate::intensity::Intensity;
use crate::lattice::{Lattice, Selection};
use crate::mask::{DevicePlanes, Fill, Grids, Wanted};
use crate::plan::{AxisPlan, PlannedPiece};
use crate::volume::{Extents, Volume};
use crate::weights::Model;
use several::Several;

/// What the caller asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is a usable one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPUs of these numbers, each once: slices are dealt out to them.
    Cuda(Vec<u32>),
}

/// What an engine runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// NVIDIA GPUs, one or several.
    Cuda,
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

impl Settings<'_> {
    /// What a model's packed weights depend on, besides the model.
    pub fn key(&self, engine: &str) -> String {
        let Self { feature_side, mean, std, .. } = self;
        format!("{engine}, side {feature_side}, mean {mean:?}, std {std:?}")
    }
}

/// The geometry that all slices of a call share.
#[derive(Clone, Copy)]
pub(crate) struct Geometry {
    pub extents: Extents,
    pub lattice: Lattice,
    /// Only some pixels of each slice are wanted.
    pub roi: bool,
    /// The network's outputs.
    pub classes: usize,
}

/// A call of [`crate::session::Session::segment`].
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    pub geometry: Geometry,
    pub volume: &'a Volume<'a>,
    /// What the caller has buffers for.
    pub wanted: Wanted,
    /// Where they lie, if in device memory.
    pub planes: Option<DevicePlanes>,
    pub intensity: Intensity,
    pub fill: Fill,
    /// Whose probability is written.
    pub lesion_class: usize,
    pub control: &'a Control,
}

/// What the network evaluates.
#[derive(Clone, Copy)]
pub(crate) enum Pieces<'a> {
    /// A piece that may not come again.
    One(&'a PlannedPiece),
    /// All pieces of the slice, the same for every slice of the call.
    Standing(&'a [PlannedPiece]),
}

impl<'a> Pieces<'a> {
    /// The pieces.
    pub fn as_slice(self) -> &'a [PlannedPiece] {
        match self {
            Self::One(piece) => std::slice::from_ref(piece),
            Self::Standing(pieces) => pieces,
        }
    }
}

/// See the module. All of it runs on the session's own threads, `network` on one of its rayon pool.
pub(crate) trait Engine: Send {
    /// For people: what it runs on and how.
    fn name(&self) -> String;

    /// What it runs on.
    fn device(&self) -> Device;

    /// Budget where the caller leaves the choice to the library.
    fn automatic_budget(&self) -> Bytes;

    /// Held for the life of the engine: packed weights and workspace of the threads.
    fn fixed_bytes(&self) -> Bytes;

    /// Values of the longest chain that it evaluates together (see `plan`), if it does.
    fn most_chain(&self) -> Option<usize>;

    /// Held during a call, besides what pieces take.
    fn call_bytes(&self, geometry: &Geometry) -> Bytes;

    /// Held for a tile of these axes when all its pixels are stored.
    fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> Bytes;

    /// Held on the host besides, when a ROI leaves some of them out.
    fn list_bytes(&self, _rows: &AxisPlan, _columns: &AxisPlan) -> u64 {
        0
    }

    /// Tiles that take no more of the host need not be smaller; larger ones had better be, where that makes hardly
    /// more work.
    fn small_tile_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Held for this piece.
    fn piece_bytes(&self, piece: &PlannedPiece) -> Bytes;

    /// Held on the host for the whole call, for all standing pieces of these axes together.
    fn standing_bytes(&self, _rows: &AxisPlan, _columns: &AxisPlan) -> u64 {
        0
    }

    /// Multiply-accumulates of one output pixel of each convolution, and of one lattice point.
    fn unit_macs(&self) -> (&[u64], u64);

    /// What single layers took so far, where the engine can tell.
    fn layers(&self) -> Vec<LayerWork>;

    /// Whether later calls note when what is done, where the engine can. Gives the notes of the last one.
    fn trace(&mut self, _on: bool) -> Result<Vec<Span>, Error> {
        Ok(Vec::new())
    }

    /// Slices that may be submitted and not yet waited for when the next one comes.
    fn lag(&self) -> usize;

    /// Fails where slices of this geometry are more than the engine can do.
    fn check(&self, _geometry: &Geometry) -> Result<(), Error> {
        Ok(())
    }

    /// The room for a call of so many slices, whose largest piece takes `largest`.
    fn room(&self, _slices: usize, largest: Bytes, budget: Bytes) -> Room {
        Room::in_turn(largest, budget)
    }

    /// Comes before [`Engine::reserve`]: gives back what that has to replace, once it is no longer at work. A wish to
    /// stop is heard meanwhile.
    fn release(&mut self, _room: Room, _control: &Control) -> Result<(), Error> {
        Ok(())
    }

    /// Makes room. [`Error::DeviceOutOfMemory`] asks for smaller pieces.
    fn reserve(&mut self, room: Room) -> Result<(), Error>;

    /// Gives back what can be had again when it is needed.
    fn trim(&mut self);

    /// A call begins.
    fn begin(&mut self, call: &Call<'_>) -> Result<(), Error>;

    /// Slice `z` comes; nothing of it is evaluated yet.
    fn intensity(&mut self, call: &Call<'_>, z: usize) -> Result<(), Error>;

    /// Evaluates some of the slice's lattice points.
    fn network(&mut self, call: &Call<'_>, pieces: Pieces<'_>) -> Result<(), Error>;

    /// All wanted lattice points have been handed over; `selection` says which pixels count.
    fn submit(&mut self, call: &Call<'_>, selection: Selection) -> Result<(), Error>;

    /// Waits for the oldest submitted slice. Returns how many of its voxels were not finite.
    fn wait(&mut self, call: &Call<'_>) -> Result<u64, Error>;

    /// Writes that slice, number `z`, to the caller's buffers.
    fn mask(&mut self, call: &Call<'_>, z: usize, grids: &mut Grids<'_>) -> Result<(), Error>;

    /// The call is about to end: what is still under way need not be finished.
    fn abandon(&mut self) {}

    /// The call is over: nothing of the caller's is touched after this.
    fn end(&mut self);
}

/// Something that the caller should hear when a session is made.
pub(crate) enum Note {
    Info(String),
    Warning(String),
}

/// The engine on the GPUs that the caller asked for; `None` where `auto` does without. `notes` hears why, and what is
/// amiss with the GPUs.
pub(crate) fn on_gpu(
    choice: &DeviceChoice,
    settings: &Settings<'_>,
    notes: &mut Vec<Note>,
) -> Result<Option<Box<dyn Engine>>, Error> {
    let indices: &[u32] = match choice {
        DeviceChoice::Cpu => return Ok(None),
        DeviceChoice::Auto => &[0],
        DeviceChoice::Cuda(indices) => indices,
    };
    let mut engines: Vec<Box<dyn Engine>> = Vec::new();
    let mut architectures = Vec::new();
    for &index in indices {
        match cuda::CudaEngine::new(index, settings) {
            Ok(engine) => {
                notes.extend(engine.notes());
                architectures.push(engine.architecture());
                engines.push(Box::new(engine));
            }
            Err(
                why @ (Error::NoDevice(_)
                | Error::DeviceOutOfMemory(_)
                | Error::DeviceFailed(_)
                // Of page-locked memory there is less than the host has.
                | Error::OutOfMemory(_)),
            ) if *choice == DeviceChoice::Auto => {
                notes.push(Note::Info(format!("device auto: using the CPU: {why}")));
                return Ok(None);
            }
            Err(Error::NoDevice(why)) => {
                return Err(Error::NoDevice(format!("{why}; use the device cpu or auto")));
            }
            Err(why) => return Err(why),
        }
    }
    architectures.dedup();
    if architectures.len() > 1 {
        notes.push(Note::Warning(
            "GPUs of different architectures: the last bits of a slice depend on which one evaluates it".into(),
        ));
    }
    Ok(Some(match engines.len() {
        1 => engines.remove(0),
        _ => Box::new(Several::new(engines)),
    }))
}

/// The engine on the CPU.
pub(crate) fn on_cpu(settings: &Settings<'_>) -> Result<Box<dyn Engine>, Error> {
    Ok(Box::new(cpu::CpuEngine::new(settings)?))
}
