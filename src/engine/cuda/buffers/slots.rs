//! Buffers of a call on the device and in page-locked memory, besides weights and activations.
//!
//! ```text
//! slot 0, 1 ...    a slice each, several on their way at a time: voxels and ROI in, histogram, look-up table,
//!                  the patches' scores, planes and status out
//! shared           the centres that each voxel takes its class from, the voxels that each pixel depends on
//! ```

use std::sync::Arc;

use super::arena::{Region, SLOTS};
use crate::axes::Axes;
use crate::engine::cuda::driver::{Context, DeviceMemory, Event, HostMemory};
use crate::engine::cuda::params::{AxisSample, AxisTaps, LEVELS, bytes_of};
use crate::engine::cuda::status::Status;
use crate::engine::{Bytes, Geometry};
use crate::error::Error;
use crate::mask::PerOutput;
use crate::resampling::Taps;

/// One for every slot.
pub(in crate::engine::cuda) fn of_each_slot<T>(
    mut make: impl FnMut() -> Result<T, Error>,
) -> Result<[T; SLOTS], Error> {
    Ok([make()?, make()?, make()?, make()?])
}

/// The same bytes on both sides.
pub(in crate::engine::cuda) struct Mirrored {
    pub host: HostMemory,
    pub device: DeviceMemory,
}

impl Mirrored {
    fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<Self, Error> {
        Ok(Self { host: HostMemory::new(context, bytes, what)?, device: DeviceMemory::new(context, bytes, what)? })
    }
}

pub(in crate::engine::cuda) struct Slot {
    pub voxels: Mirrored,
    /// HU of the model's pixels as f64, where these are not the voxels.
    pub pixels: Option<DeviceMemory>,
    pub counts: DeviceMemory,
    /// Look-up table of the equalisation.
    pub table: DeviceMemory,
    /// Empty before the first tile.
    pub region: Region,
    /// Logits, then probabilities: [patches][classes] each.
    pub scores: DeviceMemory,
    pub roi: Option<Mirrored>,
    /// The outputs that the caller wants in host memory.
    pub staged: PerOutput<Option<Mirrored>>,
    pub status: Mirrored,
    /// Voxels, and later the ROI, are on the device.
    pub uploaded: Event,
    /// The slice has been evaluated and its masks written.
    pub computed: Event,
    /// Everything is back in `host` memory.
    pub downloaded: Event,
}

pub(in crate::engine::cuda) struct Buffers {
    layout: BufferLayout,
    /// No more than the call has slices.
    pub slots: Vec<Slot>,
    /// One [`AxisSample`] per row of voxels, then one per column; then, where slices are resampled, one [`AxisTaps`] per row of
    /// pixels and one per column.
    pub axes: Mirrored,
}

/// Everything that the sizes depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::cuda) struct BufferLayout {
    voxels: Axes<usize>,
    pixels: Axes<usize>,
    slots: usize,
    voxel_bytes: usize,
    patches: usize,
    classes: usize,
    roi: bool,
    staged: PerOutput<bool>,
}

impl BufferLayout {
    pub fn new(geometry: &Geometry, voxel_bytes: usize, staged: PerOutput<bool>) -> Self {
        Self {
            voxels: geometry.grid.voxels.map(|axis| axis.scale.voxels),
            pixels: geometry.grid.pixels(),
            slots: SLOTS.min(geometry.extents.depth),
            voxel_bytes,
            patches: geometry.grid.patches(),
            classes: geometry.classes,
            roi: geometry.roi,
            staged,
        }
    }

    pub fn is_resampled(&self) -> bool {
        self.pixels != self.voxels
    }

    /// Bytes of the resampled slice.
    fn pixel_bytes(&self) -> usize {
        if self.is_resampled() { 8 * self.pixels.product() } else { 0 }
    }

    /// Where the taps begin in [`Buffers::axes`]: rows, then columns.
    pub fn taps_at(&self) -> [usize; 2] {
        let samples = size_of::<AxisSample>() * (self.voxels.rows + self.voxels.columns);
        let rows = samples.next_multiple_of(align_of::<AxisTaps>());
        [rows, rows + size_of::<AxisTaps>() * self.pixels.rows]
    }

    /// Bytes of the logits of a slice.
    pub fn logits_bytes(&self) -> usize {
        4 * self.patches * self.classes
    }

    /// Bytes of each output of a slice, if it is staged.
    fn staged_bytes(&self) -> PerOutput<Option<usize>> {
        let voxels = self.voxels.product();
        let bytes = PerOutput { mask: voxels, probability: 4 * voxels, coverage: voxels, logits: self.logits_bytes() };
        self.staged.zip(bytes).map(|(is_staged, bytes)| is_staged.then_some(bytes))
    }

    fn axes_bytes(&self) -> usize {
        let [rows, columns] = self.taps_at();
        if self.is_resampled() { columns + size_of::<AxisTaps>() * self.pixels.columns } else { rows }
    }

    pub fn bytes(&self) -> Bytes {
        let voxels = self.voxels.product();
        let outputs: usize = self.staged_bytes().named().into_iter().filter_map(|(_, bytes)| bytes).sum();
        let roi = if self.roi { voxels } else { 0 };
        let staged = voxels * self.voxel_bytes + roi + outputs + size_of::<Status>();
        let axes = self.axes_bytes();
        let work = 8 * LEVELS + 2 * self.logits_bytes() + self.pixel_bytes();
        Bytes { host: (self.slots * staged + axes) as u64, device: (self.slots * (staged + work) + axes) as u64 }
    }
}

impl Buffers {
    pub fn new(context: &Arc<Context>, layout: BufferLayout) -> Result<Self, Error> {
        Ok(Self {
            layout,
            slots: (0..layout.slots).map(|_| Slot::new(context, &layout)).collect::<Result<_, _>>()?,
            axes: Mirrored::new(context, layout.axes_bytes(), "axes of a slice")?,
        })
    }

    pub fn layout(&self) -> BufferLayout {
        self.layout
    }
}

impl Slot {
    /// Address of the word in which kernels report a value beyond fp16.
    pub fn overflow_word(&self) -> u64 {
        let word = std::mem::offset_of!(Status, overflow);
        self.status.device.at(word)
    }

    /// Addresses of the logits and of the probabilities.
    pub fn score_addresses(&self) -> [u64; 2] {
        [0, self.scores.bytes() / 2].map(|offset| self.scores.at(offset))
    }

    fn new(context: &Arc<Context>, layout: &BufferLayout) -> Result<Self, Error> {
        let voxels = layout.voxels.product();
        let device = |bytes, what| DeviceMemory::new(context, bytes, what);
        let output = |(name, bytes): (&str, Option<usize>)| {
            bytes.map(|bytes| Mirrored::new(context, bytes, &format!("{name} of a slice"))).transpose()
        };
        let [mask, probability, coverage, logits] = layout.staged_bytes().named().map(output);
        Ok(Self {
            voxels: Mirrored::new(context, voxels * layout.voxel_bytes, "voxels of a slice")?,
            pixels: layout.is_resampled().then(|| device(layout.pixel_bytes(), "pixels of a slice")).transpose()?,
            counts: device(4 * LEVELS, "histogram")?,
            table: device(4 * LEVELS, "look-up table")?,
            region: Region::default(),
            scores: device(2 * layout.logits_bytes(), "scores of a slice")?,
            roi: layout.roi.then(|| Mirrored::new(context, voxels, "ROI of a slice")).transpose()?,
            staged: PerOutput { mask: mask?, probability: probability?, coverage: coverage?, logits: logits? },
            status: Mirrored::new(context, size_of::<Status>(), "status of a slice")?,
            uploaded: Event::new(context)?,
            computed: Event::new(context)?,
            downloaded: Event::new(context)?,
        })
    }
}

/// Writes [`Buffers::axes`].
pub(in crate::engine::cuda) fn write_axes(
    geometry: &Geometry,
    layout: &BufferLayout,
    interpolated: bool,
    to: &mut [u8],
) {
    let axes = geometry.grid.voxels;
    let samples = axes.map(|axis| (0..axis.scale.voxels).map(move |x| axis.centres(x, interpolated)));
    for (to, centres) in to.chunks_exact_mut(size_of::<AxisSample>()).zip(samples.rows.chain(samples.columns)) {
        let (low, high, weight) = centres.map_or((-1, -1, 0.0), |c| (c.low as i32, c.high as i32, c.weight));
        to.copy_from_slice(bytes_of(&[AxisSample { low, high, weight }]));
    }
    if layout.is_resampled() {
        let taps = axes.map(|axis| (0..axis.scale.pixels).map(move |i| axis.scale.taps(i)));
        let to = to[layout.taps_at()[0]..].chunks_exact_mut(size_of::<AxisTaps>());
        for (to, taps) in to.zip(taps.rows.chain(taps.columns)) {
            let Taps { first, count, weights } = taps;
            to.copy_from_slice(bytes_of(&[AxisTaps { first: first as i32, count: count as i32, weights }]));
        }
    }
}
