//! VGG16 as it comes out of a weights file: fp16 parameters, any widths, 1..=4 dense layers.
//!
//! ```text
//! 13 convolutions 3x3, zero padding 1, ReLU after each:   widths free, order of VGG16
//!   c c P c c P c c c P c c c P c c c P                   P: max pool 2, floor
//! flatten (channel, row, column), 1..=4 dense layers, ReLU between them
//! ```

use half::f16;
use ndarray::{Array1, Array2, Array4};

/// Number of 3x3 convolutions in VGG16.
pub const CONVOLUTIONS: usize = 13;
/// Convolutions after which VGG16 pools, as counts from the start.
pub const POOL_AFTER: [usize; 5] = [2, 4, 7, 10, 13];
/// Side of the feature map that torchvision's adaptive average pooling makes.
pub const ADAPTIVE_POOL_SIDE: usize = 7;
/// Maximum number of dense layers of a network; it has at least 1.
pub const DENSE_LAYERS_MAX: usize = 4;
/// Smallest patch, in pixels: five poolings by 2 leave one position.
pub const PATCH_SIZE_MIN: usize = 1 << POOL_AFTER.len();
/// Largest patch, in pixels.
pub const PATCH_SIZE_MAX: usize = 1024;

/// One 3x3 convolution.
#[derive(Clone, Debug)]
pub struct Convolution {
    /// [out][in][row tap][column tap]
    pub weight: Array4<f16>,
    /// [out]
    pub bias: Array1<f16>,
}

/// One dense layer.
#[derive(Clone, Debug)]
pub struct Dense {
    /// [out][in]
    pub weight: Array2<f16>,
    /// [out]
    pub bias: Array1<f16>,
}

/// Side of the feature map: `channels` x `side` x `side` features enter the first dense layer.
pub fn feature_side(patch_size: usize) -> usize {
    POOL_AFTER.iter().fold(patch_size, |side, _| side / 2)
}

/// First and last patch size, in pixels, that leave `side` x `side` features; `None` when none does.
pub fn patch_sizes(side: usize) -> Option<(usize, usize)> {
    let low = side.checked_mul(PATCH_SIZE_MIN)?;
    let high = (low.checked_add(PATCH_SIZE_MIN - 1)?).min(PATCH_SIZE_MAX);
    (side >= 1 && low <= high).then_some((low, high))
}
