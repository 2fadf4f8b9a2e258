//! The CUDA engine: fp16 activations and weights, f32 sums, on own kernels (kernels/ in the source tree).
//!
//! ```text
//! upload stream     voxels of slice z + 1 ------+
//! compute streams   histogram, table, first layer, graph of all other layers, paint ------+
//! download stream                                     planes and status of slice z - 1 ---+--> caller's buffers
//! ```
//! Several slices are on their way at a time, each in a slot of its own with a compute stream of its own. What they
//! share is the arena: small slices have parts of it and are evaluated side by side, large ones take turns (see
//! `arena`). The layers after the first are recorded once per call, geometry and slot as a CUDA graph and replayed for
//! every slice.
//!
//! Every output is summed in one order whatever tile it is in, so results do not depend on tiles, budget or ROI.
//!
//! Only this folder names cudarc.

mod arena;
mod blocks;
mod buffers;
mod callers_memory;
mod device;
mod driver;
mod intensity;
mod kernels;
mod network;
mod params;
mod pieces;
mod planes;
mod self_test;
mod status;
mod tables;
mod timeline;
mod weights;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{
    Bytes, Call, Control, Device as RunsOn, Engine, Geometry, LayerWork, Note, Pieces, Room, Settings, Span,
};
use crate::error::Error;
use crate::lattice::Selection;
use crate::mask::{Grids, Wanted};
use crate::memory::usable_bytes;
use crate::plan::{AxisPlan, PlannedPiece, TileGeometry};
use crate::volume::Memory;
use arena::{Arena, MOST_PIXELS, part_bytes, wanted_bytes};
use buffers::{Buffers, SLOTS, Shape, Slot, of_each_slot, write_fills};
use device::Device;
use driver::{DeviceMemory, Event, HostMemory, Stream};
use params::Voxels;
use pieces::{Place, Standing, host_bytes, standing_bytes};
use planes::write_planes;
use status::Status;
use tables::PieceTables;
use timeline::{Lane, Timeline};
use weights::Weights;

/// See the module.
pub(crate) struct CudaEngine {
    index: u32,
    /// Of the call that runs: by geometry; and what tables are sent from, the oldest first.
    standing: HashMap<TileGeometry, Standing>,
    places: VecDeque<Place>,
    in_flight: VecDeque<usize>,
    next_slot: usize,
    /// Table of the equalisation for the slice at work, or 0.
    table: u64,
    voxels: Option<Voxels>,
    /// Number of that slice.
    z: usize,

    timeline: Option<Timeline>,
    buffers: Option<Buffers>,
    arena: Option<Arena>,
    /// Bytes that the largest piece of the slice at work takes there; 0 before the call has made room.
    largest: usize,
    /// A word of the device, and on the host what it is set to when kernels shall leave: 1.
    cancel: DeviceMemory,
    one: HostMemory,

    upload: Stream,
    /// Of each slot.
    compute: [Stream; SLOTS],
    download: Stream,
    signal: Stream,
    /// All work that a compute stream had when `release` asked for it is done.
    released: Event,
    weights: Arc<Weights>,
    device: Arc<Device>,
    automatic_budget: Bytes,
}

impl CudaEngine {
    /// An engine on GPU number `index`.
    pub fn new(index: u32, settings: &Settings<'_>) -> Result<Self, Error> {
        Self::on(Device::open(index, self_test::run)?, index, settings)
    }

    fn on(device: Arc<Device>, index: u32, settings: &Settings<'_>) -> Result<Self, Error> {
        let context = &device.context;
        let key = settings.key(&format!("cuda {index}, process {}", std::process::id()));
        let weights = (settings.model).shared(&key, || Weights::new(&device, settings))?;
        let (free, _) = context.memory()?;
        let mut one = HostMemory::new(context, 4, "cancel")?;
        one.as_mut_slice().copy_from_slice(&1_u32.to_ne_bytes());
        Ok(Self {
            index,
            standing: HashMap::new(),
            places: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_slot: 0,
            table: 0,
            voxels: None,
            z: 0,
            timeline: None,
            buffers: None,
            arena: None,
            largest: 0,
            cancel: DeviceMemory::new(context, 4, "cancel")?,
            one,
            upload: Stream::new(context)?,
            compute: of_each_slot(|| Stream::new(context))?,
            download: Stream::new(context)?,
            signal: Stream::new(context)?,
            released: Event::new(context)?,
            automatic_budget: Bytes {
                host: usable_bytes().map_or(1 << 30, |bytes| bytes / 4),
                // What other programs take later makes tiles shrink.
                device: free / 10 * 9,
            },
            weights,
            device,
        })
    }

    /// What the caller should know about the device.
    pub fn notes(&self) -> Vec<Note> {
        let gpu = self.index;
        let kernels = &self.device.kernels;
        let left_out = kernels.left_out.iter();
        let left_out = left_out
            .map(|out| Note::Warning(format!("cuda:{gpu}: the kernel {} is left out: {}", out.kernel, out.why)));
        let remarks = kernels.remarks();
        let remarks =
            remarks.map(|(module, text)| Note::Info(format!("cuda:{gpu}: the driver on the kernels {module}: {text}")));
        left_out.chain(remarks).collect()
    }

    /// Such as (9, 0): GPUs of one architecture run the same kernels.
    pub fn architecture(&self) -> (i32, i32) {
        self.device.capability
    }

    fn cancel_word(&self) -> u64 {
        self.cancel.address()
    }

    /// Tells running kernels to leave.
    fn signal_cancel(&self) -> Result<(), Error> {
        let to = self.cancel_word();
        // SAFETY: neither end changes or goes away while the engine lives.
        unsafe { self.signal.upload(to, self.one.as_slice()) }?;
        self.signal.synchronize()
    }

    /// Waits for `event`; a wish to stop makes the kernels leave, and is reported once they have.
    fn wait_for(&self, event: &Event, control: &Control) -> Result<(), Error> {
        let began = Instant::now();
        let mut cancelled = false;
        while !event.is_done()? {
            if !cancelled && control.check().is_err() {
                self.signal_cancel()?;
                cancelled = true;
            }
            if began.elapsed() > Duration::from_micros(200) {
                std::thread::sleep(Duration::from_micros(50));
            } else {
                std::thread::yield_now();
            }
        }
        control.check()
    }

    fn buffers(&self) -> Result<&Buffers, Error> {
        (self.buffers.as_ref()).ok_or_else(|| Error::Panic("no call has begun".into()))
    }

    fn buffers_mut(&mut self) -> Result<&mut Buffers, Error> {
        (self.buffers.as_mut()).ok_or_else(|| Error::Panic("no call has begun".into()))
    }

    /// Of the slice at work.
    fn slot(&self) -> Result<&Slot, Error> {
        Ok(&self.buffers()?.slots[self.next_slot])
    }

    fn slot_mut(&mut self) -> Result<&mut Slot, Error> {
        let number = self.next_slot;
        Ok(&mut self.buffers_mut()?.slots[number])
    }

    /// Of the slice at work.
    fn compute(&self) -> &Stream {
        &self.compute[self.next_slot]
    }

    fn arena(&self) -> Result<&Arena, Error> {
        (self.arena.as_ref()).ok_or_else(|| Error::Panic("no room was made".into()))
    }

    fn voxels(&self) -> Result<Voxels, Error> {
        self.voxels.ok_or_else(|| Error::Panic("no slice has come".into()))
    }

    /// The slice at work begins or ends its time on a lane, if that is noted.
    fn enter(&self, lane: Lane) -> Result<(), Error> {
        let enter = |timeline: &Timeline| timeline.enter(self.next_slot, lane, self.stream(lane));
        self.timeline.as_ref().map_or(Ok(()), enter)
    }

    fn leave(&self, lane: Lane) -> Result<(), Error> {
        let leave = |timeline: &Timeline| timeline.leave(self.next_slot, lane, self.stream(lane));
        self.timeline.as_ref().map_or(Ok(()), leave)
    }

    fn stream(&self, lane: Lane) -> &Stream {
        match lane {
            Lane::Upload => &self.upload,
            Lane::Compute => self.compute(),
            Lane::Download => &self.download,
        }
    }
}

impl Engine for CudaEngine {
    fn name(&self) -> String {
        format!("cuda:{} ({})", self.index, self.device.name)
    }

    fn device(&self) -> RunsOn {
        RunsOn::Cuda
    }

    fn automatic_budget(&self) -> Bytes {
        self.automatic_budget + self.fixed_bytes()
    }

    fn fixed_bytes(&self) -> Bytes {
        Bytes { host: 0, device: self.weights.bytes() }
    }

    fn most_chain(&self) -> Option<usize> {
        None
    }

    fn call_bytes(&self, geometry: &Geometry) -> Bytes {
        const LARGEST_VOXEL: usize = 8;
        Shape::new(geometry, LARGEST_VOXEL, Wanted::EVERYTHING).bytes()
    }

    fn tile_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> Bytes {
        Bytes {
            host: host_bytes(PieceTables::most_bytes(rows, columns)),
            device: part_bytes(&self.weights, rows, columns) as u64,
        }
    }

    fn list_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        host_bytes(PieceTables::most_list_bytes(rows, columns))
    }

    fn piece_bytes(&self, piece: &PlannedPiece) -> Bytes {
        let (rows, columns) = (&piece.plan.rows, &piece.plan.columns);
        let lists = match piece.plan.lattice().listed() {
            Some(_) => self.list_bytes(rows, columns),
            None => 0,
        };
        self.tile_bytes(rows, columns) + Bytes::host(lists)
    }

    fn standing_bytes(&self, rows: &AxisPlan, columns: &AxisPlan) -> u64 {
        standing_bytes(rows, columns)
    }

    fn unit_macs(&self) -> (&[u64], u64) {
        (&self.weights.convolution_macs, self.weights.head_macs)
    }

    /// Layers run one after another without the host: a profiler can tell.
    fn layers(&self) -> Vec<LayerWork> {
        Vec::new()
    }

    fn trace(&mut self, on: bool) -> Result<Vec<Span>, Error> {
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        let spans = (self.timeline.as_ref()).map_or_else(Vec::new, Timeline::spans);
        match (on, &self.timeline) {
            (true, None) => self.timeline = Some(Timeline::new(&context)?),
            (true, Some(_)) => {}
            (false, _) => self.timeline = None,
        }
        Ok(spans)
    }

    fn lag(&self) -> usize {
        SLOTS - 1
    }

    fn room(&self, slices: usize, largest: Bytes, budget: Bytes) -> Room {
        let multiprocessors = self.device.multiprocessors;
        let device = wanted_bytes(slices, largest.device, budget.device, multiprocessors);
        Room { wanted: device, ..Room::in_turn(largest, budget) }
    }

    fn release(&mut self, room: Room, control: &Control) -> Result<(), Error> {
        let again = self.largest > 0;
        let serves = |arena: &Arena| arena.serves(room, again);
        if self.arena.as_ref().is_none_or(serves) {
            return Ok(());
        }
        let _entered = self.device.context.enter()?;
        for stream in &self.compute {
            self.released.record(stream)?;
            self.wait_for(&self.released, control)?;
        }
        self.arena = None;
        Ok(())
    }

    fn reserve(&mut self, room: Room) -> Result<(), Error> {
        if self.arena.is_none() {
            self.arena = Some(Arena::new(&self.device, room)?);
        }
        self.largest = room.least as usize;
        Ok(())
    }

    fn trim(&mut self) {
        self.arena = None;
        self.buffers = None;
    }

    fn check(&self, geometry: &Geometry) -> Result<(), Error> {
        let points = geometry.lattice.points();
        for (what, count, remedy) in [
            ("pixels", geometry.extents.pixels(), ""),
            ("logits", points.saturating_mul(geometry.classes), ", or a larger stride"),
        ] {
            if count > MOST_PIXELS {
                return Err(Error::Unsupported(format!(
                    "a slice of {count} {what}: a GPU takes at most {MOST_PIXELS}; use the device cpu{remedy}"
                )));
            }
        }
        Ok(())
    }

    fn begin(&mut self, call: &Call<'_>) -> Result<(), Error> {
        self.end(); // of a call that did not come to its end
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        self.check_callers_memory(call)?;
        let voxel_bytes = match call.volume.memory() {
            Memory::Host => call.volume.voxel().0.size(),
            Memory::Cuda { .. } => 0,
        };
        // Outputs in device memory are painted in place.
        let staged = match call.planes {
            Some(_) => Wanted::NOTHING,
            None => call.wanted,
        };
        let shape = Shape::new(&call.geometry, voxel_bytes, staged);
        if (self.buffers.as_ref()).is_none_or(|buffers| buffers.shape() != shape) {
            // Activations can be had again, for smaller tiles if need be.
            (self.buffers, self.arena) = (None, None);
            self.buffers = Some(Buffers::new(&self.device.context, shape)?);
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.begin(&self.upload)?;
        }
        let fills = &mut self.buffers_mut()?.fills;
        write_fills(&call.geometry, call.fill, fills.host.as_mut_slice());
        let fills = &self.buffers()?.fills;
        // SAFETY: all of it lives, and stays as it is, until the call has ended.
        unsafe {
            (self.upload).upload(fills.device.address(), fills.host.as_slice())?;
            self.upload.fill(self.cancel_word(), 0, 1)
        }
    }

    fn intensity(&mut self, call: &Call<'_>, z: usize) -> Result<(), Error> {
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        self.take_in(call, z)
    }

    fn network(&mut self, call: &Call<'_>, pieces: Pieces<'_>) -> Result<(), Error> {
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        match pieces {
            Pieces::One(piece) => self.once(call, piece),
            Pieces::Standing(pieces) => self.standing(call, pieces),
        }
    }

    fn submit(&mut self, call: &Call<'_>, selection: Selection) -> Result<(), Error> {
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        self.paint(call, &selection)?;
        self.fetch()?;
        self.voxels = None;
        self.in_flight.push_back(self.next_slot);
        self.next_slot = (self.next_slot + 1) % self.buffers()?.slots.len();
        Ok(())
    }

    fn wait(&mut self, call: &Call<'_>) -> Result<u64, Error> {
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        let number = (self.in_flight.front().copied()).ok_or_else(|| Error::Panic("no slice was submitted".into()))?;
        let slot = &self.buffers()?.slots[number];
        self.wait_for(&slot.downloaded, call.control)?;
        let status = Status::read(slot.status.host.as_slice());
        status.check(self.index, self.weights.dense.len())
    }

    fn mask(&mut self, call: &Call<'_>, z: usize, grids: &mut Grids<'_>) -> Result<(), Error> {
        let number = (self.in_flight.pop_front()).ok_or_else(|| Error::Panic("no slice was submitted".into()))?;
        let part = self.buffers()?.slots[number].part.number;
        if let Some(timeline) = &mut self.timeline {
            let context = Arc::clone(&self.device.context);
            let _entered = context.enter()?;
            timeline.note(number, z, part, self.index)?;
        }
        if call.planes.is_some() {
            return Ok(());
        }
        write_planes(&self.buffers()?.slots[number], call, z, grids);
        Ok(())
    }

    /// A call that failed leaves work behind. A lost device has none, and reports errors here.
    fn abandon(&mut self) {
        let context = Arc::clone(&self.device.context);
        let at_work = !self.in_flight.is_empty() || self.voxels.is_some();
        if at_work && let Ok(_entered) = context.enter() {
            let _ = self.signal_cancel();
        }
    }

    fn end(&mut self) {
        self.abandon();
        let context = Arc::clone(&self.device.context);
        if let Ok(_entered) = context.enter() {
            let others = [&self.signal, &self.upload, &self.download];
            for stream in self.compute.iter().chain(others) {
                // The first error may be that of earlier work.
                let _ = stream.synchronize().or_else(|_| stream.synchronize());
            }
        }
        self.standing.clear();
        self.places.clear();
        self.in_flight.clear();
        (self.next_slot, self.largest) = (0, 0);
        self.voxels = None;
    }
}

impl Drop for CudaEngine {
    fn drop(&mut self) {
        // After a panic the device may still be at work on what goes away now.
        self.end();
    }
}
