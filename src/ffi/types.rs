//! The structs that cross the C boundary. Layout is asserted from C (tests/c/layout.c). Fields are
//! only ever appended; `struct_size` says how many the caller knows.
#![allow(non_camel_case_types)]

use std::ffi::{c_char, c_void};

/// Result of a call: PATCHMASK_OK or one of the error numbers above.
pub type patchmask_status = i32;

/// Progress of a segmentation, on the thread that called patchmask_session_segment, about
/// every 50 ms. `fraction` runs from 0 to 1 and never falls; `stage` is one of PATCHMASK_STAGE_*.
/// Return 0 to go on; anything else cancels the call. Must not throw or longjmp. Calls on the same
/// session from inside the callback return PATCHMASK_BUSY, except patchmask_session_cancel.
pub type patchmask_progress_callback =
    Option<unsafe extern "C" fn(fraction: f64, stage: i32, user_data: *mut c_void) -> i32>;

/// Log messages, on the calling thread; `level` is one of PATCHMASK_LOG_*,
/// `message` is UTF-8 and valid during the callback only. Must not throw or longjmp.
pub type patchmask_log_callback =
    Option<unsafe extern "C" fn(level: i32, message: *const c_char, user_data: *mut c_void)>;

/// A borrowed 3-D volume of voxels. The library reads it during a call and keeps no pointer to it.
///
/// Voxel (x, y, z) lies at `data + x*stride_x + y*stride_y + z*stride_z` (bytes, any alignment).
/// A slice is one z. Intensity in HU is `slope * voxel + intercept`. Voxels whose value is NaN or
/// infinite count as black and are counted in the result.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct patchmask_volume {
    /// Set by patchmask_volume_init.
    pub struct_size: usize,
    /// First voxel. May be NULL for patchmask_session_estimate.
    pub data: *const c_void,
    /// One of PATCHMASK_VOXEL_*.
    pub voxel_type: i32,
    /// Voxels along x (columns of a slice).
    pub width: u64,
    /// Voxels along y (rows of a slice).
    pub height: u64,
    /// Voxels along z (slices).
    pub depth: u64,
    /// Bytes from a voxel to its right neighbour. All three strides 0: dense, x fastest.
    pub stride_x: u64,
    /// Bytes from a voxel to the one below it.
    pub stride_y: u64,
    /// Bytes from a slice to the next.
    pub stride_z: u64,
    /// HU per stored unit (DICOM Rescale Slope), 1 after init.
    pub slope: f64,
    /// HU at stored value 0 (DICOM Rescale Intercept), 0 after init.
    pub intercept: f64,
    /// One of PATCHMASK_MEMORY_*: the memory of `data`, HOST after init. In CUDA memory, address and strides are
    /// multiples of the voxel's size, and the session runs on that device; no copy is made. A ROI lies in host memory.
    pub memory: i32,
    /// For PATCHMASK_MEMORY_CUDA: the CUstream (cudaStream_t) whose work so far fills `data`; NULL is the (legacy)
    /// default stream. The call waits for it.
    pub stream: *mut c_void,
    /// Millimetres from a voxel's centre to its right neighbour's; 0 (after init): unknown, then both are.
    pub spacing_x: f64,
    /// Millimetres from a voxel's centre to that of the one below it.
    pub spacing_y: f64,
}

/// Buffers for the results, the caller's, each optional (NULL), at least one given. Strides are in
/// bytes; all strides of a buffer 0 means dense in the order of its fields below. Buffers must not
/// share a byte with each other, the volume or the ROI. Buffers interleaved in one array are fine; only where strides are so
/// different that it takes long to tell are they refused. A call that fails leaves the first patchmask_session_slices_done()
/// slices finished and the rest unspecified.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct patchmask_outputs {
    /// Set by patchmask_outputs_init.
    pub struct_size: usize,
    /// Class of each voxel, on the grid of the volume; 0 outside the ROI, the crop or the body.
    pub mask: *mut u8,
    /// Bytes between voxels of `mask` along x.
    pub mask_stride_x: u64,
    /// Bytes between voxels of `mask` along y.
    pub mask_stride_y: u64,
    /// Bytes between voxels of `mask` along z.
    pub mask_stride_z: u64,
    /// Probability (softmax) of the lesion class, on the grid of the volume; 0 outside the ROI, the crop or
    /// the body.
    pub probability: *mut f32,
    /// Bytes between voxels of `probability` along x.
    pub probability_stride_x: u64,
    /// Bytes between voxels of `probability` along y.
    pub probability_stride_y: u64,
    /// Bytes between voxels of `probability` along z.
    pub probability_stride_z: u64,
    /// 1 where a voxel was decided by evaluated patches, 0 outside the ROI, the crop or the body.
    pub coverage: *mut u8,
    /// Bytes between voxels of `coverage` along x.
    pub coverage_stride_x: u64,
    /// Bytes between voxels of `coverage` along y.
    pub coverage_stride_y: u64,
    /// Bytes between voxels of `coverage` along z.
    pub coverage_stride_z: u64,
    /// The network's outputs for each patch: [depth][grid_height][grid_width][classes],
    /// class fastest when dense; NaN where not evaluated. patchmask_session_estimate gives the extents.
    pub logits: *mut f32,
    /// Bytes between classes of `logits`.
    pub logits_stride_class: u64,
    /// Bytes between patches of `logits` along x.
    pub logits_stride_x: u64,
    /// Bytes between patches of `logits` along y.
    pub logits_stride_y: u64,
    /// Bytes between slices of `logits`.
    pub logits_stride_z: u64,
    /// One of PATCHMASK_MEMORY_*: the memory of all of the buffers, HOST after init. In CUDA memory, addresses and strides
    /// are multiples of the element's size, classes and x of `logits` are dense, and everything is written when the
    /// call returns.
    pub memory: i32,
    /// For PATCHMASK_MEMORY_CUDA: the CUstream (cudaStream_t) whose work so far uses the buffers; NULL is the
    /// default stream. The call waits for it.
    pub stream: *mut c_void,
}

/// Options of a session. patchmask_options_init fills it from the model's metadata, or with the defaults
/// named below where the model has none.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct patchmask_options {
    /// Set by patchmask_options_init.
    pub struct_size: usize,
    /// Patch side in pixels, PATCHMASK_PATCH_SIZE_MIN..=PATCHMASK_PATCH_SIZE_MAX. Default 257.
    pub patch_size: u32,
    /// Pixels between patch centres, 1..=patch_size. Default 7. Patch k of an axis has its centre at pixel c = k * stride
    /// (from the crop's corner) and covers patch_size pixels from c - patch_size / 2 (rounded down) on; beyond the slice
    /// and the crop it sees black, intensity 0. Strides that share factors of 2 with the network's five poolings
    /// (8, 16, 32) share the most work.
    pub stride: u32,
    /// One of PATCHMASK_PADDING_*. Default PATCH.
    pub padding: i32,
    /// One of PATCHMASK_INTERPOLATION_*. Default NEAREST.
    pub interpolation: i32,
    /// HU that becomes intensity 0; lower values are clamped. Default -160.
    pub window_low: f64,
    /// HU that becomes intensity 1; higher values are clamped. Default 240.
    pub window_high: f64,
    /// Mean that is subtracted from the intensity of each network channel. Default 0.
    pub mean: [f64; 3],
    /// Deviation by which the intensity of each network channel is divided; > 0. Default 1.
    pub std: [f64; 3],
    /// 1: equalise the histogram of every slice (256 levels, whole slice). Default 0.
    pub equalize: i32,
    /// 1: share work between overlapping patches (exact). 0: evaluate patch by patch, for comparison.
    /// Default 1.
    pub sharing: i32,
    /// Left edge of the crop in pixels; outside the crop everything is black. All four 0: no crop.
    pub crop_x0: u64,
    /// Top edge of the crop in pixels.
    pub crop_y0: u64,
    /// Right edge of the crop in pixels, exclusive.
    pub crop_x1: u64,
    /// Bottom edge of the crop in pixels, exclusive.
    pub crop_y1: u64,
    /// The class whose probability is written to `probability`. Default 1.
    pub lesion_class: u32,
    /// One of PATCHMASK_DEVICE_*. Default AUTO.
    pub device: i32,
    /// For PATCHMASK_DEVICE_CUDA: bit n stands for GPU number n, counted from 0. Slices are dealt out to all GPUs that
    /// are named; GPUs of one architecture give the bits that one of them gives. 0: GPU number 0. Default 0.
    pub cuda_devices: u64,
    /// Worker threads of the CPU engine; 0: one per available core. Default 0.
    pub threads: u32,
    /// Limit in bytes for what the library allocates for a session, packed weights included, the
    /// caller's buffers not, in host memory and in device memory each; 0: automatic. Default 0.
    pub memory_budget: u64,
    /// May be NULL.
    pub progress: patchmask_progress_callback,
    /// Handed to `progress`.
    pub progress_user_data: *mut c_void,
    /// May be NULL: the library is silent then.
    pub log: patchmask_log_callback,
    /// Handed to `log`.
    pub log_user_data: *mut c_void,
    /// Side of the pixels in mm that patch_size and stride count; 0: the volume's own. Default 0.
    pub pixel_mm: f64,
    /// Probability from which a voxel has the lesion class (otherwise the most probable of the others), 0..=1; 0: it has
    /// the most probable class. Default 0.
    pub threshold: f64,
    /// 1: where both are known and differ by more than 2 %, each slice is resampled from the volume's spacing to
    /// pixel_mm (means when shrinking, linearly when growing, by a factor of at most 8), and the outputs are
    /// written on the volume's voxels; crop and ROI count voxels. 0: never. Default 1.
    pub resample: i32,
    /// 1: evaluate only the body, found in each slice by itself: the voxels above -500 HU (half-way from air to water),
    /// of these the largest component (4 neighbours), and all that it encloses. A patch is evaluated where it decides a
    /// voxel of the body: where its centre lies in the body dilated by half a stride, with
    /// PATCHMASK_INTERPOLATION_LINEAR by a stride. In the body (and the ROI, where one is given) results have the bits
    /// that they have without; outside they are those outside a ROI. What lies apart in a slice, an arm or a second
    /// leg, is outside too. The estimate is an upper bound then; the volume lies in host memory. Default 0.
    pub body: i32,
}

/// Description of a model.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct patchmask_model_info {
    /// Set by patchmask_model_info_init.
    pub struct_size: usize,
    /// Channels of the network's input: 1 or 3 (a grey slice is repeated).
    pub input_channels: u32,
    /// Classes, 2..=255.
    pub classes: u32,
    /// Dense layers, 1..=4.
    pub dense_layers: u32,
    /// Class of lesions according to the metadata, else 1.
    pub lesion_class: u32,
    /// Patch size according to the metadata, else 0.
    pub patch_size: u32,
    /// Stride according to the metadata, else 0.
    pub stride: u32,
    /// Parameters (weights and biases) of all layers.
    pub parameters: u64,
    /// SHA-256 of the model file, lower-case hexadecimal, zero-terminated.
    pub sha256: [c_char; 65],
    /// Zeros, so that a field that a later version appends has bytes of its own.
    pub unused: [c_char; 7],
    /// Side of the pixels in mm that the model was trained on, according to the metadata, else 0.
    pub pixel_mm: f64,
    /// Probability from which a voxel has the lesion class, according to the metadata, else 0.
    pub threshold: f64,
}

/// Work and memory that a segmentation would take, without running it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct patchmask_estimate {
    /// Set by patchmask_estimate_init.
    pub struct_size: usize,
    /// Patches of a slice along x: the width of the patch grid.
    pub grid_width: u64,
    /// Patches of a slice along y: the height of the patch grid.
    pub grid_height: u64,
    /// Classes: the length of the fastest axis of the logits.
    pub classes: u64,
    /// Patches of all slices that would be evaluated.
    pub patches: u64,
    /// Multiply-accumulates with shared work, all slices.
    pub macs: u64,
    /// Multiply-accumulates patch by patch, all slices.
    pub macs_unshared: u64,
    /// Maximum bytes of host memory that the library would hold at once, packed weights included.
    pub peak_bytes: u64,
    /// Tiles, all slices.
    pub tiles: u64,
    /// Maximum bytes of device memory that the library would hold at once; 0 on the CPU.
    pub device_peak_bytes: u64,
    /// Centre of the first patch along x, from the centre of the first voxel; in mm, in voxels where the spacing is
    /// unknown, like all that follows.
    pub grid_origin_x: f64,
    /// Centre of the first patch along y.
    pub grid_origin_y: f64,
    /// From patch centre to patch centre along x.
    pub grid_spacing_x: f64,
    /// From patch centre to patch centre along y.
    pub grid_spacing_y: f64,
    /// Width of the pixels that patch_size and stride count: another than the volume's where slices are resampled.
    pub pixel_width: f64,
    /// Height of these pixels.
    pub pixel_height: f64,
}

/// Work and memory of a segmentation.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct patchmask_result {
    /// Set by patchmask_result_init.
    pub struct_size: usize,
    /// Patches evaluated.
    pub patches: u64,
    /// Multiply-accumulates done.
    pub macs: u64,
    /// Multiply-accumulates that patch by patch evaluation would have done.
    pub macs_unshared: u64,
    /// Maximum bytes of host memory that the library held at once, packed weights included.
    pub peak_bytes: u64,
    /// Voxels that were NaN or infinite and were treated as black.
    pub nonfinite_voxels: u64,
    /// Tiles evaluated.
    pub tiles: u64,
    /// The engine that ran: PATCHMASK_DEVICE_CPU or PATCHMASK_DEVICE_CUDA.
    pub engine: i32,
    /// Seconds spent finding shared work and laying out tiles.
    pub plan_seconds: f64,
    /// Seconds spent on window, equalisation and padding. On a GPU: only on handing slices to it, which then does
    /// these within `network_seconds`.
    pub intensity_seconds: f64,
    /// Seconds spent in the network; on a GPU: on handing it work and waiting, whatever it did of the other stages.
    pub network_seconds: f64,
    /// Seconds spent writing the caller's buffers; in device memory the GPU writes them within `network_seconds`.
    pub mask_seconds: f64,
    /// Seconds of the whole call.
    pub segment_seconds: f64,
    /// Maximum bytes of device memory that the library held at once; 0 on the CPU.
    pub device_peak_bytes: u64,
    /// With options.body: the body's share of the volume's voxels, 0..=1; 1 without.
    pub body_share: f64,
}
