//! The caller's options, and what comes back.

use std::time::Duration;

use crate::axes::Axes;
use crate::engine::{Bytes, DeviceChoice, DeviceKind};
use crate::error::Error;
use crate::mask::Interpolation;
use crate::patch_grid::{Crop, Padding, check_patch};
use crate::resampling::Scale;
use crate::volume::{Extents, Spacing, VolumeMut};
use crate::weights::Model;

/// Options of a session. [`Options::for_model`] starts from the model's metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Patch side in pixels, 32..=1024.
    pub patch_size: u32,
    /// Pixels between patch centres, 1..=patch_size.
    pub stride: u32,
    /// Input of taps outside their patch.
    pub padding: Padding,
    /// The way from patches' classes to voxels.
    pub interpolation: Interpolation,
    /// (low, high) in HU, mapped to 0..1.
    pub window: (f64, f64),
    /// Subtracted from the intensity of each network channel.
    pub mean: [f64; 3],
    /// Divides the intensity of each network channel.
    pub std: [f64; 3],
    /// Equalise the histogram of every slice.
    pub equalize: bool,
    /// Share work between overlapping patches.
    pub sharing: bool,
    /// Outside of it everything is black; `None`: the whole slice.
    pub crop: Option<Crop>,
    /// The class whose probability is written.
    pub lesion_class: u32,
    /// Side of the pixels in mm that patch size and stride count; `None`: those of the volume.
    pub pixel_mm: Option<f64>,
    /// Resample slices whose pixels differ from `pixel_mm` by more than 2 %.
    pub resample: bool,
    /// Probability from which a voxel is of the lesion class; `None`: where it is the most probable one.
    pub threshold: Option<f64>,
    /// Evaluate only the body, found in each slice; see [`crate::ffi::patchmask_options::body`].
    pub body: bool,
    /// The device to run on.
    pub device: DeviceChoice,
    /// Worker threads; 0: one per core.
    pub threads: u32,
    /// Bytes that the library may hold, of the host and of a device each; 0: automatic.
    pub memory_budget: u64,
}

impl Options {
    /// The model's metadata, and the documented defaults where it has none.
    pub fn for_model(model: Option<&Model>) -> Self {
        let metadata = model.map(|model| model.metadata().clone()).unwrap_or_default();
        Self {
            patch_size: metadata.patch_size.unwrap_or(257),
            stride: metadata.stride.unwrap_or(7),
            padding: Padding::Patch,
            interpolation: Interpolation::Nearest,
            window: metadata.window.unwrap_or((-160.0, 240.0)),
            mean: metadata.mean.unwrap_or([0.0; 3]),
            std: metadata.std.unwrap_or([1.0; 3]),
            equalize: metadata.equalize.unwrap_or(false),
            sharing: true,
            crop: None,
            lesion_class: metadata.lesion_class.unwrap_or(1),
            pixel_mm: metadata.pixel_mm,
            resample: true,
            threshold: metadata.threshold,
            body: false,
            device: DeviceChoice::Auto,
            threads: 0,
            memory_budget: 0,
        }
    }

    /// The model's pixels along both axes of slices of a volume.
    pub(super) fn scale(&self, extents: Extents, spacing: Option<Spacing>) -> Result<Axes<Scale>, Error> {
        let (Some(spacing), Some(pixel_mm), true) = (spacing, self.pixel_mm, self.resample) else {
            return Ok(Scale::same_axes(extents));
        };
        let axis = |voxels, spacing| Scale::new(voxels, spacing, pixel_mm);
        Ok(Axes { rows: axis(extents.height, spacing.y)?, columns: axis(extents.width, spacing.x)? })
    }

    /// Checks everything that does not depend on a volume.
    pub(super) fn check(&self, classes: u32) -> Result<(), Error> {
        check_patch(self.patch_size, self.stride)?;
        for (name, values) in [("mean", self.mean), ("std", self.std)] {
            for value in values {
                if !value.is_finite() || (name == "std" && value <= 0.0) {
                    return Err(Error::invalid(format!(
                        "{name} {value}: must be finite{}",
                        if name == "std" { " and above 0" } else { "" }
                    )));
                }
            }
        }
        if let Some(Crop { x0, y0, x1, y1 }) = self.crop
            && (x0 >= x1 || y0 >= y1)
        {
            return Err(Error::invalid(format!("crop {x0},{y0},{x1},{y1}: must satisfy x0 < x1 and y0 < y1")));
        }
        if self.pixel_mm.is_some_and(|mm| !(mm > 0.0 && mm.is_finite())) {
            return Err(Error::invalid(format!(
                "pixel_mm {}: must be above 0 and finite, or 0 for the volume's own pixels",
                self.pixel_mm.unwrap_or(0.0)
            )));
        }
        if self.threshold.is_some_and(|threshold| !(threshold > 0.0 && threshold <= 1.0)) {
            return Err(Error::invalid(format!(
                "threshold {}: must be above 0 and at most 1, or 0 for the most probable class",
                self.threshold.unwrap_or(0.0)
            )));
        }
        if self.lesion_class >= classes {
            return Err(Error::invalid(format!(
                "lesion_class {}: must be below the model's {classes} classes",
                self.lesion_class
            )));
        }
        Ok(())
    }
}

/// The caller's buffers, each optional; shapes are those of the volume, the logits'
/// [depth][grid height][grid width][classes].
#[derive(Default)]
pub struct Outputs<'a> {
    /// Class of each voxel; 0 where nothing was evaluated.
    pub mask: Option<VolumeMut<'a, u8>>,
    /// Probability of the lesion class.
    pub probability: Option<VolumeMut<'a, f32>>,
    /// 1 where a voxel was decided by evaluated patches.
    pub coverage: Option<VolumeMut<'a, u8>>,
    /// The network's outputs for each patch; NaN where not evaluated.
    pub logits: Option<VolumeMut<'a, f32>>,
}

/// Amounts of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Patches evaluated.
    pub patches: u64,
    /// Multiply-accumulates with shared work.
    pub macs: u64,
    /// Multiply-accumulates patch by patch.
    pub macs_unshared: u64,
    /// Tiles.
    pub tiles: u64,
}

/// Work and memory of a call that was not run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Patches along x.
    pub grid_width: u64,
    /// Patches along y.
    pub grid_height: u64,
    /// Classes of the model.
    pub classes: u64,
    /// Where the patches are.
    pub centres: Centres,
    /// Work of all slices.
    pub work: Work,
    /// Maximum bytes held at once, host and device.
    pub peak: Bytes,
}

/// Patch centres in the plane, along x and y, in mm from the centre of the first voxel; in voxels where their spacing is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Centres {
    /// Of the first patch.
    pub origin: [f64; 2],
    /// From patch to patch.
    pub spacing: [f64; 2],
    /// Side of the pixels that patch size and stride count.
    pub pixel: [f64; 2],
}

/// Seconds by stage, of the host: what a GPU does of the other stages is in `network`, where the host waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timings {
    /// Finding shared work, laying out tiles.
    pub plan: Duration,
    /// Window, equalisation, padding.
    pub intensity: Duration,
    /// The network.
    pub network: Duration,
    /// Writing the caller's buffers.
    pub mask: Duration,
    /// The whole call.
    pub segment: Duration,
}

/// Work and memory of a call.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Work of all slices.
    pub work: Work,
    /// Maximum bytes held at once, host and device.
    pub peak: Bytes,
    /// Voxels that were NaN or infinite.
    pub nonfinite_voxels: u64,
    /// Share of the volume's voxels that are in the body; 1 where it was not looked for.
    pub body_share: f64,
    /// The kind of device it ran on.
    pub device: DeviceKind,
    /// Seconds by stage.
    pub timings: Timings,
}

/// The stages of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Finding shared work, laying out tiles.
    Plan = 1,
    /// Window, equalisation, padding.
    Intensity = 2,
    /// The network.
    Network = 3,
    /// Writing the caller's buffers.
    Mask = 4,
}
