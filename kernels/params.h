// What the host hands to each kernel: one struct by value per launch. src/engine/cuda/params.rs mirrors
// every struct; a test compares sizes and offsets.
//
// Activations are fp16 (as uint16_t bits), [rows][columns][channels], rows and columns being the values of the
// plan's axes, channels padded with zeros to a multiple of CHANNEL_GRAIN.

#pragma once
#include "types.h"

constexpr int CHANNEL_GRAIN = 16;

// A convolution's output subtile: SUBTILE_ROWS x SUBTILE_COLUMNS values of the two axes.
constexpr int SUBTILE_ROWS = 8;
constexpr int SUBTILE_COLUMNS = 16;
constexpr int SUBTILE_PIXELS = SUBTILE_ROWS * SUBTILE_COLUMNS;

// Most distinct input rows and columns of a subtile.
constexpr int SUBTILE_INPUT_ROWS = 12;
constexpr int SUBTILE_INPUT_COLUMNS = 22;
constexpr int HALO_PIXELS = SUBTILE_INPUT_ROWS * SUBTILE_INPUT_COLUMNS;

// A tap that reads zeros, in tap tables of values and of sections.
constexpr int32_t ZERO = -1;
constexpr uint8_t SECTION_ZERO = 255;

// Consecutive values of the row axis: where their taps lie among the section's distinct input rows.
struct RowSection {
    int32_t first;                       // value
    int32_t count;                       // 1..SUBTILE_ROWS values
    int32_t inputs;                      // distinct input rows, 1..SUBTILE_INPUT_ROWS
    int32_t input[SUBTILE_INPUT_ROWS];   // values of the previous layer
    uint8_t tap[SUBTILE_ROWS][4];        // index into input, or SECTION_ZERO; the fourth is unused
};

// The same along the columns.
struct ColumnSection {
    int32_t first;
    int32_t count;                       // 1..SUBTILE_COLUMNS values
    int32_t inputs;                      // distinct input columns, 1..SUBTILE_INPUT_COLUMNS
    int32_t input[SUBTILE_INPUT_COLUMNS];
    uint8_t tap[SUBTILE_COLUMNS][4];
};

// A subtile that is evaluated, where a ROI leaves some out.
struct Subtile {
    int32_t row_section;
    int32_t column_section;
    uint32_t wanted[SUBTILE_PIXELS / 32];  // bit row * SUBTILE_COLUMNS + column: this pixel is stored
};

// In every struct: `cancel` is a word of device memory, set to non-zero when the call is to stop: every block
// reads it first and leaves. `overflow` is a word of device memory: a kernel that stores a value beyond fp16, or
// NaN, sets bit `layer` of it; one that timed out waiting for data sets bit TIMEOUT. Both are what other streams or blocks may
// write at any time.
constexpr int TIMEOUT = 31;

// One slice of the caller's volume in device memory, aligned to its voxels.
struct Voxels {
    const uint8_t* data;                 // first voxel of the slice
    int64_t stride_x;                    // bytes
    int64_t stride_y;
    int32_t voxel_type;                  // VoxelType
    int32_t width;
    int32_t height;
    int32_t unused;
    double slope;                        // HU = slope * voxel + intercept
    double intercept;
    double low;                          // HU that becomes 0
    double high;                         // HU that becomes 1
};

// Numbers of the C interface, PATCHMASK_VOXEL_*.
enum VoxelType : int32_t { I8 = 1, U8 = 2, I16 = 3, U16 = 4, I32 = 5, F32 = 6, F64 = 7 };

// resample: the slice in the model's pixels, in HU.
constexpr int RESAMPLE_THREADS = 128;
constexpr int MAX_TAPS = 11;

// The voxels that a pixel of an axis depends on.
struct AxisTaps {
    int32_t first;
    int32_t count;                       // 1 ..= MAX_TAPS
    double weights[MAX_TAPS];
};

struct ResampleParams {
    Voxels voxels;
    const AxisTaps* rows;                // [height]
    const AxisTaps* columns;             // [width]
    double* output;                      // [height][width]
    unsigned long long* nonfinite;       // voxels that are not finite are added to it
    const volatile uint32_t* cancel;
    int32_t width;                       // in pixels
    int32_t height;
};

constexpr int LEVELS = 256;

// histogram: counts of the windowed slice's levels, and how many voxels are not finite.
constexpr int HISTOGRAM_THREADS = 256;

struct HistogramParams {
    Voxels voxels;
    uint32_t* counts;                    // [LEVELS], zero before
    unsigned long long* nonfinite;       // added to
    const volatile uint32_t* cancel;
};

// equalize: the look-up table of histogram equalisation.
struct EqualizeParams {
    const uint32_t* counts;              // [LEVELS]
    float* table;                        // [LEVELS], intensity 0..1 of each level
    const volatile uint32_t* cancel;
};

// Where a band of input rows begins: first pixel of its patches, counted from the crop's corner.
struct Start {
    int32_t row;
    int32_t column;
};

// The source of an input value: pixels from its band's start, or BLACK.
constexpr int32_t BLACK = -2147483647 - 1;

// conv3_first: the first convolution, straight from the caller's voxels, in f32. One subtile a block.
constexpr int FIRST_THREADS = 128;

struct FirstParams {
    Voxels voxels;
    const float* table;                  // of equalize, or null
    uint16_t* output;                    // [rows][columns][channels]
    const float* weights;                // [9 taps][2][channels]: of the intensity, and of 1 inside the patch
    const float* bias;                   // [channels]
    const int32_t* row_taps;             // [rows][3] input values, or ZERO
    const int32_t* column_taps;          // [columns][3]
    const int32_t* row_sources;          // [input rows]
    const int32_t* column_sources;       // [input columns]
    const Start* starts;                 // of each band
    const Subtile* subtiles;             // or null: all; sections are 8 and 16 consecutive values here
    const volatile uint32_t* cancel;
    uint32_t* overflow;
    int32_t rows;
    int32_t columns;
    int32_t channels;                    // padded
    int32_t band_rows;                   // input rows of a band
    int32_t crop_x;                      // the crop in the slice: corner and size
    int32_t crop_y;
    int32_t crop_width;
    int32_t crop_height;
    int32_t layer;
    int32_t unused;
};

// conv3_CHUNK_OUTPUTS: a 3x3 gather convolution with bias and ReLU. CHUNK input channels (64, 32 or 16, dividing
// input_channels) are in shared memory at a time, OUTPUTS (128 or 64) output channels are made by a block.
// Grid: x subtiles, y output_channels / OUTPUTS, rounded up.
constexpr int CONV_THREADS = 128;

// conv3_wgmma_OUTPUTS: the same on sm_90 alone, with chunks of 64 input channels. A block makes OUTPUTS outputs of
// WGMMA_SUBTILES subtiles at a time, and goes on to others. Grid: x at most one block per multiprocessor.
constexpr int WGMMA_SUBTILES = 2;
constexpr int WGMMA_CHUNK = 64;
constexpr int WGMMA_THREADS = (WGMMA_SUBTILES + 1) * 128;

struct ConvParams {
    const uint16_t* input;               // [input rows][input_columns][input_channels]
    uint16_t* output;                    // [rows][columns][output_channels]
    const uint16_t* weights;             // packed: see conv3.cuh
    const float* bias;                   // [output_channels, padded to OUTPUTS]
    const RowSection* row_sections;
    const ColumnSection* column_sections;
    const Subtile* subtiles;             // or null: all pairs of sections
    const volatile uint32_t* cancel;
    uint32_t* overflow;
    int32_t column_section_count;
    int32_t input_columns;
    int32_t input_channels;              // padded
    int32_t columns;
    int32_t output_channels;             // padded
    int32_t layer;
    int32_t subtile_count;               // for conv3_wgmma_*, whose grid does not tell
    int32_t unused;
};

// gather_max_pool: 2x2 maximum. One subtile a block.
constexpr int MAX_POOL_THREADS = 128;

struct MaxPoolParams {
    const uint16_t* input;
    uint16_t* output;                    // [rows][columns][channels]
    const int32_t* row_taps;             // [rows][2]
    const int32_t* column_taps;          // [columns][2]
    const Subtile* subtiles;             // or null: all; sections are 8 and 16 consecutive values here
    const volatile uint32_t* cancel;
    int32_t rows;
    int32_t columns;
    int32_t input_columns;
    int32_t channels;
};

// gemm: a side x side gather convolution whose output pixels are patches, without the last addition: a sum
// for each part of the rows of taps. Side 1 without tables is a dense layer of each patch by itself.
// Grid: x patches / GEMM_PATCHES, y output_channels / GEMM_OUTPUTS times splits, side / split_rows, all rounded up.
constexpr int GEMM_THREADS = 256;
constexpr int GEMM_PATCHES = 128;
constexpr int GEMM_OUTPUTS = 256;
constexpr int GEMM_PACKED = 64;         // outputs whose weights lie together
constexpr int GEMM_CHUNK = 32;

struct GemmParams {
    const uint16_t* input;               // [input rows][input_columns][input_channels], or [patches][input_channels]
    float* sums;                         // [splits][patches][output_channels], aligned to 16 bytes
    const uint16_t* weights;             // packed: see gemm.cu
    const int32_t* row_taps;             // [rows][side], or null
    const int32_t* column_taps;          // [columns][side], or null
    const int32_t* pixels;               // row * columns + column of each patch, or null: in this order
    const volatile uint32_t* cancel;
    int32_t patches;
    int32_t columns;                     // of the patch grid
    int32_t side;
    int32_t split_rows;                  // of taps
    int32_t input_columns;
    int32_t input_channels;              // padded
    int32_t output_channels;             // padded
    int32_t unused;
};

// split_k_reduce: adds the splits in order, with bias and ReLU. SPLIT_K_OUTPUTS outputs of a patch a thread.
constexpr int SPLIT_K_THREADS = 128;
constexpr int SPLIT_K_OUTPUTS = 8;

struct SplitKParams {
    const float* sums;                   // [splits][patches][output_channels], aligned to 16 bytes
    const float* bias;                   // [output_channels]
    uint16_t* output;                    // [patches][output_channels]
    const volatile uint32_t* cancel;
    uint32_t* overflow;
    int32_t patches;
    int32_t output_channels;             // padded
    int32_t splits;
    int32_t layer;
};

// scores: logits of a tile's patches from the last layer's sums, and their softmax, to their places in the slice's patch grid.
// One patch a thread.
constexpr int SCORES_THREADS = 128;

struct ScoresParams {
    const float* sums;                   // [splits][patches][padded_classes]
    const float* bias;                   // [classes]
    const int32_t* grid_indices;         // index of each patch in the slice's patch grid
    float* logits;                       // [patches of the slice][classes]
    float* probabilities;                // [patches of the slice][classes]
    const volatile uint32_t* cancel;
    uint32_t* overflow;
    int32_t patches;
    int32_t classes;
    int32_t padded_classes;
    int32_t splits;
    int32_t layer;
    int32_t unused;
};

// For one pixel of an axis: the centres whose classes it takes. Nearest: low, weight 0. Outside the crop: low -1.
struct AxisSample {
    int32_t low;
    int32_t high;
    float weight;                        // of high
};

// One output on the voxel grid; a null pointer where it is not wanted.
struct Plane {
    void* data;                          // first voxel of the slice
    int64_t stride_x;                    // bytes
    int64_t stride_y;
};

// write_mask: classes and probabilities of voxels. A block takes WRITE_MASK_THREADS voxels of a row; the grid is 1-D, row by
// row.
constexpr int WRITE_MASK_THREADS = 128;

struct WriteMaskParams {
    const float* logits;                 // [patches of the slice][classes], NaN where not evaluated
    const float* probabilities;          // [patches of the slice][classes]
    const AxisSample* rows;              // [height]
    const AxisSample* columns;           // [width]
    const uint8_t* roi;                  // [height][width], or null: everywhere
    Plane mask;                          // u8
    Plane probability;                   // f32, of lesion_class
    Plane coverage;                      // u8
    const volatile uint32_t* cancel;
    int32_t width;
    int32_t height;
    int32_t grid_columns;
    int32_t classes;
    int32_t lesion_class;
    int32_t linear;                      // interpolate, else nearest
    float threshold;                     // probability from which a voxel has lesion_class; 0: the largest decides
    int32_t unused;
};
