//! Structs in and out: initialisers, `struct_size` checks, and conversion to the library's own types.

use std::ffi::c_void;
use std::ptr;

use super::constants::*;
use super::guard::guard;
use super::model::patchmask_model;
use super::types::*;
use crate::engine::DeviceChoice;
use crate::error::Error;
use crate::lattice::{Crop, Padding};
use crate::mask::Fill;
use crate::session::{Options, Outputs};
use crate::volume::{Extents, Strides, Volume, VolumeMut, VoxelType};

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
        check_init(out_volume, struct_size, "out_volume")?;
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
        };
        // SAFETY: checked above.
        unsafe { out_volume.write(volume) };
        Ok(())
    })
}

/// Prepares `*out_outputs` with no buffers: set those that are wanted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_outputs_init(
    out_outputs: *mut patchmask_outputs,
    struct_size: usize,
) -> patchmask_status {
    guard(|| init_zeroed(out_outputs, struct_size, "out_outputs"))
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
        check_init(out_options, struct_size, "out_options")?;
        // SAFETY: NULL or live by contract.
        let model = unsafe { model.as_ref() };
        let defaults = Options::for_model(model.map(|m| m.model.as_ref()));
        let options = patchmask_options {
            struct_size,
            patch_size: defaults.patch_size,
            stride: defaults.stride,
            padding: PATCHMASK_PADDING_PATCH,
            fill: PATCHMASK_FILL_NEAREST,
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
            device_index: 0,
            threads: 0,
            memory_budget: 0,
            progress: None,
            progress_user_data: ptr::null_mut(),
            log: None,
            log_user_data: ptr::null_mut(),
        };
        // SAFETY: checked above.
        unsafe { out_options.write(options) };
        Ok(())
    })
}

/// Prepares `*out_info` for patchmask_model_get_info.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_info_init(
    out_info: *mut patchmask_model_info,
    struct_size: usize,
) -> patchmask_status {
    guard(|| init_zeroed(out_info, struct_size, "out_info"))
}

/// Prepares `*out_estimate` for patchmask_session_estimate.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_estimate_init(
    out_estimate: *mut patchmask_estimate,
    struct_size: usize,
) -> patchmask_status {
    guard(|| init_zeroed(out_estimate, struct_size, "out_estimate"))
}

/// Prepares `*out_result` for patchmask_session_segment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_result_init(
    out_result: *mut patchmask_result,
    struct_size: usize,
) -> patchmask_status {
    guard(|| init_zeroed(out_result, struct_size, "out_result"))
}

/// Structs of plain numbers and nullable pointers whose first field is `struct_size`.
///
/// # Safety
/// `repr(C)`, first field `struct_size: usize`, all-zero bytes are a valid value.
unsafe trait Zeroable {}
// SAFETY: as the trait asks, see `types`.
unsafe impl Zeroable for patchmask_outputs {}
// SAFETY: as above.
unsafe impl Zeroable for patchmask_model_info {}
// SAFETY: as above.
unsafe impl Zeroable for patchmask_estimate {}
// SAFETY: as above.
unsafe impl Zeroable for patchmask_result {}

fn init_zeroed<T: Zeroable>(out: *mut T, struct_size: usize, name: &str) -> Result<(), Error> {
    check_init(out, struct_size, name)?;
    // SAFETY: writable for a whole T (checked), and the trait promises the layout.
    unsafe {
        out.write_bytes(0, 1);
        out.cast::<usize>().write(struct_size);
    }
    Ok(())
}

fn check_init<T>(out: *mut T, struct_size: usize, name: &str) -> Result<(), Error> {
    check_out(out, name)?;
    expect_size::<T>(struct_size, name, "pass sizeof of the struct")
}

/// An out pointer that is not NULL and aligned.
pub(super) fn check_out<T>(out: *mut T, name: &str) -> Result<(), Error> {
    if out.is_null() {
        return Err(invalid_null(name));
    }
    check_aligned(out, name)
}

fn check_aligned<T>(pointer: *const T, name: &str) -> Result<(), Error> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name} {pointer:p}: must be aligned to {} bytes",
        align_of::<T>()
    )))
}

pub(super) fn invalid_null(name: &str) -> Error {
    Error::invalid(format!("{name} is NULL: a valid pointer is needed"))
}

fn expect_size<T>(struct_size: usize, name: &str, remedy: &str) -> Result<(), Error> {
    if struct_size == size_of::<T>() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{name}: struct_size {struct_size}, but patchmask {} knows {}: {remedy}, with the header of \
         this version",
        env!("CARGO_PKG_VERSION"),
        size_of::<T>()
    )))
}

/// Borrows a handle or struct for the time of a call.
///
/// # Safety
/// NULL or valid for `'a`.
pub(super) unsafe fn borrow<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Error> {
    if !pointer.is_null() {
        check_aligned(pointer, name)?;
    }
    // SAFETY: NULL or valid by contract, aligned by the check.
    unsafe { pointer.as_ref() }.ok_or_else(|| invalid_null(name))
}

/// Checks a struct that an `_init` function must have prepared.
///
/// # Safety
/// NULL, or readable for its first field at least.
pub(super) unsafe fn check_struct_size<T>(
    pointer: *const T,
    name: &str,
    init: &str,
) -> Result<(), Error> {
    if pointer.is_null() {
        return Err(invalid_null(name));
    }
    check_aligned(pointer, name)?;
    // SAFETY: every struct of the interface starts with struct_size.
    let struct_size = unsafe { pointer.cast::<usize>().read() };
    expect_size::<T>(struct_size, name, &format!("initialise it with {init}"))
}

/// Copies the options in.
///
/// # Safety
/// NULL or a valid struct.
pub(super) unsafe fn options_in(
    options: *const patchmask_options,
) -> Result<patchmask_options, Error> {
    // SAFETY: by contract, and the size is checked before the whole is read.
    unsafe {
        check_struct_size(options, "options", "patchmask_options_init")?;
        Ok(options.read())
    }
}

/// The caller's volume as a checked view.
///
/// # Safety
/// NULL or a valid struct; its buffer is as large as extents and strides say, for `'a`.
pub(super) unsafe fn volume_in<'a>(
    volume: *const patchmask_volume,
    name: &'static str,
) -> Result<Volume<'a>, Error> {
    // SAFETY: by contract, and the size is checked before the fields are read.
    let raw = unsafe {
        check_struct_size(volume, name, "patchmask_volume_init")?;
        volume.read()
    };
    let extents = raw.extents_in(name)?;
    let voxel = voxel_type_in(raw.voxel_type, name)?;
    let strides = Strides::new(
        [raw.stride_x, raw.stride_y, raw.stride_z],
        extents,
        voxel.size(),
        name,
    )?;
    if raw.data.is_null() {
        return Err(invalid_null(&format!("{name}.data")));
    }
    // SAFETY: the buffer is as large as extents and strides say, by contract.
    unsafe {
        Volume::from_raw(
            raw.data.cast(),
            voxel,
            extents,
            strides,
            (raw.slope, raw.intercept),
            name,
        )
    }
}

/// The caller's output buffers, not yet checked against a volume.
///
/// # Safety
/// NULL or a valid struct; its buffers are valid for `'a`.
pub(super) unsafe fn outputs_in<'a>(
    outputs: *const patchmask_outputs,
) -> Result<Outputs<'a>, Error> {
    // SAFETY: by contract, and the size is checked before the fields are read.
    let raw = unsafe {
        check_struct_size(outputs, "outputs", "patchmask_outputs_init")?;
        outputs.read()
    };
    // SAFETY: the buffers are as large as extents and strides say, by contract.
    Ok(unsafe {
        Outputs {
            mask: VolumeMut::from_raw(
                raw.mask,
                [0, raw.mask_stride_x, raw.mask_stride_y, raw.mask_stride_z],
            ),
            probability: VolumeMut::from_raw(
                raw.probability,
                [
                    0,
                    raw.probability_stride_x,
                    raw.probability_stride_y,
                    raw.probability_stride_z,
                ],
            ),
            coverage: VolumeMut::from_raw(
                raw.coverage,
                [
                    0,
                    raw.coverage_stride_x,
                    raw.coverage_stride_y,
                    raw.coverage_stride_z,
                ],
            ),
            logits: VolumeMut::from_raw(
                raw.logits,
                [
                    raw.logits_stride_class,
                    raw.logits_stride_x,
                    raw.logits_stride_y,
                    raw.logits_stride_z,
                ],
            ),
        }
    })
}

impl patchmask_volume {
    pub(super) fn extents_in(&self, name: &str) -> Result<Extents, Error> {
        expect_size::<Self>(
            self.struct_size,
            name,
            "initialise it with patchmask_volume_init",
        )?;
        Extents::new(self.width, self.height, self.depth, name)
    }
}

impl patchmask_options {
    pub(super) fn to_options(self) -> Result<Options, Error> {
        let crop = [self.crop_x0, self.crop_y0, self.crop_x1, self.crop_y1];
        Ok(Options {
            patch_size: self.patch_size,
            stride: self.stride,
            padding: match self.padding {
                PATCHMASK_PADDING_PATCH => Padding::Patch,
                PATCHMASK_PADDING_IMAGE => Padding::Image,
                other => return Err(unknown("padding", other, "PATCHMASK_PADDING_*: 0 or 1")),
            },
            fill: match self.fill {
                PATCHMASK_FILL_NEAREST => Fill::Nearest,
                PATCHMASK_FILL_LINEAR => Fill::Linear,
                other => return Err(unknown("fill", other, "PATCHMASK_FILL_*: 0 or 1")),
            },
            window: (self.window_low, self.window_high),
            mean: self.mean,
            std: self.std,
            equalize: switch("equalize", self.equalize)?,
            sharing: switch("sharing", self.sharing)?,
            crop: (crop != [0; 4]).then_some(Crop {
                x0: self.crop_x0,
                y0: self.crop_y0,
                x1: self.crop_x1,
                y1: self.crop_y1,
            }),
            lesion_class: self.lesion_class,
            device: match self.device {
                PATCHMASK_DEVICE_AUTO => DeviceChoice::Auto,
                PATCHMASK_DEVICE_CPU => DeviceChoice::Cpu,
                PATCHMASK_DEVICE_CUDA => DeviceChoice::Cuda(self.device_index),
                other => return Err(unknown("device", other, "PATCHMASK_DEVICE_*: 0, 1 or 2")),
            },
            threads: self.threads,
            memory_budget: self.memory_budget,
        })
    }
}

fn voxel_type_in(number: i32, name: &str) -> Result<VoxelType, Error> {
    Ok(match number {
        PATCHMASK_VOXEL_I8 => VoxelType::I8,
        PATCHMASK_VOXEL_U8 => VoxelType::U8,
        PATCHMASK_VOXEL_I16 => VoxelType::I16,
        PATCHMASK_VOXEL_U16 => VoxelType::U16,
        PATCHMASK_VOXEL_I32 => VoxelType::I32,
        PATCHMASK_VOXEL_F32 => VoxelType::F32,
        PATCHMASK_VOXEL_F64 => VoxelType::F64,
        other => {
            return Err(unknown(
                &format!("{name}.voxel_type"),
                other,
                "PATCHMASK_VOXEL_*: 1 to 7",
            ));
        }
    })
}

fn switch(name: &str, number: i32) -> Result<bool, Error> {
    match number {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(unknown(name, other, "0 or 1")),
    }
}

fn unknown(name: &str, number: i32, legal: &str) -> Error {
    Error::invalid(format!("{name} {number}: must be one of {legal}"))
}
