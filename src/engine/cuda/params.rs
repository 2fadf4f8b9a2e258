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
/// Bit of the overflow word that a kernel sets which waited in vain.
pub(super) const TIMEOUT: u32 = 31;
/// Levels of the histogram.
pub(super) const LEVELS: usize = 256;
/// Lattice points, outputs and input channels that a block of `dense_products` takes at a time; outputs whose weights
/// lie together.
pub(super) const DENSE_POINTS: usize = 128;
pub(super) const DENSE_OUTPUTS: usize = 256;
pub(super) const DENSE_CHUNK: usize = 32;
pub(super) const DENSE_PACKED: usize = 64;
/// Outputs of a thread of `dense_sums`.
pub(super) const SUMS_OUTPUTS: usize = 8;
/// Threads of a block.
pub(super) const THREADS: u32 = 128;
pub(super) const DENSE_THREADS: u32 = 256;
pub(super) const HISTOGRAM_THREADS: u32 = 256;
pub(super) const WGMMA_THREADS: u32 = 384;
/// Tiles that a block of the Hopper convolutions takes at a time, and input channels.
pub(super) const WGMMA_TILES: usize = 2;
pub(super) const WGMMA_CHUNK: usize = 64;

/// Dynamic shared memory of each kernel, in bytes.
pub(super) const DENSE_SHARED_BYTES: u32 = 98304;
pub(super) const FIRST_SHARED_BYTES: u32 = 5480;
pub(super) const HISTOGRAM_SHARED_BYTES: u32 = 8200;
pub(super) const EQUALIZE_SHARED_BYTES: u32 = 2048;

const HALO_PIXELS: usize = TILE_INPUT_ROWS * TILE_INPUT_COLUMNS;

/// The same of the Hopper convolution that makes `outputs`.
pub(super) const fn wgmma_shared_bytes(outputs: usize) -> u32 {
    const ALIGNMENT: usize = 1024;
    const ITEMS: usize = 4;
    let stages = if outputs > 64 { 5 } else { 8 };
    let weights = stages * outputs * WGMMA_CHUNK * 2;
    let halo = ((HALO_PIXELS + 1) * WGMMA_CHUNK * 2).next_multiple_of(ALIGNMENT);
    let halos = WGMMA_TILES * 2 * halo;
    let barriers = (stages + WGMMA_TILES * 2 + ITEMS) * 16;
    let sources = WGMMA_TILES * HALO_PIXELS * 4;
    let wanted = TILE_ROWS * TILE_COLUMNS / 8;
    let item = WGMMA_TILES * (size_of::<RowBlock>() + size_of::<ColumnBlock>() + wanted) + 4;
    (ALIGNMENT + weights + halos + barriers + ITEMS * item + sources) as u32
}

/// Dynamic shared memory of the convolution that keeps `chunk` input channels and makes `outputs`.
pub(super) const fn conv_shared_bytes(chunk: usize, outputs: usize) -> u32 {
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
    pub tile_count: i32,
    pub unused: i32,
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
    pub sums: u64,
    pub weights: u64,
    pub row_taps: u64,
    pub column_taps: u64,
    pub pixels: u64,
    pub cancel: u64,
    pub points: i32,
    pub columns: i32,
    pub side: i32,
    pub part_rows: i32,
    pub input_columns: i32,
    pub input_channels: i32,
    pub output_channels: i32,
    pub unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SumsParams {
    pub sums: u64,
    pub bias: u64,
    pub output: u64,
    pub cancel: u64,
    pub overflow: u64,
    pub points: i32,
    pub output_channels: i32,
    pub parts: i32,
    pub layer: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ScoresParams {
    pub sums: u64,
    pub bias: u64,
    pub lattice_points: u64,
    pub logits: u64,
    pub probabilities: u64,
    pub cancel: u64,
    pub overflow: u64,
    pub points: i32,
    pub classes: i32,
    pub padded_classes: i32,
    pub parts: i32,
    pub layer: i32,
    pub unused: i32,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;
    use std::mem::offset_of;
    use std::process::Command;

    use super::*;

    /// The size of a field.
    fn size_of_field<S, F>(_: impl Fn(&S) -> &F) -> usize {
        size_of::<F>()
    }

    /// "struct.field" -> offset and size, "struct" -> size; and a C++ program that prints the same of kernels/params.h.
    /// The fields here fill their struct without a gap, so that a field which is there only has no place to hide.
    macro_rules! layout {
        ($($name:ty as $c_name:literal { $($field:ident as $c_field:ident),* $(,)? })*) => {{
            let mut layout = BTreeMap::new();
            let mut program = String::new();
            $(
                layout.insert($c_name.to_owned(), size_of::<$name>());
                writeln!(program, "print(\"{0}\", sizeof({0}));", $c_name).unwrap();
                let mut end = 0;
                $(
                    let field = concat!($c_name, "::", stringify!($c_field));
                    assert_eq!(end, offset_of!($name, $field), "a gap before {field}");
                    let size = size_of_field(|of: &$name| &of.$field);
                    end += size;
                    writeln!(program, "print(\"offset of {field}\", offsetof({}, {}));", $c_name, stringify!($c_field))
                        .unwrap();
                    writeln!(program, "print(\"size of {field}\", sizeof({field}));").unwrap();
                    layout.insert(format!("offset of {field}"), offset_of!($name, $field));
                    layout.insert(format!("size of {field}"), size);
                )*
                assert_eq!(end, size_of::<$name>(), "a gap at the end of {}", $c_name);
            )*
            (layout, program)
        }};
    }

    #[test]
    fn structs_and_numbers_are_those_of_the_kernels() {
        let (mut layout, mut program) = layout! {
            RowBlock as "RowBlock" { first as first, count as count, inputs as inputs, input as input, tap as tap }
            ColumnBlock as "ColumnBlock" { first as first, count as count, inputs as inputs, input as input, tap as tap }
            Tile as "Tile" { row_block as row_block, column_block as column_block, wanted as wanted }
            Voxels as "Voxels" {
                data as data, stride_x as stride_x, stride_y as stride_y, voxel_type as type, width as width,
                height as height, unused as unused, slope as slope, intercept as intercept, low as low, high as high,
            }
            HistogramParams as "HistogramParams" {
                voxels as voxels, counts as counts, nonfinite as nonfinite, cancel as cancel,
            }
            EqualizeParams as "EqualizeParams" { counts as counts, table as table, cancel as cancel }
            Start as "Start" { row as row, column as column }
            FirstParams as "FirstParams" {
                voxels as voxels, table as table, output as output, weights as weights, bias as bias,
                row_taps as row_taps, column_taps as column_taps, row_sources as row_sources,
                column_sources as column_sources, starts as starts, tiles as tiles, cancel as cancel,
                overflow as overflow, rows as rows, columns as columns, channels as channels, band_rows as band_rows,
                crop_x as crop_x, crop_y as crop_y, crop_width as crop_width, crop_height as crop_height,
                layer as layer, unused as unused,
            }
            ConvParams as "ConvParams" {
                input as input, output as output, weights as weights, bias as bias, row_blocks as row_blocks,
                column_blocks as column_blocks, tiles as tiles, cancel as cancel, overflow as overflow,
                column_block_count as column_block_count, input_columns as input_columns,
                input_channels as input_channels, columns as columns, output_channels as output_channels,
                layer as layer, tile_count as tile_count, unused as unused,
            }
            MaxParams as "MaxParams" {
                input as input, output as output, row_taps as row_taps, column_taps as column_taps, tiles as tiles,
                cancel as cancel, rows as rows, columns as columns, input_columns as input_columns,
                channels as channels,
            }
            DenseParams as "DenseParams" {
                input as input, sums as sums, weights as weights, row_taps as row_taps, column_taps as column_taps,
                pixels as pixels, cancel as cancel, points as points, columns as columns, side as side,
                part_rows as part_rows, input_columns as input_columns, input_channels as input_channels,
                output_channels as output_channels, unused as unused,
            }
            SumsParams as "SumsParams" {
                sums as sums, bias as bias, output as output, cancel as cancel, overflow as overflow, points as points,
                output_channels as output_channels, parts as parts, layer as layer,
            }
            ScoresParams as "ScoresParams" {
                sums as sums, bias as bias, lattice_points as lattice_points, logits as logits,
                probabilities as probabilities, cancel as cancel, overflow as overflow, points as points,
                classes as classes, padded_classes as padded_classes, parts as parts, layer as layer,
                unused as unused,
            }
            AxisFill as "AxisFill" { low as low, high as high, weight as weight }
            Plane as "Plane" { data as data, stride_x as stride_x, stride_y as stride_y }
            PaintParams as "PaintParams" {
                logits as logits, probabilities as probabilities, rows as rows, columns as columns, roi as roi,
                mask as mask, probability as probability, coverage as coverage, cancel as cancel, width as width,
                height as height, lattice_columns as lattice_columns, classes as classes,
                lesion_class as lesion_class, linear as linear,
            }
        };
        let mut number = |expression: &str, value: usize| {
            layout.insert(expression.to_owned(), value);
            writeln!(program, "print(\"{expression}\", {expression});").unwrap();
        };
        number("CHANNEL_GRAIN", CHANNEL_GRAIN);
        number("TILE_ROWS", TILE_ROWS);
        number("TILE_COLUMNS", TILE_COLUMNS);
        number("TILE_INPUT_ROWS", TILE_INPUT_ROWS);
        number("TILE_INPUT_COLUMNS", TILE_INPUT_COLUMNS);
        number("BLOCK_ZERO", usize::from(BLOCK_ZERO));
        number("LEVELS", LEVELS);
        number("TIMEOUT", TIMEOUT as usize);
        number("DENSE_POINTS", DENSE_POINTS);
        number("DENSE_OUTPUTS", DENSE_OUTPUTS);
        number("DENSE_CHUNK", DENSE_CHUNK);
        number("DENSE_PACKED", DENSE_PACKED);
        number("DENSE_THREADS", DENSE_THREADS as usize);
        number("SUMS_OUTPUTS", SUMS_OUTPUTS);
        number("HISTOGRAM_THREADS", HISTOGRAM_THREADS as usize);
        for name in ["FIRST", "CONV", "MAX", "SUMS", "SCORES", "PAINT"] {
            number(&format!("{name}_THREADS"), THREADS as usize);
        }
        number("WGMMA_THREADS", WGMMA_THREADS as usize);
        number("WGMMA_TILES", WGMMA_TILES);
        number("WGMMA_CHUNK", WGMMA_CHUNK);
        number("DENSE_SHARED_BYTES", DENSE_SHARED_BYTES as usize);
        number("FIRST_SHARED_BYTES", FIRST_SHARED_BYTES as usize);
        number("HISTOGRAM_SHARED_BYTES", HISTOGRAM_SHARED_BYTES as usize);
        number("EQUALIZE_SHARED_BYTES", EQUALIZE_SHARED_BYTES as usize);
        for outputs in [64, 128] {
            let bytes = wgmma_shared_bytes(outputs) as usize;
            number(&format!("wgmma_shared_bytes({outputs})"), bytes);
        }
        for chunk in [16, 32, 64] {
            for outputs in [64, 128] {
                let bytes = conv_shared_bytes(chunk, outputs) as usize;
                number(&format!("conv_shared_bytes({chunk}, {outputs})"), bytes);
            }
        }
        for voxel in [
            (VoxelType::I8, "I8"),
            (VoxelType::U8, "U8"),
            (VoxelType::I16, "I16"),
            (VoxelType::U16, "U16"),
            (VoxelType::I32, "I32"),
            (VoxelType::F32, "F32"),
            (VoxelType::F64, "F64"),
        ] {
            number(voxel.1, voxel_number(voxel.0) as usize);
        }
        let Some(of_the_kernels) = run(&program) else {
            return;
        };
        assert_eq!(layout, of_the_kernels);
    }

    /// What the program prints; `None`, with the reason, where there is no C++ compiler.
    fn run(statements: &str) -> Option<BTreeMap<String, usize>> {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        let folder = std::env::temp_dir().join(format!("patchmask-params-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (source, program) = (folder.join("params.cc"), folder.join("params"));
        let text = format!(
            "#include <cstddef>\n#include <cstdio>\n#include \"params.h\"\n#include \"shared_bytes.h\"\n\
             static void print(const char* name, size_t value) {{ std::printf(\"%s = %zu\\n\", name, value); }}\n\
             int main() {{\n{statements}}}\n"
        );
        std::fs::write(&source, text).unwrap();
        let kernels = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        let compiled =
            Command::new(&compiler).args(["-std=c++17", "-I", kernels]).arg(&source).arg("-o").arg(&program).output();
        let printed = match compiled {
            Err(why) => {
                println!("SKIPPED: no C++ compiler ({compiler}: {why})");
                return None;
            }
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{errors}");
                Command::new(&program).output().unwrap().stdout
            }
        };
        std::fs::remove_dir_all(&folder).unwrap();
        let lines = String::from_utf8(printed).unwrap();
        let pairs = lines.lines().map(|line| line.split_once(" = ").unwrap());
        Some(pairs.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect())
    }
}
