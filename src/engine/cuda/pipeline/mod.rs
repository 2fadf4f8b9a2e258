//! Slices on their way through a GPU.
//!
//! ```text
//! upload stream     voxels of slice z + 1 ------+
//! compute streams   resampling, histogram, table, first layer, graph of all other layers, mask ------+
//! download stream                                    planes and status of slice z - 1 ---+--> caller's buffers
//! ```
//! Several slices are on their way at a time, each in a pipeline slot of its own with a compute stream of its own. What
//! they share is the arena: small slices have regions of it and are evaluated side by side, large ones take turns (see
//! `buffers::arena`). The layers after the first are recorded once per call, geometry and slot as a CUDA graph and
//! replayed for every slice.

mod callers_memory;
mod evaluate;
mod masks;
pub(super) mod staging;
mod streams;
mod timeline;
mod voxels;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::buffers::{Arena, BufferLayout, Buffers, Slot, write_axes};
use super::device::Device;
use super::status::Status;
use super::weights::PackedWeights;
use crate::engine::{EngineCall, Request, Reservation, SliceId, Span, Tiles};
use crate::error::Error;
use crate::mask::{Interpolation, OutputViews};
use crate::patch_grid::Selection;
use crate::plan::TileGeometry;
use crate::volume::Memory;
use staging::{CachedTables, StagingBuffer};
use streams::Streams;
use timeline::{Lane, Timeline};

/// Everything that stays between calls.
pub(super) struct Pipeline {
    pub index: u32,
    timeline: Option<Timeline>,
    buffers: Option<Buffers>,
    arena: Arena,
    streams: Streams,
    pub weights: Arc<PackedWeights>,
    pub device: Arc<Device>,
}

impl Pipeline {
    pub fn new(device: &Arc<Device>, weights: &Arc<PackedWeights>, index: u32) -> Result<Self, Error> {
        Ok(Self {
            index,
            timeline: None,
            buffers: None,
            arena: Arena::default(),
            streams: Streams::new(&device.context)?,
            weights: Arc::clone(weights),
            device: Arc::clone(device),
        })
    }

    /// See [`crate::engine::Engine::trace`].
    pub fn trace(&mut self, on: bool) -> Result<Vec<Span>, Error> {
        let _entered = self.device.context.enter()?;
        let spans = self.timeline.as_ref().map_or_else(Vec::new, Timeline::spans);
        match (on, &self.timeline) {
            (true, None) => self.timeline = Some(Timeline::new(&self.device.context)?),
            (true, Some(_)) => {}
            (false, _) => self.timeline = None,
        }
        Ok(spans)
    }

    pub fn trim(&mut self) {
        (self.arena, self.buffers) = (Arena::default(), None);
    }

    pub fn begin<'a>(&'a mut self, request: Request<'a>) -> Result<CudaCall<'a>, Error> {
        let context = &self.device.context;
        let _entered = context.enter()?;
        callers_memory::check(context, &request)?;
        let voxel_bytes = match request.volume.memory() {
            Memory::Host => request.volume.voxel().0.size(),
            Memory::Cuda { .. } => 0,
        };
        // Outputs in device memory are written in place.
        let in_host_memory = request.outputs_memory == Memory::Host;
        let staged = request.outputs.map(|output| output.is_some() && in_host_memory);
        let layout = BufferLayout::new(&request.geometry, voxel_bytes, staged);
        self.buffers = self.buffers.take().filter(|buffers| buffers.layout() == layout);
        if self.buffers.is_none() {
            // Activations can be had again, for smaller tiles if need be.
            self.arena = Arena::default();
        }
        let buffers = match &mut self.buffers {
            Some(buffers) => buffers,
            none => none.insert(Buffers::new(context, layout)?),
        };
        let mut call = CudaCall {
            request,
            index: self.index,
            device: &self.device,
            weights: &self.weights,
            streams: &self.streams,
            timeline: self.timeline.as_mut(),
            buffers,
            arena: &mut self.arena,
            largest: 0,
            cached: HashMap::new(),
            staging: VecDeque::new(),
            in_flight: VecDeque::new(),
            next_slot: 0,
        };
        call.start()?;
        Ok(call)
    }
}

/// A call in flight. Everything that the device works on belongs to it or outlives it, and dropping it waits for the
/// device.
pub(super) struct CudaCall<'a> {
    request: Request<'a>,
    index: u32,
    pub device: &'a Device,
    pub weights: &'a PackedWeights,
    pub streams: &'a Streams,
    timeline: Option<&'a mut Timeline>,
    buffers: &'a mut Buffers,
    pub arena: &'a mut Arena,
    /// Bytes of the arena for the largest tile of a slice; 0 before the first reservation.
    largest: usize,
    cached: HashMap<TileGeometry, CachedTables>,
    /// The oldest first.
    staging: VecDeque<StagingBuffer>,
    /// Slots of the slices that were taken in and not yet waited for, the oldest first.
    in_flight: VecDeque<usize>,
    next_slot: usize,
}

impl CudaCall<'_> {
    fn start(&mut self) -> Result<(), Error> {
        if let Some(timeline) = &mut self.timeline {
            timeline.begin(&self.streams.upload)?;
        }
        let (layout, axes) = (self.buffers.layout(), &mut self.buffers.axes);
        let interpolated = self.request.decision.interpolation == Interpolation::Linear;
        write_axes(&self.request.geometry, &layout, interpolated, axes.host.as_mut_slice());
        // SAFETY: all of it lives, and stays as it is, until the call has ended.
        unsafe {
            self.streams.upload.upload(axes.device.address(), axes.host.as_slice())?;
            self.streams.upload.fill(self.streams.cancel_word(), 0, 1)
        }
    }

    pub fn slot(&self, slice: SliceId) -> &Slot {
        &self.buffers.slots[slice.slot]
    }

    /// The slice begins its time on a lane, if that is noted.
    fn enter(&self, slice: SliceId, lane: Lane) -> Result<(), Error> {
        let stream = self.streams.of_lane(lane, slice.slot);
        self.timeline.as_ref().map_or(Ok(()), |timeline| timeline.enter(slice.slot, lane, stream))
    }

    /// The slice ends its time on a lane.
    fn leave(&self, slice: SliceId, lane: Lane) -> Result<(), Error> {
        let stream = self.streams.of_lane(lane, slice.slot);
        self.timeline.as_ref().map_or(Ok(()), |timeline| timeline.leave(slice.slot, lane, stream))
    }
}

impl EngineCall for CudaCall<'_> {
    fn reserve(&mut self, reservation: Reservation) -> Result<(), Error> {
        let again = self.largest > 0;
        if !self.arena.serves(reservation, again) {
            if !self.arena.is_empty() {
                let _entered = self.device.context.enter()?;
                self.streams.wait_for_computing(&self.request.control.cancel)?;
                *self.arena = Arena::default(); // given back before the new one is taken
            }
            *self.arena = Arena::new(&self.device.context, reservation)?;
        }
        self.largest = reservation.min as usize;
        Ok(())
    }

    fn slice(&mut self, z: usize) -> Result<SliceId, Error> {
        let slice = SliceId { z, slot: self.next_slot };
        self.next_slot = (self.next_slot + 1) % self.buffers.slots.len();
        self.in_flight.push_back(slice.slot);
        let device = self.device;
        let _entered = device.context.enter()?;
        self.take_in(slice)?;
        Ok(slice)
    }

    fn evaluate(&mut self, slice: SliceId, tiles: Tiles<'_>) -> Result<(), Error> {
        let device = self.device;
        let _entered = device.context.enter()?;
        match tiles {
            Tiles::One(tile) => self.evaluate_once(slice, tile),
            Tiles::Cached(tiles) => self.evaluate_cached(slice, tiles),
        }
    }

    fn submit(&mut self, slice: SliceId, selection: Selection) -> Result<(), Error> {
        let device = self.device;
        let _entered = device.context.enter()?;
        self.write_masks(slice, &selection)?;
        self.download(slice)
    }

    fn wait(&mut self, slice: SliceId) -> Result<u64, Error> {
        let _entered = self.device.context.enter()?;
        let slot = self.slot(slice);
        self.streams.wait_for(&slot.downloaded, &self.request.control.cancel)?;
        let status = Status::read(slot.status.host.as_slice());
        self.in_flight.retain(|&slot| slot != slice.slot);
        status.check(self.index, self.weights.dense.len())
    }

    fn write(&mut self, slice: SliceId, outputs: &mut OutputViews<'_>) -> Result<(), Error> {
        let turn = self.slot(slice).region.turn;
        if let Some(timeline) = &mut self.timeline {
            let _entered = self.device.context.enter()?;
            timeline.note(slice.slot, slice.z, turn, self.index)?;
        }
        self.copy_planes(slice, outputs)
    }

    /// A call that failed leaves work behind. A lost device has none, and reports errors here.
    fn abandon(&mut self) {
        if !self.in_flight.is_empty()
            && let Ok(_entered) = self.device.context.enter()
        {
            let _ = self.streams.signal_cancel();
        }
    }
}

impl Drop for CudaCall<'_> {
    fn drop(&mut self) {
        self.abandon();
        if let Ok(_entered) = self.device.context.enter() {
            self.streams.synchronize();
        }
    }
}
