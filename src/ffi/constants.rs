//! The numbers of the C interface. Each value is written out once, here, and is never reused.

use crate::network::{PATCH_SIZE_MAX, PATCH_SIZE_MIN};

/// Version of the header that the program was compiled with: major.
pub const PATCHMASK_VERSION_MAJOR: u32 = 0;
/// Version of the header that the program was compiled with: minor.
pub const PATCHMASK_VERSION_MINOR: u32 = 1;
/// Version of the header that the program was compiled with: patch.
pub const PATCHMASK_VERSION_PATCH: u32 = 0;
/// ABI number of this header. A library is usable when patchmask_abi_version() returns the same.
pub const PATCHMASK_ABI_VERSION: u32 = 1;

/// Success.
pub const PATCHMASK_OK: i32 = 0;
/// A pointer, size, option or buffer is not usable; the text names the value, the limit and the remedy.
pub const PATCHMASK_INVALID_ARGUMENT: i32 = 100;
/// A valid request that this version or build does not offer.
pub const PATCHMASK_UNSUPPORTED: i32 = 101;
/// The session is already running a call (on another thread, or this is its own callback).
pub const PATCHMASK_BUSY: i32 = 102;
/// The session was made by the parent of this process, before fork().
pub const PATCHMASK_WRONG_PROCESS: i32 = 103;
/// The model file could not be read.
pub const PATCHMASK_IO: i32 = 200;
/// The model file was read but is not a usable VGG16.
pub const PATCHMASK_BAD_MODEL: i32 = 201;
/// Host memory could not be allocated, or the memory option is too small for one patch.
pub const PATCHMASK_OUT_OF_MEMORY: i32 = 300;
/// Device memory could not be allocated.
pub const PATCHMASK_DEVICE_OUT_OF_MEMORY: i32 = 301;
/// The requested device is not there or not usable; the text says why.
pub const PATCHMASK_NO_DEVICE: i32 = 400;
/// The device failed in the middle of a call (or was lost); the session is of no further use: free it.
pub const PATCHMASK_DEVICE_FAILED: i32 = 401;
/// The call was cancelled by patchmask_session_cancel or by the progress callback.
pub const PATCHMASK_CANCELLED: i32 = 500;
/// A defect in the library, caught before it could reach the caller. Please report the text.
pub const PATCHMASK_PANIC: i32 = 900;

/// Voxel type: signed 8-bit integer.
pub const PATCHMASK_VOXEL_I8: i32 = 1;
/// Voxel type: unsigned 8-bit integer.
pub const PATCHMASK_VOXEL_U8: i32 = 2;
/// Voxel type: signed 16-bit integer, the usual type of CT.
pub const PATCHMASK_VOXEL_I16: i32 = 3;
/// Voxel type: unsigned 16-bit integer.
pub const PATCHMASK_VOXEL_U16: i32 = 4;
/// Voxel type: signed 32-bit integer.
pub const PATCHMASK_VOXEL_I32: i32 = 5;
/// Voxel type: IEEE single precision.
pub const PATCHMASK_VOXEL_F32: i32 = 6;
/// Voxel type: IEEE double precision.
pub const PATCHMASK_VOXEL_F64: i32 = 7;

/// Zeros at each patch's own border, exactly as the network was trained.
pub const PATCHMASK_PADDING_PATCH: i32 = 0;
/// Taps that leave a patch take the true neighbour from the slice; zeros only outside the
/// rectangle that all patches of the slice cover together. Another function than PATCH: far less
/// work, different logits.
pub const PATCHMASK_PADDING_IMAGE: i32 = 1;

/// Each voxel takes the class of the nearest patch centre; ties go to the lower index.
pub const PATCHMASK_INTERPOLATION_NEAREST: i32 = 0;
/// Class probabilities are interpolated bilinearly between patch centres; the largest wins.
pub const PATCHMASK_INTERPOLATION_LINEAR: i32 = 1;

/// A GPU where there is a usable one, else the CPU; the log says why.
pub const PATCHMASK_DEVICE_AUTO: i32 = 0;
/// The CPU engine, in f32.
pub const PATCHMASK_DEVICE_CPU: i32 = 1;
/// One or several NVIDIA GPUs (see cuda_devices), in fp16 with f32 sums.
pub const PATCHMASK_DEVICE_CUDA: i32 = 2;

/// A buffer in the host's memory.
pub const PATCHMASK_MEMORY_HOST: i32 = 0;
/// A buffer in the memory of the session's CUDA device, allocated in its primary context (as the CUDA runtime does).
pub const PATCHMASK_MEMORY_CUDA: i32 = 1;

/// Stage of a progress report: finding shared work and laying out tiles.
pub const PATCHMASK_STAGE_PLAN: i32 = 1;
/// Stage of a progress report: window, equalisation, black padding.
pub const PATCHMASK_STAGE_INTENSITY: i32 = 2;
/// Stage of a progress report: the network.
pub const PATCHMASK_STAGE_NETWORK: i32 = 3;
/// Stage of a progress report: writing the caller's buffers.
pub const PATCHMASK_STAGE_MASK: i32 = 4;

/// Log level: something the caller should know.
pub const PATCHMASK_LOG_WARNING: i32 = 1;
/// Log level: what was chosen and why, such as the engine and the memory budget.
pub const PATCHMASK_LOG_INFO: i32 = 2;

/// Smallest patch size, in pixels: five poolings by 2 leave one position.
pub const PATCHMASK_PATCH_SIZE_MIN: u32 = 32;
/// Largest patch size, in pixels.
pub const PATCHMASK_PATCH_SIZE_MAX: u32 = 1024;

// cbindgen wants literals; they are the library's.
const _: () = assert!(PATCHMASK_PATCH_SIZE_MIN as usize == PATCH_SIZE_MIN);
const _: () = assert!(PATCHMASK_PATCH_SIZE_MAX as usize == PATCH_SIZE_MAX);
