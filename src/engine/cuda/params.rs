//! What a kernel is handed: the structs of kernels/params.h, field by field, and the numbers of
//! kernels/shared_bytes.h. A test compares sizes and offsets.
//!
//! Addresses are of device memory.

use crate::resampling::MAX_TAPS;

/// Channels are padded with zeros to a multiple of this.
pub(super) const CHANNEL_GRAIN: usize = 16;
/// Values of each axis in a subtile.
pub(super) const SUBTILE_ROWS: usize = 8;
pub(super) const SUBTILE_COLUMNS: usize = 16;
/// Most distinct inputs of a subtile along each axis.
pub(super) const SUBTILE_INPUT_ROWS: usize = 12;
pub(super) const SUBTILE_INPUT_COLUMNS: usize = 22;
/// A tap of a section that reads zeros.
pub(super) const SECTION_ZERO: u8 = 255;
/// The source of an input value that is black.
pub(super) const BLACK: i32 = i32::MIN;
/// Bit of the overflow word that a kernel sets when it times out waiting for data.
pub(super) const TIMEOUT: u32 = 31;
/// Levels of the histogram.
pub(super) const LEVELS: usize = 256;
/// Patches, outputs and input channels that a block of `gemm` takes at a time; outputs whose weights
/// lie together.
pub(super) const GEMM_PATCHES: usize = 128;
pub(super) const GEMM_OUTPUTS: usize = 256;
pub(super) const GEMM_CHUNK: usize = 32;
pub(super) const GEMM_PACKED: usize = 64;
/// Outputs of a thread of `split_k_reduce`.
pub(super) const SPLIT_K_OUTPUTS: usize = 8;
/// Threads of a block.
pub(super) const THREADS: u32 = 128;
pub(super) const GEMM_THREADS: u32 = 256;
pub(super) const HISTOGRAM_THREADS: u32 = 256;
pub(super) const WGMMA_THREADS: u32 = 384;
/// Tiles that a block of the Hopper convolutions takes at a time, and input channels.
pub(super) const WGMMA_SUBTILES: usize = 2;
pub(super) const WGMMA_CHUNK: usize = 64;

/// Dynamic shared memory of each kernel, in bytes.
pub(super) const GEMM_SHARED_BYTES: u32 = 98304;
pub(super) const FIRST_SHARED_BYTES: u32 = 5480;
pub(super) const HISTOGRAM_SHARED_BYTES: u32 = 8200;
pub(super) const EQUALIZE_SHARED_BYTES: u32 = 2048;

const HALO_PIXELS: usize = SUBTILE_INPUT_ROWS * SUBTILE_INPUT_COLUMNS;

/// The same of the Hopper convolution that makes `outputs`.
pub(super) const fn wgmma_shared_bytes(outputs: usize) -> u32 {
    const ALIGNMENT: usize = 1024;
    const ITEMS: usize = 4;
    let stages = if outputs > 64 { 5 } else { 8 };
    let weights = stages * outputs * WGMMA_CHUNK * 2;
    let halo = ((HALO_PIXELS + 1) * WGMMA_CHUNK * 2).next_multiple_of(ALIGNMENT);
    let halos = WGMMA_SUBTILES * 2 * halo;
    let barriers = (stages + WGMMA_SUBTILES * 2 + ITEMS) * 16;
    let sources = WGMMA_SUBTILES * HALO_PIXELS * 4;
    let wanted = SUBTILE_ROWS * SUBTILE_COLUMNS / 8;
    let item = WGMMA_SUBTILES * (size_of::<RowSection>() + size_of::<ColumnSection>() + wanted) + 4;
    (ALIGNMENT + weights + halos + barriers + ITEMS * item + sources) as u32
}

/// Dynamic shared memory of the convolution that keeps `chunk` input channels and makes `outputs`.
pub(super) const fn conv_shared_bytes(chunk: usize, outputs: usize) -> u32 {
    let stages = if chunk * outputs > 64 * 64 { 2 } else { 3 };
    let weights = stages * outputs * chunk * 2;
    let halo = (HALO_PIXELS + 1) * chunk * 2;
    (weights + 2 * halo + HALO_PIXELS * 4) as u32
}

/// Consecutive values of an axis, and where their taps lie among the section's distinct inputs.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AxisSection<const VALUES: usize, const INPUTS: usize> {
    pub first: i32,
    pub count: i32,
    pub inputs: i32,
    pub input: [i32; INPUTS],
    pub tap: [[u8; 4]; VALUES],
}

pub(super) type RowSection = AxisSection<SUBTILE_ROWS, SUBTILE_INPUT_ROWS>;
pub(super) type ColumnSection = AxisSection<SUBTILE_COLUMNS, SUBTILE_INPUT_COLUMNS>;

/// Structs of kernels/params.h, where their fields are explained, and for the test where each field lies.
macro_rules! mirrored {
    ($($(#[$doc:meta])* $name:ident { $($($field:ident),+: $type:ty;)+ })+) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub(super) struct $name { $($(pub $field: $type,)+)+ }
        )+

        #[cfg(test)]
        const MIRRORED: &[(&str, usize, &[Field])] = &[$(
            (stringify!($name), size_of::<$name>(), &[$($(
                (stringify!($field), std::mem::offset_of!($name, $field), size_of::<$type>()),
            )+)+]),
        )+];
    };
}

/// Name, offset and size.
#[cfg(test)]
type Field = (&'static str, usize, usize);

mirrored! {
    /// A subtile of which some pixels are wanted.
    Subtile {
        row_section, column_section: i32;
        wanted: [u32; SUBTILE_ROWS * SUBTILE_COLUMNS / 32];
    }
    /// One slice of voxels.
    Voxels {
        data: u64;
        stride_x, stride_y: i64;
        voxel_type, width, height, unused: i32;
        slope, intercept, low, high: f64;
    }
    /// The voxels that a pixel of an axis depends on.
    AxisTaps {
        first, count: i32;
        weights: [f64; MAX_TAPS];
    }
    ResampleParams {
        voxels: Voxels;
        rows, columns, output, nonfinite, cancel: u64;
        width, height: i32;
    }
    HistogramParams {
        voxels: Voxels;
        counts, nonfinite, cancel: u64;
    }
    EqualizeParams {
        counts, table, cancel: u64;
    }
    /// Where a band of input rows begins in the crop.
    Start {
        row, column: i32;
    }
    FirstParams {
        voxels: Voxels;
        table, output, weights, bias, row_taps, column_taps, row_sources, column_sources, starts, subtiles, cancel, overflow: u64;
        rows, columns, channels, band_rows, crop_x, crop_y, crop_width, crop_height, layer, unused: i32;
    }
    ConvParams {
        input, output, weights, bias, row_sections, column_sections, subtiles, cancel, overflow: u64;
        column_section_count, input_columns, input_channels, columns, output_channels, layer, subtile_count, unused: i32;
    }
    MaxPoolParams {
        input, output, row_taps, column_taps, subtiles, cancel: u64;
        rows, columns, input_columns, channels: i32;
    }
    GemmParams {
        input, sums, weights, row_taps, column_taps, pixels, cancel: u64;
        patches, columns, side, split_rows, input_columns, input_channels, output_channels, unused: i32;
    }
    SplitKParams {
        sums, bias, output, cancel, overflow: u64;
        patches, output_channels, splits, layer: i32;
    }
    ScoresParams {
        sums, bias, grid_indices, logits, probabilities, cancel, overflow: u64;
        patches, classes, padded_classes, splits, layer, unused: i32;
    }
    /// The patch centres whose classes a pixel of an axis takes.
    AxisSample {
        low, high: i32;
        weight: f32;
    }
    /// One output on the voxel grid; address 0 where it is not wanted.
    Plane {
        data: u64;
        stride_x, stride_y: i64;
    }
    WriteMaskParams {
        logits, probabilities, rows, columns, roi: u64;
        mask, probability, coverage: Plane;
        cancel: u64;
        width, height, grid_columns, classes, lesion_class, linear: i32;
        threshold: f32;
        unused: i32;
    }
}

/// Bytes of structs of the above or of integers: none of them has padding.
pub(super) fn bytes_of<T: Copy>(values: &[T]) -> &[u8] {
    // SAFETY: as said.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write;
    use std::mem::offset_of;
    use std::process::Command;

    use super::*;
    use crate::volume::VoxelType;

    /// The fields of a section of either axis.
    fn section<const VALUES: usize, const INPUTS: usize>() -> [Field; 5] {
        type Section<const V: usize, const I: usize> = AxisSection<V, I>;
        [
            ("first", offset_of!(Section<VALUES, INPUTS>, first), 4),
            ("count", offset_of!(Section<VALUES, INPUTS>, count), 4),
            ("inputs", offset_of!(Section<VALUES, INPUTS>, inputs), 4),
            ("input", offset_of!(Section<VALUES, INPUTS>, input), INPUTS * 4),
            ("tap", offset_of!(Section<VALUES, INPUTS>, tap), VALUES * 4),
        ]
    }

    /// What is known here, and a C++ program that prints the same of kernels/params.h. The fields fill their struct without a
    /// gap, so that a field which is there only has no place to hide.
    #[test]
    fn structs_and_numbers_are_those_of_the_kernels() {
        let rows = section::<SUBTILE_ROWS, SUBTILE_INPUT_ROWS>();
        let columns = section::<SUBTILE_COLUMNS, SUBTILE_INPUT_COLUMNS>();
        let sections = [
            ("RowSection", size_of::<RowSection>(), &rows[..]),
            ("ColumnSection", size_of::<ColumnSection>(), &columns[..]),
        ];
        let (mut layout, mut program) = (BTreeMap::new(), String::new());
        let mut number = |expression: &str, value: usize| {
            layout.insert(expression.to_owned(), value);
            writeln!(program, "print(\"{expression}\", {expression});").unwrap();
        };
        for (name, size, fields) in sections.iter().chain(MIRRORED) {
            number(&format!("sizeof({name})"), *size);
            let mut end = 0;
            for (field, offset, size) in *fields {
                assert_eq!(end, *offset, "a gap before {name}::{field}");
                number(&format!("offsetof({name}, {field})"), *offset);
                number(&format!("sizeof({name}::{field})"), *size);
                end += size;
            }
            assert_eq!(end, *size, "a gap at the end of {name}");
        }
        number("CHANNEL_GRAIN", CHANNEL_GRAIN);
        number("SUBTILE_ROWS", SUBTILE_ROWS);
        number("SUBTILE_COLUMNS", SUBTILE_COLUMNS);
        number("SUBTILE_INPUT_ROWS", SUBTILE_INPUT_ROWS);
        number("SUBTILE_INPUT_COLUMNS", SUBTILE_INPUT_COLUMNS);
        number("SECTION_ZERO", usize::from(SECTION_ZERO));
        number("LEVELS", LEVELS);
        number("MAX_TAPS", MAX_TAPS);
        number("TIMEOUT", TIMEOUT as usize);
        number("GEMM_PATCHES", GEMM_PATCHES);
        number("GEMM_OUTPUTS", GEMM_OUTPUTS);
        number("GEMM_CHUNK", GEMM_CHUNK);
        number("GEMM_PACKED", GEMM_PACKED);
        number("GEMM_THREADS", GEMM_THREADS as usize);
        number("SPLIT_K_OUTPUTS", SPLIT_K_OUTPUTS);
        number("HISTOGRAM_THREADS", HISTOGRAM_THREADS as usize);
        for name in ["FIRST", "CONV", "MAX_POOL", "SPLIT_K", "SCORES", "WRITE_MASK", "RESAMPLE"] {
            number(&format!("{name}_THREADS"), THREADS as usize);
        }
        number("WGMMA_THREADS", WGMMA_THREADS as usize);
        number("WGMMA_SUBTILES", WGMMA_SUBTILES);
        number("WGMMA_CHUNK", WGMMA_CHUNK);
        number("GEMM_SHARED_BYTES", GEMM_SHARED_BYTES as usize);
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
        use VoxelType::*;
        for voxel in [I8, U8, I16, U16, I32, F32, F64] {
            number(&format!("{voxel:?}"), voxel as usize);
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
