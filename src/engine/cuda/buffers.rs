//! What a call holds on the device and in page-locked memory, besides weights and activations.
//!
//! ```text
//! slot 0, 1 ...    a slice each, several on their way at a time: voxels and ROI in, histogram, look-up table,
//!                  the lattice's scores, planes and status out
//! shared           which centres each pixel takes its class from
//! ```

use std::sync::Arc;

use super::arena::Part;
use super::driver::{Context, DeviceMemory, Event, HostMemory};
use super::params::{AxisFill, LEVELS};
use super::status::Status;
use crate::engine::{Bytes, Geometry};
use crate::error::Error;
use crate::lattice::Axis;
use crate::mask::{Fill, Wanted};

/// Slices that may be on their way: with the one that the host turns to three more, to be at work side by side.
pub(super) const SLOTS: usize = 4;

/// What every slot has.
pub(super) fn of_each_slot<T>(mut make: impl FnMut() -> Result<T, Error>) -> Result<[T; SLOTS], Error> {
    Ok([make()?, make()?, make()?, make()?])
}

/// The same bytes on both sides.
pub(super) struct Staged {
    pub host: HostMemory,
    pub device: DeviceMemory,
}

impl Staged {
    fn new(context: &Arc<Context>, bytes: usize, what: &str) -> Result<Self, Error> {
        Ok(Self { host: HostMemory::new(context, bytes, what)?, device: DeviceMemory::new(context, bytes, what)? })
    }
}

/// One slice on its way.
pub(super) struct Slot {
    pub voxels: Staged,
    /// Histogram of the slice.
    pub counts: DeviceMemory,
    /// Look-up table of the equalisation.
    pub table: DeviceMemory,
    /// Of the arena: none before the first piece.
    pub part: Part,
    /// Logits of the lattice, then its probabilities: [lattice points][classes] each.
    pub scores: DeviceMemory,
    pub roi: Option<Staged>,
    pub mask: Option<Staged>,
    pub probability: Option<Staged>,
    pub coverage: Option<Staged>,
    pub logits: Option<Staged>,
    pub status: Staged,
    /// Voxels, and later the ROI, are on the device.
    pub uploaded: Event,
    /// The slice has been evaluated and painted.
    pub computed: Event,
    /// Everything is back in `host` memory.
    pub downloaded: Event,
}

/// See the module.
pub(super) struct Buffers {
    shape: Shape,
    /// No more than the call has slices.
    pub slots: Vec<Slot>,
    /// One [`AxisFill`] per row of the slice, then one per column.
    pub fills: Staged,
}

/// What the sizes depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    width: usize,
    height: usize,
    slots: usize,
    voxel_bytes: usize,
    points: usize,
    classes: usize,
    roi: bool,
    wanted: Wanted,
}

impl Shape {
    pub fn new(geometry: &Geometry, voxel_bytes: usize, wanted: Wanted) -> Self {
        Self {
            width: geometry.extents.width,
            height: geometry.extents.height,
            slots: SLOTS.min(geometry.extents.depth),
            voxel_bytes,
            points: geometry.lattice.points(),
            classes: geometry.classes,
            roi: geometry.roi,
            wanted,
        }
    }

    fn pixels(&self) -> usize {
        self.width * self.height
    }

    /// Bytes of the logits of a lattice.
    pub fn lattice_bytes(&self) -> usize {
        4 * self.points * self.classes
    }

    fn fills_bytes(&self) -> usize {
        size_of::<AxisFill>() * (self.width + self.height)
    }

    /// Bytes of everything.
    pub fn bytes(&self) -> Bytes {
        let pixels = self.pixels();
        let of = |wanted: bool, bytes: usize| if wanted { bytes } else { 0 };
        let staged = pixels * self.voxel_bytes
            + of(self.roi, pixels)
            + of(self.wanted.mask, pixels)
            + of(self.wanted.probability, 4 * pixels)
            + of(self.wanted.coverage, pixels)
            + of(self.wanted.logits, self.lattice_bytes())
            + size_of::<Status>();
        let fills = self.fills_bytes();
        let work = 8 * LEVELS + 2 * self.lattice_bytes();
        Bytes { host: (self.slots * staged + fills) as u64, device: (self.slots * (staged + work) + fills) as u64 }
    }
}

impl Buffers {
    pub fn new(context: &Arc<Context>, shape: Shape) -> Result<Self, Error> {
        Ok(Self {
            shape,
            slots: (0..shape.slots).map(|_| Slot::new(context, &shape)).collect::<Result<_, _>>()?,
            fills: Staged::new(context, shape.fills_bytes(), "fill of a slice")?,
        })
    }

    /// What they were made for.
    pub fn shape(&self) -> Shape {
        self.shape
    }
}

impl Slot {
    /// Where the kernels say that a value was beyond fp16.
    pub fn overflow_word(&self) -> u64 {
        let word = std::mem::offset_of!(Status, overflow);
        self.status.device.at(word)
    }

    /// Where the lattice's logits lie, and its probabilities.
    pub fn lattice_scores(&self) -> [u64; 2] {
        [0, self.scores.bytes() / 2].map(|offset| self.scores.at(offset))
    }

    fn new(context: &Arc<Context>, shape: &Shape) -> Result<Self, Error> {
        let pixels = shape.pixels();
        let wanted = shape.wanted;
        let device = |bytes, what| DeviceMemory::new(context, bytes, what);
        let staged = |if_wanted: bool, bytes, what| if_wanted.then(|| Staged::new(context, bytes, what)).transpose();
        Ok(Self {
            voxels: Staged::new(context, pixels * shape.voxel_bytes, "voxels of a slice")?,
            counts: device(4 * LEVELS, "histogram")?,
            table: device(4 * LEVELS, "look-up table")?,
            part: Part::default(),
            scores: device(2 * shape.lattice_bytes(), "scores of a slice")?,
            roi: staged(shape.roi, pixels, "ROI of a slice")?,
            mask: staged(wanted.mask, pixels, "mask of a slice")?,
            probability: staged(wanted.probability, 4 * pixels, "probability of a slice")?,
            coverage: staged(wanted.coverage, pixels, "coverage of a slice")?,
            logits: staged(wanted.logits, shape.lattice_bytes(), "logits of a slice")?,
            status: Staged::new(context, size_of::<Status>(), "status of a slice")?,
            uploaded: Event::new(context)?,
            computed: Event::new(context)?,
            downloaded: Event::new(context)?,
        })
    }
}

/// Writes the centres that each pixel of the slice's rows, then of its columns, takes its class from.
pub(super) fn write_fills(geometry: &Geometry, fill: Fill, to: &mut [u8]) {
    let Geometry { extents, lattice, .. } = geometry;
    let rows = (0..extents.height).map(|pixel| axis_fill(&lattice.y, pixel, fill));
    let columns = (0..extents.width).map(|pixel| axis_fill(&lattice.x, pixel, fill));
    let places = to.chunks_exact_mut(size_of::<AxisFill>());
    for (to, fill) in places.zip(rows.chain(columns)) {
        to[..4].copy_from_slice(&fill.low.to_ne_bytes());
        to[4..8].copy_from_slice(&fill.high.to_ne_bytes());
        to[8..].copy_from_slice(&fill.weight.to_ne_bytes());
    }
}

/// The centres that a pixel of an axis of the slice takes its class from.
fn axis_fill(axis: &Axis, pixel: usize, fill: Fill) -> AxisFill {
    let inside = pixel.checked_sub(axis.origin).filter(|&p| p < axis.len);
    let Some(p) = inside else {
        return AxisFill { low: -1, high: -1, weight: 0.0 };
    };
    let (low, high, weight) = match fill {
        Fill::Nearest => (axis.nearest(p), axis.nearest(p), 0.0),
        Fill::Linear => axis.around(p),
    };
    AxisFill { low: low as i32, high: high as i32, weight }
}
