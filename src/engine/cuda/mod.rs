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
mod kernels;
mod known_answer;
mod network;
mod params;
mod pieces;
mod rates;
mod status;
mod tables;
mod timeline;
mod weights;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::{
    Bytes, Call, Control, Device as RunsOn, Engine, Geometry, LayerWork, Pieces, Room, Settings,
    Span,
};
use crate::error::Error;
use crate::lattice::Selection;
use crate::mask::{DevicePlane, Fill, Grids, Wanted};
use crate::memory::usable_bytes;
use crate::plan::{AxisPlan, PlannedPiece, TileGeometry};
use crate::volume::{Memory, Volume};
use arena::{Arena, MOST_PIXELS, Part, part_bytes, wanted_bytes};
use buffers::{Buffers, SLOTS, Shape, Slot, Staged, of_each_slot, write_fills};
use device::Device;
use driver::{DeviceMemory, Event, HostMemory, Stream};
use params::{
    AxisFill, EqualizeParams, HistogramParams, LEVELS, PaintParams, Plane, THREADS, Voxels,
    voxel_number,
};
use pieces::{Place, Standing, host_bytes, standing_bytes};
use status::Status;
use tables::PieceTables;
use timeline::{Lane, Timeline};
use weights::Weights;

/// A quiet NaN, as bits.
const NAN: u32 = 0x7fc0_0000;

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
        Self::on(Device::open(index)?, index, settings)
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
    pub fn notes(&self) -> Vec<String> {
        let note = |kernel: &&str| {
            format!(
                "the CUDA kernel {kernel} gave a wrong result in the test at the start: left out"
            )
        };
        let unloaded = (self.device.kernels.unloaded.iter())
            .map(|why| format!("the CUDA kernels for Hopper could not be loaded, left out: {why}"));
        unloaded
            .chain(self.device.refused.iter().map(note))
            .collect()
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
        self.voxels
            .ok_or_else(|| Error::Panic("no slice has come".into()))
    }

    /// Copies slice `z` to the slot's page-locked memory and on to the device; returns where it lies.
    fn stage_voxels(&mut self, volume: &Volume<'_>, z: usize) -> Result<u64, Error> {
        let width = volume.extents().width;
        let slot = self.slot_mut()?;
        let row_bytes = width * volume.voxel().0.size();
        let rows = slot.voxels.host.as_mut_slice().chunks_exact_mut(row_bytes);
        for (y, row) in rows.enumerate() {
            volume.copy_row(y, z, row);
        }
        self.enter(Lane::Upload)?;
        let slot = self.slot()?;
        let to = slot.voxels.device.address();
        // SAFETY: the slot is not written again before its slice has been waited for.
        unsafe { self.upload.upload(to, slot.voxels.host.as_slice()) }?;
        Ok(to)
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
        Bytes {
            host: 0,
            device: self.weights.bytes(),
        }
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
        Room {
            wanted: device,
            ..Room::in_turn(largest, budget)
        }
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
            (
                "logits",
                points.saturating_mul(geometry.classes),
                ", or a larger stride",
            ),
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
        let (voxel_type, (slope, intercept)) = call.volume.voxel();
        let extents = call.geometry.extents;
        let (data, strides) = match call.volume.memory() {
            Memory::Host => {
                let size = voxel_type.size();
                let data = self.stage_voxels(call.volume, z)?;
                (data, [size, size * extents.width])
            }
            Memory::Cuda { .. } => {
                self.enter(Lane::Upload)?;
                let (data, strides) = call.volume.slice_at(z);
                (data as u64, [strides.x, strides.y])
            }
        };
        self.leave(Lane::Upload)?;
        let ((low, high), equalize) = call.intensity.settings();
        let voxels = Voxels {
            data,
            stride_x: strides[0] as i64,
            stride_y: strides[1] as i64,
            voxel_type: voxel_number(voxel_type),
            width: extents.width as i32,
            height: extents.height as i32,
            unused: 0,
            slope,
            intercept,
            low,
            high,
        };
        self.slot_mut()?.part = Part::default();
        let slot = self.slot()?;
        let compute = self.compute();
        slot.uploaded.record(&self.upload)?;
        compute.wait_for(&slot.uploaded)?;
        let kernels = &self.device.kernels;
        let lattice_words = self.buffers()?.shape().lattice_bytes() / 4;
        let [logits, _] = slot.lattice_scores();
        // SAFETY: all of it belongs to this engine, which waits for the device before it lets go of anything.
        unsafe {
            compute.fill(slot.counts.address(), 0, LEVELS)?;
            compute.fill(slot.status.device.address(), 0, size_of::<Status>() / 4)?;
            compute.fill(logits, NAN, lattice_words)?;
            let params = HistogramParams {
                voxels,
                counts: slot.counts.address(),
                nonfinite: slot
                    .status
                    .device
                    .at(std::mem::offset_of!(Status, nonfinite)),
                cancel: self.cancel_word(),
            };
            // A few rows for each block, and enough blocks for a large GPU.
            let blocks = extents.height.clamp(1, 512);
            compute.launch(&kernels.histogram, [blocks, 1], &params)?;
            if equalize {
                let params = EqualizeParams {
                    counts: slot.counts.address(),
                    table: slot.table.address(),
                    cancel: self.cancel_word(),
                };
                compute.launch(&kernels.equalize, [1, 1], &params)?;
            }
        }
        self.table = if equalize { slot.table.address() } else { 0 };
        self.voxels = Some(voxels);
        self.z = z;
        Ok(())
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
        let extents = call.geometry.extents;
        if let Some(roi) = &mut self.slot_mut()?.roi {
            let rows = roi.host.as_mut_slice().chunks_exact_mut(extents.width);
            for (y, row) in rows.enumerate() {
                match selection.row(y) {
                    Some(inside) => row
                        .iter_mut()
                        .zip(inside)
                        .for_each(|(to, &i)| *to = i.into()),
                    None => row.fill(1),
                }
            }
        }
        if self.slot()?.part.bytes.is_empty() {
            self.enter(Lane::Compute)?;
        }
        let buffers = self.buffers()?;
        let slot = self.slot()?;
        let compute = self.compute();
        let [logits, probabilities] = slot.lattice_scores();
        let z = self.z;
        let plane = |staged: &Option<Staged>, callers: Option<DevicePlane>, size: i64| match callers
        {
            Some(plane) => Plane {
                data: (plane.address + z * plane.strides[3]) as u64,
                stride_x: plane.strides[1] as i64,
                stride_y: plane.strides[2] as i64,
            },
            None => Plane {
                data: staged.as_ref().map_or(0, |staged| staged.device.address()),
                stride_x: size,
                stride_y: size * extents.width as i64,
            },
        };
        let planes = call.planes;
        let row_fills = buffers.fills.device.address();
        let params = PaintParams {
            logits,
            probabilities,
            rows: row_fills,
            columns: row_fills + (size_of::<AxisFill>() * extents.height) as u64,
            roi: (slot.roi.as_ref()).map_or(0, |staged| staged.device.address()),
            mask: plane(&slot.mask, planes.and_then(|p| p.mask), 1),
            probability: plane(&slot.probability, planes.and_then(|p| p.probability), 4),
            coverage: plane(&slot.coverage, planes.and_then(|p| p.coverage), 1),
            cancel: self.cancel_word(),
            width: extents.width as i32,
            height: extents.height as i32,
            lattice_columns: call.geometry.lattice.x.count() as i32,
            classes: call.geometry.classes as i32,
            lesion_class: call.lesion_class as i32,
            linear: i32::from(call.fill == Fill::Linear),
        };
        let blocks = extents.width.div_ceil(THREADS as usize) * extents.height;
        // SAFETY: all of it belongs to this engine, which waits for the device before it lets go of anything.
        unsafe {
            if let Some(roi) = &slot.roi {
                (self.upload).upload(roi.device.address(), roi.host.as_slice())?;
                slot.uploaded.record(&self.upload)?;
                compute.wait_for(&slot.uploaded)?;
            }
            compute.launch(&self.device.kernels.paint, [blocks, 1], &params)?;
            if let Some(staged) = &slot.logits {
                let bytes = buffers.shape().lattice_bytes();
                compute.copy(staged.device.address(), logits, bytes)?;
            }
            if let Some(plane) = planes.and_then(|p| p.logits) {
                let lattice = call.geometry.lattice;
                let row_bytes = 4 * lattice.x.count() * call.geometry.classes;
                for y in 0..lattice.y.count() {
                    let to = plane.address + z * plane.strides[3] + y * plane.strides[2];
                    let from = logits + (y * row_bytes) as u64;
                    compute.copy(to as u64, from, row_bytes)?;
                }
            }
        }
        self.leave(Lane::Compute)?;
        slot.computed.record(compute)?;
        self.download.wait_for(&slot.computed)?;
        self.enter(Lane::Download)?;
        let slot = self.slot_mut()?;
        let staged = [
            &mut slot.mask,
            &mut slot.probability,
            &mut slot.coverage,
            &mut slot.logits,
        ];
        let staged = staged.into_iter().flatten().chain([&mut slot.status]);
        let copies: Vec<(*mut [u8], u64)> = staged
            .map(|staged| {
                let to: *mut [u8] = staged.host.as_mut_slice();
                (to, staged.device.address())
            })
            .collect();
        for (to, from) in copies {
            // SAFETY: page-locked memory of the slot, which nobody touches before the slice has been waited for.
            unsafe { self.download.download(&mut *to, from) }?;
        }
        self.leave(Lane::Download)?;
        self.slot()?.downloaded.record(&self.download)?;
        self.voxels = None;
        self.in_flight.push_back(self.next_slot);
        self.next_slot = (self.next_slot + 1) % self.buffers()?.slots.len();
        Ok(())
    }

    fn wait(&mut self, call: &Call<'_>) -> Result<u64, Error> {
        let context = Arc::clone(&self.device.context);
        let _entered = context.enter()?;
        let number = (self.in_flight.front().copied())
            .ok_or_else(|| Error::Panic("no slice was submitted".into()))?;
        let slot = &self.buffers()?.slots[number];
        self.wait_for(&slot.downloaded, call.control)?;
        let status = Status::read(slot.status.host.as_slice());
        status.check(self.index, self.weights.dense.len())
    }

    fn mask(&mut self, call: &Call<'_>, z: usize, grids: &mut Grids<'_>) -> Result<(), Error> {
        let number = (self.in_flight.pop_front())
            .ok_or_else(|| Error::Panic("no slice was submitted".into()))?;
        let part = self.buffers()?.slots[number].part.number;
        if let Some(timeline) = &mut self.timeline {
            let context = Arc::clone(&self.device.context);
            let _entered = context.enter()?;
            timeline.note(number, z, part, self.index)?;
        }
        if call.planes.is_some() {
            return Ok(());
        }
        let width = call.geometry.extents.width;
        let lattice = call.geometry.lattice;
        let slot = &self.buffers()?.slots[number];
        for (grid, staged) in [
            (&mut grids.mask, &slot.mask),
            (&mut grids.coverage, &slot.coverage),
        ] {
            if let (Some(grid), Some(staged)) = (grid, staged) {
                let rows = staged.host.as_slice().chunks_exact(width);
                for (y, row) in rows.enumerate() {
                    grid.set_row(y, z, row);
                }
            }
        }
        for (grid, staged, row) in [
            (&mut grids.probability, &slot.probability, width),
            (
                &mut grids.logits,
                &slot.logits,
                lattice.x.count() * call.geometry.classes,
            ),
        ] {
            if let (Some(grid), Some(staged)) = (grid, staged) {
                let rows = floats(staged.host.as_slice()).chunks_exact(row);
                for (y, row) in rows.enumerate() {
                    grid.set_row(y, z, row);
                }
            }
        }
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

/// Page-locked bytes, which are aligned to pages, as f32.
fn floats(bytes: &[u8]) -> &[f32] {
    // SAFETY: any bits are an f32; what is not aligned is left out.
    let (before, floats, after) = unsafe { bytes.align_to::<f32>() };
    assert!(before.is_empty() && after.is_empty());
    floats
}
