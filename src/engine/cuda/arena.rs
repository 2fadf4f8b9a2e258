//! Where activations lie: one piece of device memory, which slices share.
//!
//! ```text
//! small slices     | slot 0 | slot 1 | slot 2 | slot 3 |    side by side: one by itself would not fill the GPU
//! larger slices    |    slots 0, 2   |    slots 1, 3   |    or two by two,
//! still larger     |              any slot             |    or one after another
//!
//! within a part    tables | half | half                     a layer reads one half and writes the other
//! ```
//! A slice has one part, for the largest of its pieces, and waits for those before it whose part has some of its own.

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

/// Of a value, fp16.
pub(super) const ACTIVATION_BYTES: usize = 2;

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
    /// Slices of one size that have the same number come after one another.
    pub number: usize,
    /// Bytes from the arena's beginning.
    pub bytes: Range<usize>,
}

impl Part {
    /// Whether some bytes are in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

impl Arena {
    pub fn new(device: &Arc<Device>, room: Room) -> Result<Self, Error> {
        let memory = |bytes: u64| DeviceMemory::new(&device.context, bytes as usize, "activations of a tile");
        let memory = match memory(room.wanted) {
            Err(Error::DeviceOutOfMemory(_)) if room.wanted > room.least => memory(room.least),
            outcome => outcome,
        };
        Ok(Self { memory: memory?, wanted: room.wanted })
    }

    /// Whether it has room for this and is within the budget. In the midst of a call (`again`) that is enough if it was
    /// made for half of what is wanted: small slices of a ROI that grow bit by bit do not replace it every time.
    pub fn serves(&self, room: Room, again: bool) -> bool {
        serves(self.memory.bytes() as u64, self.wanted, room, again)
    }

    /// The part for the slice in this slot, whose pieces take `bytes` at most; `None` where they do not fit.
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

/// See [`Arena::serves`].
fn serves(bytes: u64, wanted: u64, room: Room, again: bool) -> bool {
    let ample = match again {
        true => wanted >= room.wanted / 2,
        false => bytes >= room.wanted,
    };
    ample && (room.least..=room.budget.device).contains(&bytes)
}

/// Into how many parts of `bytes` each so many bytes may be cut: as many as slots, or as slots that come in turn.
fn parts(memory: u64, bytes: u64) -> Option<usize> {
    let fits = |parts: usize| bytes.saturating_mul(parts as u64) <= memory;
    [SLOTS, SLOTS / 2, 1].into_iter().find(|&parts| fits(parts))
}

/// See [`Arena::part`].
fn part(memory: usize, slot: usize, bytes: usize) -> Option<Part> {
    let parts = parts(memory as u64, bytes as u64)?;
    let number = slot % parts;
    let begin = number * (memory / parts / ALIGNMENT * ALIGNMENT);
    Some(Part { number, bytes: begin..begin + bytes })
}

/// The bytes of the device that the arena would take for `slices` slices, the largest piece of which takes `largest`.
pub(super) fn wanted_bytes(slices: usize, largest: u64, budget: u64, multiprocessors: usize) -> u64 {
    let enough = BYTES_PER_MULTIPROCESSOR.saturating_mul(multiprocessors as u64);
    let most = slices.next_power_of_two().min(SLOTS);
    let parts = parts(enough.min(budget), largest).unwrap_or(1).min(most);
    largest.saturating_mul(parts as u64)
}

/// Bytes of an image; of one with too many pixels more than there can be, so that its tile is cut.
fn image_bytes(pixels: usize, channels: usize, channel_bytes: usize) -> usize {
    if pixels > MOST_PIXELS {
        return usize::MAX;
    }
    pixels.saturating_mul(channels).saturating_mul(channel_bytes)
}

/// Bytes of the two halves for a tile of these axes: images are stored whole. Behind the output of a dense layer lie its
/// sums, in f32.
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
        need(rows.layer(index).len() * columns.layer(index).len(), channels, ACTIVATION_BYTES);
    }
    let head = STEPS.len() - 1;
    let points = rows.layer(head).len() * columns.layer(head).len();
    for dense in &weights.dense {
        need(points, dense.layer.outputs, ACTIVATION_BYTES + 4 * dense.parts());
    }
    bytes.map(|bytes| bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX))
}

/// Bytes of a part for a tile of these axes: tables and activations.
pub(super) fn part_bytes(weights: &Weights, rows: &AxisPlan, columns: &AxisPlan) -> usize {
    let [a, b] = half_bytes(weights, rows, columns);
    let tables = PieceTables::most_bytes(rows, columns) + PieceTables::most_list_bytes(rows, columns);
    let tables = tables.next_multiple_of(ALIGNMENT);
    tables.saturating_add(a).saturating_add(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Bytes;

    /// Slices of one size that have the same number come after one another: only those have bytes in common.
    #[test]
    fn parts_of_other_numbers_have_nothing_in_common() {
        for (memory, bytes, numbers) in
            [(1000, 1001, 0), (1000, 1000, 1), (1200, 500, 2), (1600, 500, 2), (1600, 256, 4), (1 << 20, 300, 4)]
        {
            let parts: Vec<Part> = (0..SLOTS).filter_map(|slot| part(memory, slot, bytes)).collect();
            assert_eq!(parts.len(), if numbers == 0 { 0 } else { SLOTS });
            for (slot, a) in parts.iter().enumerate() {
                assert_eq!((a.number, a.bytes.len()), (slot % numbers, bytes));
                assert!(a.bytes.end <= memory && a.bytes.start.is_multiple_of(ALIGNMENT));
                for b in &parts[..slot] {
                    assert_eq!(a.overlaps(b), a.number == b.number, "{a:?} {b:?}");
                }
            }
            assert!(parts.iter().all(|part| !part.overlaps(&Part::default())));
        }
    }

    /// Side by side as far as the GPU, the budget and the slices go; no memory that does not help.
    #[test]
    fn no_more_is_wanted_than_helps() {
        const MIB: u64 = 1 << 20;
        let wanted = |slices, largest, budget| wanted_bytes(slices, largest, budget, 100);
        for slices in [3, 4, 100] {
            assert_eq!(wanted(slices, 10 * MIB, u64::MAX), 40 * MIB);
        }
        assert_eq!(wanted(2, 10 * MIB, u64::MAX), 20 * MIB);
        assert_eq!(wanted(1, 10 * MIB, u64::MAX), 10 * MIB);
        assert_eq!(wanted(100, 10 * MIB, 35 * MIB), 20 * MIB);
        assert_eq!(wanted(100, 10 * MIB, 19 * MIB), 10 * MIB);
        assert_eq!(wanted(100, 150 * MIB, u64::MAX), 300 * MIB);
        assert_eq!(wanted(100, 201 * MIB, u64::MAX), 201 * MIB);
        assert_eq!(wanted(100, 700 * MIB, u64::MAX), 700 * MIB);
        assert_eq!(wanted(100, u64::MAX, u64::MAX), u64::MAX);
    }

    /// A call begins with what it wants; then it waits for more only where slices grow a lot.
    #[test]
    fn an_arena_serves_as_long_as_it_helps() {
        let room = |least, wanted| Room { least, wanted, budget: Bytes { host: 0, device: 1000 } };
        for (bytes, wanted, least, more, first, again) in [
            (400, 400, 100, 400, true, true),
            (400, 400, 100, 500, false, true),
            (400, 400, 100, 900, false, false),
            (400, 400, 500, 500, false, false),
            // The device had no more when it was made, and may have now.
            (100, 400, 100, 400, false, true),
            // More than the budget is not kept.
            (1001, 1001, 100, 400, false, false),
        ] {
            let serves = |again| serves(bytes, wanted, room(least, more), again);
            assert_eq!((serves(false), serves(true)), (first, again), "{bytes} {least} {more}");
        }
    }

    /// Kernels number pixels with 32 bits: a tile with more of them fits no budget, so that it is cut.
    #[test]
    fn images_with_too_many_pixels_fit_nowhere() {
        assert_eq!(image_bytes(MOST_PIXELS, 16, 2), 32 * MOST_PIXELS);
        assert_eq!(image_bytes(MOST_PIXELS + 1, 16, 2), usize::MAX);
    }
}
