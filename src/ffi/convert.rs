//! The caller's structs, checked and turned into the library's own types.

use std::ffi::c_void;

use super::constants::*;
use super::pointers::{invalid_null, read_struct};
use super::types::*;
use crate::engine::DeviceChoice;
use crate::error::Error;
use crate::mask::Interpolation;
use crate::patch_grid::{Crop, Padding};
use crate::session::{Options, Outputs};
use crate::volume::{Extents, Memory, Spacing, Strides, Volume, VolumeMut, VoxelType};

/// Copies the options in.
///
/// # Safety
/// NULL or a valid struct.
pub(super) unsafe fn options_in(options: *const patchmask_options) -> Result<patchmask_options, Error> {
    // SAFETY: by contract.
    unsafe { read_struct(options, "options", Options::for_model(None).into()) }
}

/// The caller's volume as a checked view.
///
/// # Safety
/// NULL or a valid struct; its buffer is as large as extents and strides say, for `'a`.
pub(super) unsafe fn volume_in<'a>(volume: *const patchmask_volume, name: &'static str) -> Result<Volume<'a>, Error> {
    // SAFETY: by contract; numbers and pointers are zero and NULL by default.
    let raw = unsafe { read_struct(volume, name, std::mem::zeroed()) }?;
    let extents = raw.extents_in(name)?;
    let voxel = voxel_type_in(raw.voxel_type, name)?;
    let strides = Strides::new([raw.stride_x, raw.stride_y, raw.stride_z], extents, voxel.size(), name)?;
    if raw.data.is_null() {
        return Err(invalid_null(&format!("{name}.data")));
    }
    // SAFETY: the buffer is as large as extents and strides say, by contract.
    let volume = unsafe {
        Volume::from_raw(
            raw.data.cast(),
            memory_in(raw.memory, raw.stream, name)?,
            voxel,
            extents,
            strides,
            (raw.slope, raw.intercept),
            name,
        )
    }?;
    Ok(volume.with_spacing(raw.spacing_in(name)?))
}

/// The caller's output buffers, not yet checked against a volume.
///
/// # Safety
/// NULL or a valid struct; its buffers are valid for `'a`.
pub(super) unsafe fn outputs_in<'a>(outputs: *const patchmask_outputs) -> Result<Outputs<'a>, Error> {
    // SAFETY: by contract; numbers and pointers are zero and NULL by default.
    let raw = unsafe { read_struct(outputs, "outputs", std::mem::zeroed()) }?;
    let memory = memory_in(raw.memory, raw.stream, "outputs")?;
    // SAFETY: the buffers are as large as extents and strides say, by contract.
    Ok(unsafe {
        Outputs {
            mask: VolumeMut::from_raw(raw.mask, memory, [0, raw.mask_stride_x, raw.mask_stride_y, raw.mask_stride_z]),
            probability: VolumeMut::from_raw(
                raw.probability,
                memory,
                [0, raw.probability_stride_x, raw.probability_stride_y, raw.probability_stride_z],
            ),
            coverage: VolumeMut::from_raw(
                raw.coverage,
                memory,
                [0, raw.coverage_stride_x, raw.coverage_stride_y, raw.coverage_stride_z],
            ),
            logits: VolumeMut::from_raw(
                raw.logits,
                memory,
                [raw.logits_stride_class, raw.logits_stride_x, raw.logits_stride_y, raw.logits_stride_z],
            ),
        }
    })
}

impl patchmask_volume {
    pub(super) fn extents_in(&self, name: &str) -> Result<Extents, Error> {
        Extents::new(self.width, self.height, self.depth, name)
    }

    pub(super) fn spacing_in(&self, name: &str) -> Result<Option<Spacing>, Error> {
        Spacing::new(self.spacing_x, self.spacing_y, name)
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
            interpolation: match self.interpolation {
                PATCHMASK_INTERPOLATION_NEAREST => Interpolation::Nearest,
                PATCHMASK_INTERPOLATION_LINEAR => Interpolation::Linear,
                other => return Err(unknown("interpolation", other, "PATCHMASK_INTERPOLATION_*: 0 or 1")),
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
            pixel_mm: (self.pixel_mm != 0.0).then_some(self.pixel_mm),
            resample: switch("resample", self.resample)?,
            threshold: (self.threshold != 0.0).then_some(self.threshold),
            body: switch("body", self.body)?,
            device: match self.device {
                PATCHMASK_DEVICE_AUTO => DeviceChoice::Auto,
                PATCHMASK_DEVICE_CPU => DeviceChoice::Cpu,
                PATCHMASK_DEVICE_CUDA => DeviceChoice::Cuda(gpus(self.cuda_devices)),
                other => return Err(unknown("device", other, "PATCHMASK_DEVICE_*: 0, 1 or 2")),
            },
            threads: self.threads,
            memory_budget: self.memory_budget,
        })
    }
}

/// The numbers of the bits; GPU 0 where there are none.
fn gpus(bits: u64) -> Vec<u32> {
    (0..64).filter(|n| bits.max(1) >> n & 1 == 1).collect()
}

pub(super) fn voxel_type_in(number: i32, name: &str) -> Result<VoxelType, Error> {
    Ok(match number {
        PATCHMASK_VOXEL_I8 => VoxelType::I8,
        PATCHMASK_VOXEL_U8 => VoxelType::U8,
        PATCHMASK_VOXEL_I16 => VoxelType::I16,
        PATCHMASK_VOXEL_U16 => VoxelType::U16,
        PATCHMASK_VOXEL_I32 => VoxelType::I32,
        PATCHMASK_VOXEL_F32 => VoxelType::F32,
        PATCHMASK_VOXEL_F64 => VoxelType::F64,
        other => {
            return Err(unknown(&format!("{name}.voxel_type"), other, "PATCHMASK_VOXEL_*: 1 to 7"));
        }
    })
}

fn memory_in(number: i32, stream: *mut c_void, name: &str) -> Result<Memory, Error> {
    match number {
        PATCHMASK_MEMORY_HOST => Ok(Memory::Host),
        PATCHMASK_MEMORY_CUDA => Ok(Memory::Cuda { stream: stream as usize }),
        other => Err(unknown(&format!("{name}.memory"), other, "PATCHMASK_MEMORY_*: 0 or 1")),
    }
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
