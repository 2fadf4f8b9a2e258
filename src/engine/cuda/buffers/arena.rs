//! The arena: device memory for activations, which slices share.
//!
//! ```text
//! small slices     | slot 0 | slot 1 | slot 2 | slot 3 |    side by side: one by itself would not fill the GPU
//! larger slices    |    slots 0, 2   |    slots 1, 3   |    or two by two,
//! still larger     |              any slot             |    or one after another
//!
//! within a region  tables | half | half                     a layer reads one half and writes the other
//! ```
//! A slice has one region, for the largest of its tiles, and waits for those before it whose regions overlap its own.

use std::ops::Range;
use std::sync::Arc;

use crate::axes::Axes;
use crate::engine::Reservation;
use crate::engine::cuda::driver::{Context, DeviceMemory};
use crate::engine::cuda::tables::TileTables;
use crate::engine::cuda::weights::PackedWeights;
use crate::error::Error;
use crate::plan::{AxisSizes, HEAD, STEPS, Step};

/// Pipeline slots: with the slice that the host turns to three more, to be at work side by side.
pub(in crate::engine::cuda) const SLOTS: usize = 4;

/// Regions, tables and halves begin at a multiple of this.
pub(in crate::engine::cuda) const ALIGNMENT: usize = 256;

/// Bytes of an fp16 value.
pub(in crate::engine::cuda) const ACTIVATION_BYTES: usize = 2;

/// Maximum pixels of an image: kernels number them with 32 bits, signed.
pub(in crate::engine::cuda) const MAX_PIXELS: usize = i32::MAX as usize;

/// Slices are evaluated side by side while they take no more than this all together. One that takes all of it has, for
/// each multiprocessor, some 64 blocks of 128 pixels and 128 channels (32 KiB) in its largest layers and several in its
/// smallest: hardly any multiprocessor is without work while the last of them are done.
const BYTES_PER_MULTIPROCESSOR: u64 = 4 << 20;

#[derive(Default)]
pub(in crate::engine::cuda) struct Arena {
    /// `None`: 0 bytes.
    memory: Option<DeviceMemory>,
    /// Bytes that would have been taken if the device had had them.
    wanted: u64,
}

/// A slice's region of the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::cuda) struct Region {
    /// Slices of one size that have the same turn come after one another.
    pub turn: usize,
    /// Bytes from the arena's beginning.
    pub bytes: Range<usize>,
}

impl Region {
    /// True where some bytes are in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

impl Arena {
    pub fn new(context: &Arc<Context>, reservation: Reservation) -> Result<Self, Error> {
        let Reservation { min, wanted, .. } = reservation;
        let memory = |bytes: u64| DeviceMemory::new(context, bytes as usize, "activations of a tile");
        let memory = match memory(wanted) {
            Err(Error::DeviceOutOfMemory(_)) if wanted > min => memory(min),
            outcome => outcome,
        };
        Ok(Self { memory: Some(memory?), wanted })
    }

    pub fn is_empty(&self) -> bool {
        self.memory.is_none()
    }

    fn bytes(&self) -> usize {
        self.memory.as_ref().map_or(0, DeviceMemory::bytes)
    }

    /// True where it is large enough for this and within the budget. In the midst of a call (`again`) it is large enough
    /// if it was made for half of what is wanted: small slices of a ROI that grow bit by bit do not replace it every time.
    pub fn serves(&self, reservation: Reservation, again: bool) -> bool {
        !self.is_empty() && serves(self.bytes() as u64, self.wanted, reservation, again)
    }

    /// The region of the slice in this slot, whose tiles take `bytes` at most; `None` where they do not fit.
    pub fn region(&self, slot: usize, bytes: usize) -> Option<Region> {
        region(self.bytes(), slot, bytes)
    }

    pub fn at(&self, offset: usize) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.at(offset))
    }

    /// Copies the bytes at `offset` to `values`; the device is not at work on it.
    pub fn read<T: Copy>(&self, offset: usize, values: &mut [T]) -> Result<(), Error> {
        self.memory.as_ref().map_or(Ok(()), |memory| memory.read(offset, values))
    }
}

/// See [`Arena::serves`].
fn serves(bytes: u64, was_wanted: u64, reservation: Reservation, again: bool) -> bool {
    let Reservation { min, wanted, budget } = reservation;
    let ample = if again { was_wanted >= wanted / 2 } else { bytes >= wanted };
    ample && (min..=budget.device).contains(&bytes)
}

/// Number of `bytes`-sized regions that fit: as many as slots, or as slots that come in turn.
fn regions(memory: u64, bytes: u64) -> Option<usize> {
    let fits = |regions: usize| bytes.saturating_mul(regions as u64) <= memory;
    [SLOTS, SLOTS / 2, 1].into_iter().find(|&regions| fits(regions))
}

/// See [`Arena::region`].
fn region(memory: usize, slot: usize, bytes: usize) -> Option<Region> {
    let regions = regions(memory as u64, bytes as u64)?;
    let turn = slot % regions;
    let begin = turn * (memory / regions / ALIGNMENT * ALIGNMENT);
    Some(Region { turn, bytes: begin..begin + bytes })
}

/// Bytes of the device that the arena would take for `slices` slices, the largest tile of which takes `largest`.
pub(in crate::engine::cuda) fn wanted_bytes(slices: usize, largest: u64, budget: u64, multiprocessors: usize) -> u64 {
    let enough = BYTES_PER_MULTIPROCESSOR.saturating_mul(multiprocessors as u64);
    let max = slices.next_power_of_two().min(SLOTS);
    let regions = regions(enough.min(budget), largest).unwrap_or(1).min(max);
    largest.saturating_mul(regions as u64)
}

/// Bytes of an image; of one with too many pixels more than there can be, so that its tile is cut.
fn image_bytes(pixels: usize, channels: usize, channel_bytes: usize) -> usize {
    if pixels > MAX_PIXELS {
        return usize::MAX;
    }
    pixels.saturating_mul(channels).saturating_mul(channel_bytes)
}

/// Bytes of the two halves for a tile of these axes: images are stored whole. Behind the output of a dense layer lie its
/// sums, in f32.
pub(in crate::engine::cuda) fn half_bytes(weights: &PackedWeights, axes: &Axes<AxisSizes>) -> [usize; 2] {
    let mut bytes = [0, 0];
    let mut half = 0;
    let mut need = |pixels: usize, channels: usize, size: usize| {
        bytes[half] = bytes[half].max(image_bytes(pixels, channels, size));
        half = 1 - half;
    };
    let mut channels = 0;
    for (index, &step) in STEPS[..HEAD].iter().enumerate() {
        channels = match step {
            Step::Convolution(0) => weights.first.outputs,
            Step::Convolution(i) => weights.convolutions[i - 1].outputs,
            _ => channels,
        };
        need(axes.output(index).product(), channels, ACTIVATION_BYTES);
    }
    for dense in &weights.dense {
        need(axes.patches(), dense.layer.outputs, ACTIVATION_BYTES + 4 * dense.splits());
    }
    bytes.map(|bytes| bytes.checked_next_multiple_of(ALIGNMENT).unwrap_or(usize::MAX))
}

/// Bytes of a region for a tile of these axes: tables and activations.
pub(in crate::engine::cuda) fn region_bytes(weights: &PackedWeights, axes: &Axes<AxisSizes>) -> usize {
    let [a, b] = half_bytes(weights, axes);
    let tables = TileTables::max_bytes(axes) + TileTables::max_list_bytes(axes);
    tables.next_multiple_of(ALIGNMENT).saturating_add(a).saturating_add(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Bytes;

    /// Slices of one size that have the same turn come after one another: only those have bytes in common.
    #[test]
    fn regions_of_other_turns_have_nothing_in_common() {
        for (memory, bytes, turns) in
            [(1000, 1001, 0), (1000, 1000, 1), (1200, 500, 2), (1600, 500, 2), (1600, 256, 4), (1 << 20, 300, 4)]
        {
            let regions: Vec<Region> = (0..SLOTS).filter_map(|slot| region(memory, slot, bytes)).collect();
            assert_eq!(regions.len(), if turns == 0 { 0 } else { SLOTS });
            for (slot, a) in regions.iter().enumerate() {
                assert_eq!((a.turn, a.bytes.len()), (slot % turns, bytes));
                assert!(a.bytes.end <= memory && a.bytes.start.is_multiple_of(ALIGNMENT));
                for b in &regions[..slot] {
                    assert_eq!(a.overlaps(b), a.turn == b.turn, "{a:?} {b:?}");
                }
            }
            assert!(regions.iter().all(|region| !region.overlaps(&Region::default())));
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
        let reservation = |min, wanted| Reservation { min, wanted, budget: Bytes { host: 0, device: 1000 } };
        for (bytes, wanted, min, more, first, again) in [
            (400, 400, 100, 400, true, true),
            (400, 400, 100, 500, false, true),
            (400, 400, 100, 900, false, false),
            (400, 400, 500, 500, false, false),
            // The device had no more when it was made, and may have now.
            (100, 400, 100, 400, false, true),
            // More than the budget is not kept.
            (1001, 1001, 100, 400, false, false),
        ] {
            let serves = |again| serves(bytes, wanted, reservation(min, more), again);
            assert_eq!((serves(false), serves(true)), (first, again), "{bytes} {min} {more}");
        }
    }

    /// Kernels number pixels with 32 bits: a tile with more of them fits no budget, so that it is cut.
    #[test]
    fn images_with_too_many_pixels_fit_nowhere() {
        assert_eq!(image_bytes(MAX_PIXELS, 16, 2), 32 * MAX_PIXELS);
        assert_eq!(image_bytes(MAX_PIXELS + 1, 16, 2), usize::MAX);
    }
}
