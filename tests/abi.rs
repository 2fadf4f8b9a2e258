//! The memory layout of the C structs as Rust has it. The numbers are those of `tests/c/layout.c`, which
//! asserts them for C.

use std::collections::BTreeMap;
use std::mem::{offset_of, size_of};

use patchmask::ffi::*;

/// "struct.field" -> offset, "struct" -> size.
fn of_rust() -> BTreeMap<String, usize> {
    let mut layout = BTreeMap::new();
    macro_rules! layout {
        ($($name:ident { $($field:ident),* $(,)? })*) => {
            $(
                layout.insert(stringify!($name).to_owned(), size_of::<$name>());
                $(
                    let field = concat!(stringify!($name), ".", stringify!($field));
                    layout.insert(field.to_owned(), offset_of!($name, $field));
                )*
            )*
        };
    }
    layout! {
        patchmask_volume {
            struct_size,
            data,
            voxel_type,
            width,
            height,
            depth,
            stride_x,
            stride_y,
            stride_z,
            slope,
            intercept,
            memory,
            stream,
        }
        patchmask_outputs {
            struct_size,
            mask,
            mask_stride_x,
            mask_stride_y,
            mask_stride_z,
            probability,
            probability_stride_x,
            probability_stride_y,
            probability_stride_z,
            coverage,
            coverage_stride_x,
            coverage_stride_y,
            coverage_stride_z,
            logits,
            logits_stride_class,
            logits_stride_x,
            logits_stride_y,
            logits_stride_z,
            memory,
            stream,
        }
        patchmask_options {
            struct_size,
            patch_size,
            stride,
            padding,
            interpolation,
            window_low,
            window_high,
            mean,
            std,
            equalize,
            sharing,
            crop_x0,
            crop_y0,
            crop_x1,
            crop_y1,
            lesion_class,
            device,
            cuda_devices,
            threads,
            memory_budget,
            progress,
            progress_user_data,
            log,
            log_user_data,
        }
        patchmask_model_info {
            struct_size,
            input_channels,
            classes,
            dense_layers,
            lesion_class,
            patch_size,
            stride,
            parameters,
            sha256,
        }
        patchmask_estimate {
            struct_size,
            grid_width,
            grid_height,
            classes,
            patches,
            macs,
            macs_unshared,
            peak_bytes,
            tiles,
            device_peak_bytes,
        }
        patchmask_result {
            struct_size,
            patches,
            macs,
            macs_unshared,
            peak_bytes,
            nonfinite_voxels,
            tiles,
            engine,
            plan_seconds,
            intensity_seconds,
            network_seconds,
            mask_seconds,
            segment_seconds,
            device_peak_bytes,
        }
    }
    layout
}

/// The lines `AT(struct, field, offset);` and `SIZE(struct, bytes);` of the C test.
fn of_c() -> BTreeMap<String, usize> {
    let assertions = include_str!("c/layout.c").lines().filter_map(|line| {
        let arguments = line.strip_prefix("AT(").or(line.strip_prefix("SIZE("))?;
        let words: Vec<&str> = arguments.strip_suffix(");")?.split(", ").collect();
        let (number, name) = words.split_last()?;
        Some((name.join("."), number.parse().ok()?))
    });
    assertions.collect()
}

#[test]
fn structs_have_the_layout_that_c_asserts() {
    let (rust, c) = (of_rust(), of_c());
    assert!(c.len() > 80, "{} assertions read from layout.c", c.len());
    for (name, number) in &c {
        assert_eq!(rust.get(name), Some(number), "{name}");
    }
    assert_eq!(rust.len(), c.len());
}
