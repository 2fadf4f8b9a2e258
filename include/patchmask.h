/*
 * patchmask: a lesion mask from a CT volume.
 *
 * Generated from src/ffi by cbindgen: never edit by hand (see CONTRIBUTING.md).
 *
 * The library classifies every overlapping patch of every slice of a volume with a VGG16 and writes
 * the reassembled mask to the caller's buffers. Work that overlapping patches share is done once, and
 * the result is exactly that of patch-by-patch evaluation.
 *
 *   patchmask_model *model = NULL;
 *   patchmask_session *session = NULL;
 *   patchmask_options options;
 *   patchmask_volume volume;
 *   patchmask_outputs outputs;
 *
 *   patchmask_model_load("liver.safetensors", &model);
 *   patchmask_options_init(&options, sizeof options, model);
 *   patchmask_session_new(model, &options, &session);
 *   patchmask_volume_init(&volume, sizeof volume, voxels, PATCHMASK_VOXEL_I16, 512, 512, 100);
 *   patchmask_outputs_init(&outputs, sizeof outputs);
 *   outputs.mask = mask;
 *   patchmask_session_segment(session, &volume, NULL, &outputs, NULL);
 *   patchmask_session_free(session);
 *   patchmask_model_free(model);
 *
 * with the status of every call checked; examples/c/minimal.c is a whole program.
 *
 * Errors. Calls return a patchmask_status: PATCHMASK_OK or a number that says what kind of failure it
 * was. patchmask_last_error() has the sentence for people: it names the value, the limit and the remedy. It
 * lies in a buffer of the calling thread, at most 1023 bytes of UTF-8, until this thread's next call
 * that fails, or the thread's end. A call that fails leaves handles and structs as they were.
 *
 * Ownership. A model or session belongs to the caller from the call that made it until its _free
 * function, which accepts NULL. Everything else is borrowed for the time of the call: the library
 * keeps no pointer to volumes or buffers. Arguments come in this order: receiver, inputs, outputs
 * (out_...). Pointers are valid or, where it says so, NULL; buffers are as large as their extents and
 * strides say.
 *
 * Structs. The first field, struct_size, is set by the _init function, which is given sizeof: that
 * tells a library which fields the program was compiled with. Fields are only ever appended, and every
 * size from the first release's on is accepted: fields that a program does not know have their
 * defaults, those that a library does not know are ignored.
 *
 * Threads. A model is immutable: any threads and sessions may use it at once. A session runs one call
 * at a time; a second one returns PATCHMASK_BUSY. patchmask_session_cancel and
 * patchmask_session_slices_done may be called from any thread, also while a call runs. Arithmetic runs on
 * the session's own threads and under the floating-point modes of a program's start, so the caller's
 * modes neither matter nor change; callbacks run under the caller's. Freeing a session ends its threads.
 * Every call needs at most 64 KiB of the caller's stack; the library's threads have 2 MiB each.
 *
 * Processes. After fork() the child may go on with models, also where another thread of the parent was
 * in the library. A session does not survive: in the child estimating and segmenting return
 * PATCHMASK_WRONG_PROCESS, and freeing it is all that is left to do.
 *
 * Signals are the host's: the library's threads block all but those of their own faults. A thread that
 * is cancelled (pthread_cancel) in a call ends when the call has returned. Callbacks must not throw,
 * longjmp or end the thread.
 *
 * Little memory. Where an allocation fails the call returns PATCHMASK_OUT_OF_MEMORY, and the library
 * goes on; small allocations draw on a reserve of 16 MiB of address space, which is touched only then. On
 * Linux the same is returned where the limit of a control group (container, batch job) or the
 * machine's free memory would be exceeded, before the system ends the process.
 *
 * Unloading. dlclose() leaves the library mapped; a plug-in that the static library is linked into has to
 * stay mapped, too (-z nodelete).
 *
 * Limits. Slices of up to 2^24 voxels a side, volumes of up to 2^63 - 1 voxels; patches of 32 to 1024
 * pixels; 1024 threads a session; the memory budget decides how large tiles are, not which volumes can
 * be segmented. Voxels and host buffers may lie at any address; structs are aligned as in C.
 *
 * Log. patchmask_session_new calls the log callback, and patchmask_session_segment where the volume has no
 * spacing and the model a pixel size; on the thread that calls them.
 *
 * Environment. PATCHMASK_WITHOUT leaves CUDA kernels out (docs/gpu.md); the CUDA driver has variables of its
 * own. Nothing else is read: no locale, no files but the model's and, on Linux, what /proc and /sys tell
 * of memory and processors.
 *
 * What it never does: abort, exit, print, throw into the caller, or write outside the buffers.
 *
 * Units. Sizes are in voxels (pixels within a slice), strides in bytes, intensities in HU, times in
 * seconds.
 */


#ifndef PATCHMASK_H
#define PATCHMASK_H

#include <stddef.h>
#include <stdint.h>

// Version of the header that the program was compiled with: major.
#define PATCHMASK_VERSION_MAJOR 0

// Version of the header that the program was compiled with: minor.
#define PATCHMASK_VERSION_MINOR 1

// Version of the header that the program was compiled with: patch.
#define PATCHMASK_VERSION_PATCH 0

// ABI number of this header. A library is usable when patchmask_abi_version() returns the same.
#define PATCHMASK_ABI_VERSION 1

// Success.
#define PATCHMASK_OK 0

// A pointer, size, option or buffer is not usable; the text names the value, the limit and the remedy.
#define PATCHMASK_INVALID_ARGUMENT 100

// A valid request that this version or build does not offer.
#define PATCHMASK_UNSUPPORTED 101

// The session is already running a call (on another thread, or this is its own callback).
#define PATCHMASK_BUSY 102

// The session was made by the parent of this process, before fork().
#define PATCHMASK_WRONG_PROCESS 103

// The model file could not be read.
#define PATCHMASK_IO 200

// The model file was read but is not a usable VGG16.
#define PATCHMASK_BAD_MODEL 201

// Host memory could not be allocated, or the memory option is too small for one patch.
#define PATCHMASK_OUT_OF_MEMORY 300

// Device memory could not be allocated.
#define PATCHMASK_DEVICE_OUT_OF_MEMORY 301

// The requested device is not there or not usable; the text says why.
#define PATCHMASK_NO_DEVICE 400

// The device failed in the middle of a call (or was lost); the session is of no further use: free it.
#define PATCHMASK_DEVICE_FAILED 401

// The call was cancelled by patchmask_session_cancel or by the progress callback.
#define PATCHMASK_CANCELLED 500

// A defect in the library, caught before it could reach the caller. Please report the text.
#define PATCHMASK_PANIC 900

// Voxel type: signed 8-bit integer.
#define PATCHMASK_VOXEL_I8 1

// Voxel type: unsigned 8-bit integer.
#define PATCHMASK_VOXEL_U8 2

// Voxel type: signed 16-bit integer, the usual type of CT.
#define PATCHMASK_VOXEL_I16 3

// Voxel type: unsigned 16-bit integer.
#define PATCHMASK_VOXEL_U16 4

// Voxel type: signed 32-bit integer.
#define PATCHMASK_VOXEL_I32 5

// Voxel type: IEEE single precision.
#define PATCHMASK_VOXEL_F32 6

// Voxel type: IEEE double precision.
#define PATCHMASK_VOXEL_F64 7

// Zeros at each patch's own border, exactly as the network was trained.
#define PATCHMASK_PADDING_PATCH 0

// Taps that leave a patch take the true neighbour from the slice; zeros only outside the
// rectangle that all patches of the slice cover together. Another function than PATCH: far less
// work, different logits.
#define PATCHMASK_PADDING_IMAGE 1

// Each voxel takes the class of the nearest patch centre; ties go to the lower index.
#define PATCHMASK_INTERPOLATION_NEAREST 0

// Class probabilities are interpolated bilinearly between patch centres; the largest wins.
#define PATCHMASK_INTERPOLATION_LINEAR 1

// A GPU where there is a usable one, else the CPU; the log says why.
#define PATCHMASK_DEVICE_AUTO 0

// The CPU engine, in f32.
#define PATCHMASK_DEVICE_CPU 1

// One or several NVIDIA GPUs (see cuda_devices), in fp16 with f32 sums.
#define PATCHMASK_DEVICE_CUDA 2

// A buffer in the host's memory.
#define PATCHMASK_MEMORY_HOST 0

// A buffer in the memory of the session's CUDA device, allocated in its primary context (as the CUDA runtime does).
#define PATCHMASK_MEMORY_CUDA 1

// Stage of a progress report: finding shared work and laying out tiles.
#define PATCHMASK_STAGE_PLAN 1

// Stage of a progress report: window, equalisation, black padding.
#define PATCHMASK_STAGE_INTENSITY 2

// Stage of a progress report: the network.
#define PATCHMASK_STAGE_NETWORK 3

// Stage of a progress report: writing the caller's buffers.
#define PATCHMASK_STAGE_MASK 4

// Log level: something the caller should know.
#define PATCHMASK_LOG_WARNING 1

// Log level: what was chosen and why, such as the engine and the memory budget.
#define PATCHMASK_LOG_INFO 2

// Smallest patch size, in pixels: five poolings by 2 leave one position.
#define PATCHMASK_PATCH_SIZE_MIN 32

// Largest patch size, in pixels.
#define PATCHMASK_PATCH_SIZE_MAX 1024

// A loaded model. Immutable: any number of threads and sessions may use it at once.
typedef struct patchmask_model patchmask_model;

// Workspace and threads for segmenting with one model and one set of options. Runs one call at a
// time; use one session per thread. Cancelling and asking for progress are allowed from any thread.
typedef struct patchmask_session patchmask_session;

// Result of a call: PATCHMASK_OK or one of the error numbers above.
typedef int32_t patchmask_status;

// A borrowed 3-D volume of voxels. The library reads it during a call and keeps no pointer to it.
//
// Voxel (x, y, z) lies at `data + x*stride_x + y*stride_y + z*stride_z` (bytes, any alignment).
// A slice is one z. Intensity in HU is `slope * voxel + intercept`. Voxels whose value is NaN or
// infinite count as black and are counted in the result.
typedef struct patchmask_volume {
  // Set by patchmask_volume_init.
  size_t struct_size;
  // First voxel. May be NULL for patchmask_session_estimate.
  const void *data;
  // One of PATCHMASK_VOXEL_*.
  int32_t voxel_type;
  // Voxels along x (columns of a slice).
  uint64_t width;
  // Voxels along y (rows of a slice).
  uint64_t height;
  // Voxels along z (slices).
  uint64_t depth;
  // Bytes from a voxel to its right neighbour. All three strides 0: dense, x fastest.
  uint64_t stride_x;
  // Bytes from a voxel to the one below it.
  uint64_t stride_y;
  // Bytes from a slice to the next.
  uint64_t stride_z;
  // HU per stored unit (DICOM Rescale Slope), 1 after init.
  double slope;
  // HU at stored value 0 (DICOM Rescale Intercept), 0 after init.
  double intercept;
  // One of PATCHMASK_MEMORY_*: the memory of `data`, HOST after init. In CUDA memory, address and strides are
  // multiples of the voxel's size, and the session runs on that device; no copy is made. A ROI lies in host memory.
  int32_t memory;
  // For PATCHMASK_MEMORY_CUDA: the CUstream (cudaStream_t) whose work so far fills `data`; NULL is the (legacy)
  // default stream. The call waits for it.
  void *stream;
  // Millimetres from a voxel's centre to its right neighbour's; 0 (after init): unknown, then both are.
  double spacing_x;
  // Millimetres from a voxel's centre to that of the one below it.
  double spacing_y;
} patchmask_volume;

// Buffers for the results, the caller's, each optional (NULL), at least one given. Strides are in
// bytes; all strides of a buffer 0 means dense in the order of its fields below. Buffers must not
// share a byte with each other, the volume or the ROI. Buffers interleaved in one array are fine; only where strides are so
// different that it takes long to tell are they refused. A call that fails leaves the first patchmask_session_slices_done()
// slices finished and the rest unspecified.
typedef struct patchmask_outputs {
  // Set by patchmask_outputs_init.
  size_t struct_size;
  // Class of each voxel, on the grid of the volume; 0 outside the ROI, the crop or the body.
  uint8_t *mask;
  // Bytes between voxels of `mask` along x.
  uint64_t mask_stride_x;
  // Bytes between voxels of `mask` along y.
  uint64_t mask_stride_y;
  // Bytes between voxels of `mask` along z.
  uint64_t mask_stride_z;
  // Probability (softmax) of the lesion class, on the grid of the volume; 0 outside the ROI, the crop or
  // the body.
  float *probability;
  // Bytes between voxels of `probability` along x.
  uint64_t probability_stride_x;
  // Bytes between voxels of `probability` along y.
  uint64_t probability_stride_y;
  // Bytes between voxels of `probability` along z.
  uint64_t probability_stride_z;
  // 1 where a voxel was decided by evaluated patches, 0 outside the ROI, the crop or the body.
  uint8_t *coverage;
  // Bytes between voxels of `coverage` along x.
  uint64_t coverage_stride_x;
  // Bytes between voxels of `coverage` along y.
  uint64_t coverage_stride_y;
  // Bytes between voxels of `coverage` along z.
  uint64_t coverage_stride_z;
  // The network's outputs for each patch: [depth][grid_height][grid_width][classes],
  // class fastest when dense; NaN where not evaluated. patchmask_session_estimate gives the extents.
  float *logits;
  // Bytes between classes of `logits`.
  uint64_t logits_stride_class;
  // Bytes between patches of `logits` along x.
  uint64_t logits_stride_x;
  // Bytes between patches of `logits` along y.
  uint64_t logits_stride_y;
  // Bytes between slices of `logits`.
  uint64_t logits_stride_z;
  // One of PATCHMASK_MEMORY_*: the memory of all of the buffers, HOST after init. In CUDA memory, addresses and strides
  // are multiples of the element's size, classes and x of `logits` are dense, and everything is written when the
  // call returns.
  int32_t memory;
  // For PATCHMASK_MEMORY_CUDA: the CUstream (cudaStream_t) whose work so far uses the buffers; NULL is the
  // default stream. The call waits for it.
  void *stream;
} patchmask_outputs;

// Progress of a segmentation, on the thread that called patchmask_session_segment, about
// every 50 ms. `fraction` runs from 0 to 1 and never falls; `stage` is one of PATCHMASK_STAGE_*.
// Return 0 to go on; anything else cancels the call. Must not throw or longjmp. Calls on the same
// session from inside the callback return PATCHMASK_BUSY, except patchmask_session_cancel.
typedef int32_t (*patchmask_progress_callback)(double fraction, int32_t stage, void *user_data);

// Log messages, on the calling thread; `level` is one of PATCHMASK_LOG_*,
// `message` is UTF-8 and valid during the callback only. Must not throw or longjmp.
typedef void (*patchmask_log_callback)(int32_t level, const char *message, void *user_data);

// Options of a session. patchmask_options_init fills it from the model's metadata, or with the defaults
// named below where the model has none.
typedef struct patchmask_options {
  // Set by patchmask_options_init.
  size_t struct_size;
  // Patch side in pixels, PATCHMASK_PATCH_SIZE_MIN..=PATCHMASK_PATCH_SIZE_MAX. Default 257.
  uint32_t patch_size;
  // Pixels between patch centres, 1..=patch_size. Default 7. Patch k of an axis has its centre at pixel c = k * stride
  // (from the crop's corner) and covers patch_size pixels from c - patch_size / 2 (rounded down) on; beyond the slice
  // and the crop it sees black, intensity 0. Strides that share factors of 2 with the network's five poolings
  // (8, 16, 32) share the most work.
  uint32_t stride;
  // One of PATCHMASK_PADDING_*. Default PATCH.
  int32_t padding;
  // One of PATCHMASK_INTERPOLATION_*. Default NEAREST.
  int32_t interpolation;
  // HU that becomes intensity 0; lower values are clamped. Default -160.
  double window_low;
  // HU that becomes intensity 1; higher values are clamped. Default 240.
  double window_high;
  // Mean that is subtracted from the intensity of each network channel. Default 0.
  double mean[3];
  // Deviation by which the intensity of each network channel is divided; > 0. Default 1.
  double std[3];
  // 1: equalise the histogram of every slice (256 levels, whole slice). Default 0.
  int32_t equalize;
  // 1: share work between overlapping patches (exact). 0: evaluate patch by patch, for comparison.
  // Default 1.
  int32_t sharing;
  // Left edge of the crop in pixels; outside the crop everything is black. All four 0: no crop.
  uint64_t crop_x0;
  // Top edge of the crop in pixels.
  uint64_t crop_y0;
  // Right edge of the crop in pixels, exclusive.
  uint64_t crop_x1;
  // Bottom edge of the crop in pixels, exclusive.
  uint64_t crop_y1;
  // The class whose probability is written to `probability`. Default 1.
  uint32_t lesion_class;
  // One of PATCHMASK_DEVICE_*. Default AUTO.
  int32_t device;
  // For PATCHMASK_DEVICE_CUDA: bit n stands for GPU number n, counted from 0. Slices are dealt out to all GPUs that
  // are named; GPUs of one architecture give the bits that one of them gives. 0: GPU number 0. Default 0.
  uint64_t cuda_devices;
  // Worker threads of the CPU engine; 0: one per available core. Default 0.
  uint32_t threads;
  // Limit in bytes for what the library allocates for a session, packed weights included, the
  // caller's buffers not, in host memory and in device memory each; 0: automatic. Default 0.
  uint64_t memory_budget;
  // May be NULL.
  patchmask_progress_callback progress;
  // Handed to `progress`.
  void *progress_user_data;
  // May be NULL: the library is silent then.
  patchmask_log_callback log;
  // Handed to `log`.
  void *log_user_data;
  // Side of the pixels in mm that patch_size and stride count; 0: the volume's own. Default 0.
  double pixel_mm;
  // Probability from which a voxel has the lesion class (otherwise the most probable of the others), 0..=1; 0: it has
  // the most probable class. Default 0.
  double threshold;
  // 1: where both are known and differ by more than 2 %, each slice is resampled from the volume's spacing to
  // pixel_mm (means when shrinking, linearly when growing, by a factor of at most 8), and the outputs are
  // written on the volume's voxels; crop and ROI count voxels. 0: never. Default 1.
  int32_t resample;
  // 1: evaluate only the body, found in each slice by itself: the voxels above -500 HU (half-way from air to water),
  // of these the largest component (4 neighbours), and all that it encloses. A patch is evaluated where it decides a
  // voxel of the body: where its centre lies in the body dilated by half a stride, with
  // PATCHMASK_INTERPOLATION_LINEAR by a stride. In the body (and the ROI, where one is given) results have the bits
  // that they have without; outside they are those outside a ROI. What lies apart in a slice, an arm or a second
  // leg, is outside too. The estimate is an upper bound then; the volume lies in host memory. Default 0.
  int32_t body;
} patchmask_options;

// Description of a model.
typedef struct patchmask_model_info {
  // Set by patchmask_model_info_init.
  size_t struct_size;
  // Channels of the network's input: 1 or 3 (a grey slice is repeated).
  uint32_t input_channels;
  // Classes, 2..=255.
  uint32_t classes;
  // Dense layers, 1..=4.
  uint32_t dense_layers;
  // Class of lesions according to the metadata, else 1.
  uint32_t lesion_class;
  // Patch size according to the metadata, else 0.
  uint32_t patch_size;
  // Stride according to the metadata, else 0.
  uint32_t stride;
  // Parameters (weights and biases) of all layers.
  uint64_t parameters;
  // SHA-256 of the model file, lower-case hexadecimal, zero-terminated.
  char sha256[65];
  // Zeros, so that a field that a later version appends has bytes of its own.
  char unused[7];
  // Side of the pixels in mm that the model was trained on, according to the metadata, else 0.
  double pixel_mm;
  // Probability from which a voxel has the lesion class, according to the metadata, else 0.
  double threshold;
} patchmask_model_info;

// Work and memory that a segmentation would take, without running it.
typedef struct patchmask_estimate {
  // Set by patchmask_estimate_init.
  size_t struct_size;
  // Patches of a slice along x: the width of the patch grid.
  uint64_t grid_width;
  // Patches of a slice along y: the height of the patch grid.
  uint64_t grid_height;
  // Classes: the length of the fastest axis of the logits.
  uint64_t classes;
  // Patches of all slices that would be evaluated.
  uint64_t patches;
  // Multiply-accumulates with shared work, all slices.
  uint64_t macs;
  // Multiply-accumulates patch by patch, all slices.
  uint64_t macs_unshared;
  // Maximum bytes of host memory that the library would hold at once, packed weights included.
  uint64_t peak_bytes;
  // Tiles, all slices.
  uint64_t tiles;
  // Maximum bytes of device memory that the library would hold at once; 0 on the CPU.
  uint64_t device_peak_bytes;
  // Centre of the first patch along x, from the centre of the first voxel; in mm, in voxels where the spacing is
  // unknown, like all that follows.
  double grid_origin_x;
  // Centre of the first patch along y.
  double grid_origin_y;
  // From patch centre to patch centre along x.
  double grid_spacing_x;
  // From patch centre to patch centre along y.
  double grid_spacing_y;
  // Width of the pixels that patch_size and stride count: another than the volume's where slices are resampled.
  double pixel_width;
  // Height of these pixels.
  double pixel_height;
} patchmask_estimate;

// Work and memory of a segmentation.
typedef struct patchmask_result {
  // Set by patchmask_result_init.
  size_t struct_size;
  // Patches evaluated.
  uint64_t patches;
  // Multiply-accumulates done.
  uint64_t macs;
  // Multiply-accumulates that patch by patch evaluation would have done.
  uint64_t macs_unshared;
  // Maximum bytes of host memory that the library held at once, packed weights included.
  uint64_t peak_bytes;
  // Voxels that were NaN or infinite and were treated as black.
  uint64_t nonfinite_voxels;
  // Tiles evaluated.
  uint64_t tiles;
  // The engine that ran: PATCHMASK_DEVICE_CPU or PATCHMASK_DEVICE_CUDA.
  int32_t engine;
  // Seconds spent finding shared work and laying out tiles.
  double plan_seconds;
  // Seconds spent on window, equalisation and padding. On a GPU: only on handing slices to it, which then does
  // these within `network_seconds`.
  double intensity_seconds;
  // Seconds spent in the network; on a GPU: on handing it work and waiting, whatever it did of the other stages.
  double network_seconds;
  // Seconds spent writing the caller's buffers; in device memory the GPU writes them within `network_seconds`.
  double mask_seconds;
  // Seconds of the whole call.
  double segment_seconds;
  // Maximum bytes of device memory that the library held at once; 0 on the CPU.
  uint64_t device_peak_bytes;
  // With options.body: the body's share of the volume's voxels, 0..=1; 1 without.
  double body_share;
} patchmask_result;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// Version of the library that is loaded, such as "0.1.0". Never fails; static storage.
const char *patchmask_version(void);

// ABI number of the library that is loaded; compare with PATCHMASK_ABI_VERSION. Never fails.
uint32_t patchmask_abi_version(void);

// Text of the last call that failed on this thread, in English, UTF-8, at most 1023 bytes; "" if none did. Each thread has a buffer
// of its own, which the next call that fails there overwrites and which ends with the thread.
const char *patchmask_last_error(void);

// Name of a status without its prefix, such as "INVALID_ARGUMENT"; "UNKNOWN" for other numbers.
// Static storage.
const char *patchmask_status_name(patchmask_status status);

// Prepares `*out_volume` for a dense volume, x fastest: sets struct_size, the given fields, the
// strides, slope 1 and intercept 0. Change fields afterwards as needed.
patchmask_status patchmask_volume_init(struct patchmask_volume *out_volume,
                                       size_t struct_size,
                                       const void *data,
                                       int32_t voxel_type,
                                       uint64_t width,
                                       uint64_t height,
                                       uint64_t depth);

// Prepares `*out_outputs` with no buffers: set those that are wanted.
patchmask_status patchmask_outputs_init(struct patchmask_outputs *out_outputs,
                                        size_t struct_size);

// Fills `*out_options` from the model's metadata; with the documented defaults where it has none
// or `model` is NULL.
patchmask_status patchmask_options_init(struct patchmask_options *out_options,
                                        size_t struct_size,
                                        const struct patchmask_model *model);

// Prepares `*out_info` for patchmask_model_get_info.
patchmask_status patchmask_model_info_init(struct patchmask_model_info *out_info,
                                           size_t struct_size);

// Prepares `*out_estimate` for patchmask_session_estimate.
patchmask_status patchmask_estimate_init(struct patchmask_estimate *out_estimate,
                                         size_t struct_size);

// Prepares `*out_result` for patchmask_session_segment.
patchmask_status patchmask_result_init(struct patchmask_result *out_result, size_t struct_size);

// Loads a VGG16 from a safetensors file. Weights are rounded to fp16 once, after folding batch normalisation: that
// is the network, on every engine (logits of f32 weights change by about 1e-3 of the largest). `path` is a path of
// the operating system (UTF-8 on Linux). On success `*out_model` is a new model: free it with patchmask_model_free.
// Errors: IO, BAD_MODEL, OUT_OF_MEMORY, INVALID_ARGUMENT.
patchmask_status patchmask_model_load(const char *path,
                                      struct patchmask_model **out_model);

// Loads a VGG16 from the `size` bytes of a safetensors file at `data`, which are copied.
// Otherwise as patchmask_model_load.
patchmask_status patchmask_model_load_memory(const void *data,
                                             size_t size,
                                             struct patchmask_model **out_model);

// Describes a model in `*out_info`, which patchmask_model_info_init has initialised.
patchmask_status patchmask_model_get_info(const struct patchmask_model *model,
                                          struct patchmask_model_info *out_info);

// Name of class `index` according to the model's metadata; NULL when it has none or the index is
// not a class. Valid as long as the model.
const char *patchmask_model_class_name(const struct patchmask_model *model,
                                       uint32_t index);

// Frees a model; NULL is accepted. Sessions made from it stay valid.
void patchmask_model_free(struct patchmask_model *model);

// Makes a session. Copies `*options`; keeps what it needs of the model, which may be freed before
// the session. On success `*out_session` is a new session: free it with patchmask_session_free.
// Errors: INVALID_ARGUMENT (an option, or a model that does not fit the patch size), BAD_MODEL (weights that
// overflow fp16 when pooling is folded), NO_DEVICE, OUT_OF_MEMORY, DEVICE_OUT_OF_MEMORY, DEVICE_FAILED.
patchmask_status patchmask_session_new(const struct patchmask_model *model,
                                       const struct patchmask_options *options,
                                       struct patchmask_session **out_session);

// The engine in use, for people: such as "cpu (avx512f, 2 threads)". NULL if `session` is NULL.
// Valid as long as the session.
const char *patchmask_session_engine_name(const struct patchmask_session *session);

// Estimates the work and memory of segmenting, without running it. Uses the volume's extents only (its `data`
// may be NULL) and, where given, the ROI's voxels: with options.body an upper bound. `*out_estimate` has been initialised by
// patchmask_estimate_init. Errors: as patchmask_session_segment.
patchmask_status patchmask_session_estimate(struct patchmask_session *session,
                                            const struct patchmask_volume *volume,
                                            const struct patchmask_volume *roi,
                                            struct patchmask_estimate *out_estimate);

// Segments `volume` into the buffers of `outputs`. `roi` may be NULL; otherwise it has the extents
// of the volume, and only patches that decide a voxel inside it are evaluated: those whose footprint
// touches a non-zero voxel (its rescaled value is compared with 0; NaN is outside), and with
// PATCHMASK_INTERPOLATION_LINEAR all centres around such a voxel.
// `out_result` may be NULL; otherwise patchmask_result_init has initialised it.
//
// Blocks until done; the calling thread only waits and runs the progress callback. Results do not
// depend on threads, memory budget or repetition. Errors: INVALID_ARGUMENT, OUT_OF_MEMORY, UNSUPPORTED,
// DEVICE_OUT_OF_MEMORY, DEVICE_FAILED, BAD_MODEL (activations overflow), CANCELLED, BUSY, WRONG_PROCESS.
patchmask_status patchmask_session_segment(struct patchmask_session *session,
                                           const struct patchmask_volume *volume,
                                           const struct patchmask_volume *roi,
                                           const struct patchmask_outputs *outputs,
                                           struct patchmask_result *out_result);

// Gives back the memory that a call leaves behind for the next one: activations, page-locked and device buffers, plans. The
// session stays usable. Errors: BUSY, WRONG_PROCESS.
patchmask_status patchmask_session_trim(struct patchmask_session *session);

// Number of slices that the current or last patchmask_session_segment of this session has finished; after
// a failure these slices of the outputs are valid. A call that is refused for its structs or pointers, or
// as BUSY, does not count. Any thread.
patchmask_status patchmask_session_slices_done(const struct patchmask_session *session,
                                               uint64_t *out_slices);

// Asks the session's current call, an estimate or a segmentation, to stop: it returns PATCHMASK_CANCELLED within 100 ms on
// the CPU. While no call is running, the next patchmask_session_segment is stopped, also where an estimate comes before it, so
// that no request is lost between two calls. When a segmentation returns, for whatever reason, all requests made until then are
// gone. Any thread, the callbacks too; not from a signal handler.
patchmask_status patchmask_session_cancel(struct patchmask_session *session);

// Frees a session; NULL is accepted. While estimating, segmenting or trimming runs on it, also where that begins at the same moment,
// nothing is freed: patchmask_last_error() says so, and the session is to be freed when the call has returned. Once it is
// freed, no function may be given it, cancelling included.
void patchmask_session_free(struct patchmask_session *session);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PATCHMASK_H */
