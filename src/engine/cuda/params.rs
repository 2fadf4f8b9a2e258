//! What a kernel is handed: the structs of kernels/params.h, field by field, and the numbers of
//! kernels/shared_bytes.h. A test compares sizes and offsets.
//!
//! Addresses are of device memory.

use crate::volume::VoxelType;

/// Channels are padded with zeros to a multiple of this.
pub(super) const CHANNEL_GRAIN: usize = 16;
/// Values of each axis in a tile.
pub(super) const TILE_ROWS: usize = 8;
pub(super) const TILE_COLUMNS: usize = 16;
/// Most distinct inputs of a tile along each axis.
pub(super) const TILE_INPUT_ROWS: usize = 12;
pub(super) const TILE_INPUT_COLUMNS: usize = 22;
/// A tap of a block that reads zeros.
pub(super) const BLOCK_ZERO: u8 = 255;
/// The source of an input value that is black.
pub(super) const BLACK: i32 = i32::MIN;
/// Levels of the histogram.
pub(super) const LEVELS: usize = 256;
/// Lattice points, outputs and input channels that a block of the dense kernels takes at a time.
pub(super) const DENSE_POINTS: usize = 64;
pub(super) const DENSE_OUTPUTS: usize = 64;
pub(super) const DENSE_CHUNK: usize = 64;
/// Threads of a block.
pub(super) const THREADS: u32 = 128;
pub(super) const HISTOGRAM_THREADS: u32 = 256;

/// Dynamic shared memory of each kernel, in bytes.
pub(super) const DENSE_SHARED_BYTES: u32 = 49152;
pub(super) const FIRST_SHARED_BYTES: u32 = 5536;
pub(super) const HISTOGRAM_SHARED_BYTES: u32 = 8200;
pub(super) const EQUALIZE_SHARED_BYTES: u32 = 2048;

/// Dynamic shared memory of the convolution that keeps `chunk` input channels and makes `outputs`.
pub(super) const fn conv_shared_bytes(chunk: usize, outputs: usize) -> u32 {
    const HALO_PIXELS: usize = TILE_INPUT_ROWS * TILE_INPUT_COLUMNS;
    let stages = if chunk * outputs > 64 * 64 { 2 } else { 3 };
    let weights = stages * outputs * chunk * 2;
    let halo = (HALO_PIXELS + 1) * chunk * 2;
    (weights + 2 * halo + HALO_PIXELS * 4) as u32
}

/// Consecutive values of an axis, and where their taps lie among the block's distinct inputs.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AxisBlock<const VALUES: usize, const INPUTS: usize> {
    pub first: i32,
    pub count: i32,
    pub inputs: i32,
    pub input: [i32; INPUTS],
    pub tap: [[u8; 4]; VALUES],
}

pub(super) type RowBlock = AxisBlock<TILE_ROWS, TILE_INPUT_ROWS>;
pub(super) type ColumnBlock = AxisBlock<TILE_COLUMNS, TILE_INPUT_COLUMNS>;

/// A tile of which some pixels are wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub row_block: i32,
    pub column_block: i32,
    pub wanted: [u32; TILE_ROWS * TILE_COLUMNS / 32],
}

/// One slice of voxels.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Voxels {
    pub data: u64,
    pub stride_x: i64,
    pub stride_y: i64,
    pub voxel_type: i32,
    pub width: i32,
    pub height: i32,
    pub unused: i32,
    pub slope: f64,
    pub intercept: f64,
    pub low: f64,
    pub high: f64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct HistogramParams {
    pub voxels: Voxels,
    pub counts: u64,
    pub nonfinite: u64,
    pub cancel: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct EqualizeParams {
    pub counts: u64,
    pub table: u64,
    pub cancel: u64,
}

/// Where a band of input rows begins in the crop.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Start {
    pub row: i32,
    pub column: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct FirstParams {
    pub voxels: Voxels,
    pub table: u64,
    pub output: u64,
    pub weights: u64,
    pub bias: u64,
    pub row_taps: u64,
    pub column_taps: u64,
    pub row_sources: u64,
    pub column_sources: u64,
    pub starts: u64,
    pub tiles: u64,
    pub cancel: u64,
    pub overflow: u64,
    pub rows: i32,
    pub columns: i32,
    pub channels: i32,
    pub band_rows: i32,
    pub crop_x: i32,
    pub crop_y: i32,
    pub crop_width: i32,
    pub crop_height: i32,
    pub layer: i32,
    pub unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ConvParams {
    pub input: u64,
    pub output: u64,
    pub weights: u64,
    pub bias: u64,
    pub row_blocks: u64,
    pub column_blocks: u64,
    pub tiles: u64,
    pub cancel: u64,
    pub overflow: u64,
    pub column_block_count: i32,
    pub input_columns: i32,
    pub input_channels: i32,
    pub columns: i32,
    pub output_channels: i32,
    pub layer: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct MaxParams {
    pub input: u64,
    pub output: u64,
    pub row_taps: u64,
    pub column_taps: u64,
    pub tiles: u64,
    pub cancel: u64,
    pub rows: i32,
    pub columns: i32,
    pub input_columns: i32,
    pub channels: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct DenseParams {
    pub input: u64,
    pub output: u64,
    pub weights: u64,
    pub bias: u64,
    pub row_taps: u64,
    pub column_taps: u64,
    pub pixels: u64,
    pub cancel: u64,
    pub overflow: u64,
    pub points: i32,
    pub columns: i32,
    pub side: i32,
    pub input_columns: i32,
    pub input_channels: i32,
    pub output_channels: i32,
    pub layer: i32,
    pub unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ScoresParams {
    pub tile_logits: u64,
    pub lattice_points: u64,
    pub logits: u64,
    pub probabilities: u64,
    pub cancel: u64,
    pub overflow: u64,
    pub points: i32,
    pub classes: i32,
    pub padded_classes: i32,
    pub layer: i32,
}

/// The centres whose classes a pixel of an axis takes.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AxisFill {
    pub low: i32,
    pub high: i32,
    pub weight: f32,
}

/// One output on the voxel grid; address 0 where it is not wanted.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Plane {
    pub data: u64,
    pub stride_x: i64,
    pub stride_y: i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct PaintParams {
    pub logits: u64,
    pub probabilities: u64,
    pub rows: u64,
    pub columns: u64,
    pub roi: u64,
    pub mask: Plane,
    pub probability: Plane,
    pub coverage: Plane,
    pub cancel: u64,
    pub width: i32,
    pub height: i32,
    pub lattice_columns: i32,
    pub classes: i32,
    pub lesion_class: i32,
    pub linear: i32,
}

/// The number that the kernels know a voxel type by.
pub(super) fn voxel_number(voxel: VoxelType) -> i32 {
    match voxel {
        VoxelType::I8 => 1,
        VoxelType::U8 => 2,
        VoxelType::I16 => 3,
        VoxelType::U16 => 4,
        VoxelType::I32 => 5,
        VoxelType::F32 => 6,
        VoxelType::F64 => 7,
    }
}
