//! Where activations lie: one piece of device memory, which slices share.
//!
//! ```text
//! small slices     | slot 0 | slot 1 | slot 2 | slot 3 |    side by side: a slice by itself would not fill the GPU
//! larger slices    |     slots 0, 2   |   slots 1, 3   |    or two by two,
//! still larger     |              any slot             |    or one after another
//!
//! within a part    tables | half | half                     a layer reads one half and writes the other
//! ```
//! A slice waits for those before it whose part has some of its own.

use std::ops::Range;
use std::sync::Arc;

use super::buffers::SLOTS;
use super::device::Device;
use super::driver::DeviceMemory;
use super::tables::PieceTables;
use super::weights::Weights;
use crate::engine::Room;
use crate::error::Error;
use crate::plan::{AxisPlan, STEPS, Step};

/// Parts, tables and halves begin at a multiple of this.
pub(super) const ALIGNMENT: usize = 256;

/// Most pixels of an image: kernels number them with 32 bits, signed.
pub(super) const MOST_PIXELS: usize = i32::MAX as usize;

/// Slices are evaluated side by side while they take no more than this all together. One that takes all of it has, for
/// each multiprocessor, some 64 blocks of 128 pixels and 128 channels (32 KiB) in its largest layers and several in its
/// smallest: hardly any multiprocessor is without work while the last of them are done.
const BYTES_PER_MULTIPROCESSOR: u64 = 4 << 20;

/// See the module.
pub(super) struct Arena {
    memory: DeviceMemory,
    /// Bytes that would have been taken if the device had had them.
    wanted: u64,
}

/// A slice's part of the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    /// Slices of the same number come after one another.
    pub number: usize,
    /// Bytes from the arena's beginning.
    pub bytes: Range<usize>,
}

impl Part {
    /// Whether some bytes are in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }

    /// The bytes of both, and what is between.
    pub fn with(&self, other: &Self) -> Self {
        if self.bytes.is_empty() {
            return other.clone();
        }
        let (start, end) = (
            self.bytes.start.min(other.bytes.start),
            self.bytes.end.max(other.bytes.end),
        );
        Self {
            number: self.number,
            bytes: start..end,
        }
    }
}

impl Arena {
    pub fn new(device: &Arc<Device>, room: Room) -> Result<Self, Error> {
        let (least, wanted) = (room.least.device, room.wanted.device);
        let memory = |bytes: u64| {
            DeviceMemory::new(&device.context, bytes as usize, "activations of a tile")
        };
        let memory = match memory(wanted) {
            Err(Error::DeviceOutOfMemory(_)) if wanted > least => memory(least),
            outcome => outcome,
        };
        Ok(Self {
            memory: memory?,
            wanted,
        })
    }

    /// Whether it has this room, or nearly: slices of a ROI that grow bit by bit do not replace it every time.
    pub fn serves(&self, room: Room) -> bool {
        let bytes = self.memory.bytes() as u64;
        (room.least.device..=room.most.device).contains(&bytes)
            && self.wanted >= room.wanted.device / 2
    }

    /// The part for the slice in this slot, whose pieces take so many bytes each; `None` where they do not fit.
    pub fn part(&self, slot: usize, bytes: usize) -> Option<Part> {
        part(self.memory.bytes(), slot, bytes)
    }

    /// Where `offset` is.
    pub fn at(&self, offset: usize) -> u64 {
        self.memory.at(offset)
    }

    /// Copies what lies at `offset` to `values`; the device is not at work on it.
    pub fn read<T: Copy>(&self, offset: usize, values: &mut [T]) -> Result<(), Error> {
        self.memory.read(offset, values)
    }
}

/// See [`Arena::part`].
fn part(arena: usize, slot: usize, bytes: usize) -> Option<Part> {
    let parts = (arena / bytes).min(SLOTS);
    let number = slot.checked_rem(parts)?;
    let share = arena / parts / ALIGNMENT * ALIGNMENT;
    let begin = number * share;
    Some(Part {
        number,
        bytes: begin..begin + bytes,
    })
}

/// The bytes of the device that the arena would take for `slices` slices, the largest piece of which takes `largest`.
pub(super) fn wanted_bytes(
    slices: usize,
    largest: u64,
    budget: u64,
    multiprocessors: usize,
) -> u64 {
    let side_by_side = largest.saturating_mul(slices.min(SLOTS) as u64);
    let enough = BYTES_PER_MULTIPROCESSOR.saturating_mul(multiprocessors as u64);
    side_by_side.min(enough).min(budget).max(largest)
}

/// Bytes of an image; of one with too many pixels more than there can be, so that its tile is cut.
fn image_bytes(pixels: usize, channels: usize, channel_bytes: usize) -> usize {
    if pixels > MOST_PIXELS {
        return usize::MAX;
    }
    pixels
        .saturating_mul(channels)
        .saturating_mul(channel_bytes)
}

/// Bytes of the two halves for a tile of these axes: images are stored whole.
pub(super) fn half_bytes(weights: &Weights, rows: &AxisPlan, columns: &AxisPlan) -> [usize; 2] {
    let mut bytes = [0, 0];
    let mut half = 0;
    let mut need = |pixels: usize, channels: usize, size: usize| {
        bytes[half] = bytes[half].max(image_bytes(pixels, channels, size));
        half = 1 - half;
    };
    let mut channels = 0;
    for (index, &step) in STEPS.iter().enumerate() {
        channels = match step {
            Step::Convolution(0) => weights.first.outputs,
            Step::Convolution(i) => weights.convolutions[i - 1].outputs,
            Step::Pool => channels,
            Step::Head => break,
        };
        need(
            rows.layer(index).len() * columns.layer(index).len(),
            channels,
            2,
        );
    }
    let head = STEPS.len() - 1;
    let points = rows.layer(head).len() * columns.layer(head).len();
    for layer in &weights.dense {
        need(points, layer.outputs, 4);
    }
    bytes.map(|bytes| {
        bytes
            .checked_next_multiple_of(ALIGNMENT)
            .unwrap_or(usize::MAX)
    })
}

/// Bytes of a part for a tile of these axes: tables and activations.
pub(super) fn part_bytes(weights: &Weights, rows: &AxisPlan, columns: &AxisPlan) -> usize {
    let [a, b] = half_bytes(weights, rows, columns);
    let tables =
        PieceTables::most_bytes(rows, columns) + PieceTables::most_list_bytes(rows, columns);
    let tables = tables.next_multiple_of(ALIGNMENT);
    tables.saturating_add(a).saturating_add(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of the same number come after one another: only those may have bytes in common.
    #[test]
    fn parts_of_other_numbers_have_nothing_in_common() {
        for (arena, bytes, numbers) in [
            (1000, 1001, 0),
            (1000, 1000, 1),
            (1200, 500, 2),
            (1600, 500, 3),
            (1600, 256, 4),
            (1 << 20, 300, 4),
        ] {
            let parts: Vec<Part> = (0..SLOTS)
                .filter_map(|slot| part(arena, slot, bytes))
                .collect();
            assert_eq!(parts.len(), if numbers == 0 { 0 } else { SLOTS });
            for (slot, a) in parts.iter().enumerate() {
                assert_eq!((a.number, a.bytes.len()), (slot % numbers, bytes));
                assert!(a.bytes.end <= arena && a.bytes.start.is_multiple_of(ALIGNMENT));
                for b in &parts[..slot] {
                    assert_eq!(a.overlaps(b), a.number == b.number, "{a:?} {b:?}");
                }
            }
        }
    }

    /// A slice that had a small piece first and then a large one has both.
    #[test]
    fn a_part_grows_by_that_of_the_next_piece() {
        let (none, small, large) = (Part::default(), 1024..1280, 0..768);
        let [small, large] = [small, large].map(|bytes| Part { number: 2, bytes });
        assert_eq!(none.with(&small), small);
        assert_eq!(small.with(&large).bytes, 0..1280);
        assert!(!none.overlaps(&small) && !small.overlaps(&large));
    }

    /// Side by side as far as the GPU, the budget and the slices go; never less than a piece takes.
    #[test]
    fn no_more_is_wanted_than_helps() {
        const MIB: u64 = 1 << 20;
        let wanted = |slices, largest, budget| wanted_bytes(slices, largest, budget, 100);
        assert_eq!(wanted(100, 10 * MIB, u64::MAX), 40 * MIB);
        assert_eq!(wanted(3, 10 * MIB, u64::MAX), 30 * MIB);
        assert_eq!(wanted(100, 10 * MIB, 25 * MIB), 25 * MIB);
        assert_eq!(wanted(100, 150 * MIB, u64::MAX), 400 * MIB);
        assert_eq!(wanted(100, 700 * MIB, u64::MAX), 700 * MIB);
    }

    /// Kernels number pixels with 32 bits: a tile with more of them fits no budget, so that it is cut.
    #[test]
    fn images_with_too_many_pixels_fit_nowhere() {
        assert_eq!(image_bytes(MOST_PIXELS, 16, 2), 32 * MOST_PIXELS);
        assert_eq!(image_bytes(MOST_PIXELS + 1, 16, 2), usize::MAX);
    }
}
