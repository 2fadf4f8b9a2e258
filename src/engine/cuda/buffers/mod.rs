//! Device memory of a pipeline: the arena for activations, and the buffers of the slices on their way.

mod arena;
mod slots;

pub(super) use arena::{
    ACTIVATION_BYTES, ALIGNMENT, Arena, MAX_PIXELS, Region, SLOTS, half_bytes, region_bytes, wanted_bytes,
};
pub(super) use slots::{BufferLayout, Buffers, Mirrored, Slot, of_each_slot, write_axes};
