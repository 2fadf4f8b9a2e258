//! Patch centres along one axis.

/// Patch centres along one axis of the slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// First pixel of the crop, the first centre.
    pub origin: usize,
    /// Pixels of the crop.
    pub len: usize,
    /// Patch side.
    pub patch_size: usize,
    /// Pixels between centres.
    pub stride: usize,
}

impl Axis {
    /// Number of centres.
    pub fn count(&self) -> usize {
        (self.len - 1) / self.stride + 1
    }

    /// First pixel of patch `k`, counted from the crop's first pixel; negative in the black margin.
    pub fn start(&self, k: usize) -> i64 {
        (k * self.stride) as i64 - (self.patch_size / 2) as i64
    }
}
