//! Initialisers: every struct of the interface begins its life here.

use std::ffi::c_void;
use std::ptr;

use super::constants::*;
use super::convert::voxel_type_in;
use super::guard::guard;
use super::model::patchmask_model;
use super::pointers::init_struct;
use super::types::*;
use crate::session::Options;
use crate::volume::{Extents, Strides};

/// Prepares `*out_volume` for a dense volume, x fastest: sets struct_size, the given fields, the
/// strides, slope 1 and intercept 0. Change fields afterwards as needed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_volume_init(
    out_volume: *mut patchmask_volume,
    struct_size: usize,
    data: *const c_void,
    voxel_type: i32,
    width: u64,
    height: u64,
    depth: u64,
) -> patchmask_status {
    guard(|| {
        let extents = Extents::new(width, height, depth, "volume")?;
        let voxel = voxel_type_in(voxel_type, "volume")?;
        let strides = Strides::dense(extents, voxel.size(), "volume")?;
        let volume = patchmask_volume {
            struct_size,
            data,
            voxel_type,
            width,
            height,
            depth,
            stride_x: strides.x as u64,
            stride_y: strides.y as u64,
            stride_z: strides.z as u64,
            slope: 1.0,
            intercept: 0.0,
            memory: PATCHMASK_MEMORY_HOST,
            stream: ptr::null_mut(),
            spacing_x: 0.0,
            spacing_y: 0.0,
        };
        // SAFETY: by contract of this function.
        unsafe { init_struct(out_volume, struct_size, "out_volume", &volume) }
    })
}

/// Prepares `*out_outputs` with no buffers: set those that are wanted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_outputs_init(
    out_outputs: *mut patchmask_outputs,
    struct_size: usize,
) -> patchmask_status {
    guard(|| {
        // SAFETY: numbers and pointers, zero and NULL; writable by contract of this function.
        unsafe { init_struct(out_outputs, struct_size, "out_outputs", &std::mem::zeroed()) }
    })
}

/// Fills `*out_options` from the model's metadata; with the documented defaults where it has none
/// or `model` is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_options_init(
    out_options: *mut patchmask_options,
    struct_size: usize,
    model: *const patchmask_model,
) -> patchmask_status {
    guard(|| {
        // SAFETY: NULL or live by contract.
        let model = unsafe { model.as_ref() };
        let defaults = Options::for_model(model.map(|m| &m.model));
        let options = patchmask_options::from(defaults);
        // SAFETY: by contract of this function.
        unsafe { init_struct(out_options, struct_size, "out_options", &options) }
    })
}

/// Prepares `*out_info` for patchmask_model_get_info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_info_init(
    out_info: *mut patchmask_model_info,
    struct_size: usize,
) -> patchmask_status {
    guard(|| {
        // SAFETY: numbers and pointers, zero and NULL; writable by contract of this function.
        unsafe { init_struct(out_info, struct_size, "out_info", &std::mem::zeroed()) }
    })
}

/// Prepares `*out_estimate` for patchmask_session_estimate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_estimate_init(
    out_estimate: *mut patchmask_estimate,
    struct_size: usize,
) -> patchmask_status {
    guard(|| {
        // SAFETY: numbers and pointers, zero and NULL; writable by contract of this function.
        unsafe { init_struct(out_estimate, struct_size, "out_estimate", &std::mem::zeroed()) }
    })
}

/// Prepares `*out_result` for patchmask_session_segment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_result_init(
    out_result: *mut patchmask_result,
    struct_size: usize,
) -> patchmask_status {
    guard(|| {
        // SAFETY: numbers and pointers, zero and NULL; writable by contract of this function.
        unsafe { init_struct(out_result, struct_size, "out_result", &std::mem::zeroed()) }
    })
}

impl From<Options> for patchmask_options {
    fn from(defaults: Options) -> Self {
        Self {
            struct_size: size_of::<Self>(),
            patch_size: defaults.patch_size,
            stride: defaults.stride,
            padding: PATCHMASK_PADDING_PATCH,
            interpolation: PATCHMASK_INTERPOLATION_NEAREST,
            window_low: defaults.window.0,
            window_high: defaults.window.1,
            mean: defaults.mean,
            std: defaults.std,
            equalize: i32::from(defaults.equalize),
            sharing: i32::from(defaults.sharing),
            crop_x0: 0,
            crop_y0: 0,
            crop_x1: 0,
            crop_y1: 0,
            lesion_class: defaults.lesion_class,
            device: PATCHMASK_DEVICE_AUTO,
            cuda_devices: 0,
            threads: 0,
            memory_budget: 0,
            progress: None,
            progress_user_data: ptr::null_mut(),
            log: None,
            log_user_data: ptr::null_mut(),
            pixel_mm: defaults.pixel_mm.unwrap_or(0.0),
            threshold: defaults.threshold.unwrap_or(0.0),
            resample: i32::from(defaults.resample),
            body: i32::from(defaults.body),
        }
    }
}
