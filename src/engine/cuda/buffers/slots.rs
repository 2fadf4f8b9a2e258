//! Buffers of a call on the device and in page-locked memory, besides weights and activations.
//!
//! ```text
//! slot 0, 1 ...    a slice each, several on their way at a time: voxels and ROI in, histogram, look-up table,
//!                  the patches' scores, planes and status out
//! shared           the centres that each pixel takes its class from
//! ```

use std::sync::Arc;

use super::arena::{Region, SLOTS};
use crate::engine::cuda::driver::{Context, DeviceMemory, Event, HostMemory};
use crate::engine::cuda::params::{AxisSample, LEVELS};
use crate::engine::cuda::status::Status;
use crate::engine::{Bytes, Geometry};
use crate::error::Error;
use crate::mask::{Interpolation, Wanted};
use crate::patch_grid::Axis;

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
    pub counts: DeviceMemory,
    /// Look-up table of the equalisation.
    pub table: DeviceMemory,
    /// Empty before the first tile.
    pub region: Region,
    /// Logits, then probabilities: [patches][classes] each.
    pub scores: DeviceMemory,
    pub roi: Option<Mirrored>,
    pub mask: Option<Mirrored>,
    pub probability: Option<Mirrored>,
    pub coverage: Option<Mirrored>,
    pub logits: Option<Mirrored>,
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
    /// One [`AxisSample`] per row of the slice, then one per column.
    pub interpolation: Mirrored,
}

/// Everything that the sizes depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::engine::cuda) struct BufferLayout {
    width: usize,
    height: usize,
    slots: usize,
    voxel_bytes: usize,
    patches: usize,
    classes: usize,
    roi: bool,
    wanted: Wanted,
}

impl BufferLayout {
    pub fn new(geometry: &Geometry, voxel_bytes: usize, wanted: Wanted) -> Self {
        Self {
            width: geometry.extents.width,
            height: geometry.extents.height,
            slots: SLOTS.min(geometry.extents.depth),
            voxel_bytes,
            patches: geometry.grid.patches(),
            classes: geometry.classes,
            roi: geometry.roi,
            wanted,
        }
    }

    fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Bytes of the logits of a slice.
    pub fn logits_bytes(&self) -> usize {
        4 * self.patches * self.classes
    }

    fn interpolation_bytes(&self) -> usize {
        size_of::<AxisSample>() * (self.width + self.height)
    }

    pub fn bytes(&self) -> Bytes {
        let pixels = self.pixels();
        let of = |wanted: bool, bytes: usize| if wanted { bytes } else { 0 };
        let staged = pixels * self.voxel_bytes
            + of(self.roi, pixels)
            + of(self.wanted.mask, pixels)
            + of(self.wanted.probability, 4 * pixels)
            + of(self.wanted.coverage, pixels)
            + of(self.wanted.logits, self.logits_bytes())
            + size_of::<Status>();
        let interpolation = self.interpolation_bytes();
        let work = 8 * LEVELS + 2 * self.logits_bytes();
        Bytes {
            host: (self.slots * staged + interpolation) as u64,
            device: (self.slots * (staged + work) + interpolation) as u64,
        }
    }
}

impl Buffers {
    pub fn new(context: &Arc<Context>, layout: BufferLayout) -> Result<Self, Error> {
        Ok(Self {
            layout,
            slots: (0..layout.slots).map(|_| Slot::new(context, &layout)).collect::<Result<_, _>>()?,
            interpolation: Mirrored::new(context, layout.interpolation_bytes(), "interpolation of a slice")?,
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
        let pixels = layout.pixels();
        let wanted = layout.wanted;
        let device = |bytes, what| DeviceMemory::new(context, bytes, what);
        let staged = |if_wanted: bool, bytes, what| if_wanted.then(|| Mirrored::new(context, bytes, what)).transpose();
        Ok(Self {
            voxels: Mirrored::new(context, pixels * layout.voxel_bytes, "voxels of a slice")?,
            counts: device(4 * LEVELS, "histogram")?,
            table: device(4 * LEVELS, "look-up table")?,
            region: Region::default(),
            scores: device(2 * layout.logits_bytes(), "scores of a slice")?,
            roi: staged(layout.roi, pixels, "ROI of a slice")?,
            mask: staged(wanted.mask, pixels, "mask of a slice")?,
            probability: staged(wanted.probability, 4 * pixels, "probability of a slice")?,
            coverage: staged(wanted.coverage, pixels, "coverage of a slice")?,
            logits: staged(wanted.logits, layout.logits_bytes(), "logits of a slice")?,
            status: Mirrored::new(context, size_of::<Status>(), "status of a slice")?,
            uploaded: Event::new(context)?,
            computed: Event::new(context)?,
            downloaded: Event::new(context)?,
        })
    }
}

/// Writes the centres that each pixel of the slice's rows, then of its columns, takes its class from.
pub(in crate::engine::cuda) fn write_interpolation(geometry: &Geometry, interpolation: Interpolation, to: &mut [u8]) {
    let Geometry { extents, grid, .. } = geometry;
    let rows = (0..extents.height).map(|pixel| axis_fill(&grid.y, pixel, interpolation));
    let columns = (0..extents.width).map(|pixel| axis_fill(&grid.x, pixel, interpolation));
    for (to, fill) in to.chunks_exact_mut(size_of::<AxisSample>()).zip(rows.chain(columns)) {
        to[..4].copy_from_slice(&fill.low.to_ne_bytes());
        to[4..8].copy_from_slice(&fill.high.to_ne_bytes());
        to[8..].copy_from_slice(&fill.weight.to_ne_bytes());
    }
}

/// The centres that a pixel of an axis of the slice takes its class from.
fn axis_fill(axis: &Axis, pixel: usize, interpolation: Interpolation) -> AxisSample {
    let inside = pixel.checked_sub(axis.origin).filter(|&p| p < axis.len);
    let Some(p) = inside else {
        return AxisSample { low: -1, high: -1, weight: 0.0 };
    };
    let (low, high, weight) = match interpolation {
        Interpolation::Nearest => (axis.nearest(p), axis.nearest(p), 0.0),
        Interpolation::Linear => axis.around(p),
    };
    AxisSample { low: low as i32, high: high as i32, weight }
}
