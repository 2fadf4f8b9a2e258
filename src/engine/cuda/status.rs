//! What the device says of a slice, besides its results.

use super::params::TIMEOUT;
use crate::error::Error;
use crate::network::CONVOLUTIONS;

/// Comes back with every slice.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Status {
    /// Voxels that were not finite.
    pub nonfinite: u64,
    /// Bit i: layer i stored a value beyond fp16, or NaN. Bit [`TIMEOUT`]: a kernel timed out waiting for data.
    pub overflow: u32,
    pub unused: u32,
}

impl Status {
    /// From the bytes that were downloaded.
    pub fn read(bytes: &[u8]) -> Self {
        assert!(bytes.len() >= size_of::<Self>());
        // SAFETY: plain numbers, and there are enough bytes.
        unsafe { bytes.as_ptr().cast::<Self>().read_unaligned() }
    }

    /// Voxels that were not finite; an error where the slice is not what it should be, on GPU number `gpu` with a model
    /// of `dense` dense layers.
    pub fn check(self, gpu: u32, dense: usize) -> Result<u64, Error> {
        if self.overflow == 0 {
            return Ok(self.nonfinite);
        }
        if self.overflow >> TIMEOUT & 1 == 1 {
            return Err(Error::DeviceFailed(format!(
                "a kernel on cuda:{gpu} timed out waiting for data: please report the GPU and its driver"
            )));
        }
        let layer = self.overflow.trailing_zeros() as usize;
        let name = match layer.checked_sub(CONVOLUTIONS) {
            None => format!("convolution {} of {CONVOLUTIONS}", layer + 1),
            Some(number) => format!("dense layer {} of {dense}", number + 1),
        };
        Err(Error::bad_model(format!(
            "an activation of {name} is beyond the range of fp16 (65504): this model, with this mean and std, cannot \
             run on a GPU as it is; use the device cpu, or scale the layer's weights and bias down and the next \
             layer's weights up by the same power of two"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overflow_word_names_the_layer() {
        let check = |overflow| {
            let status = Status { nonfinite: 5, overflow, unused: 0 };
            status.check(1, 3)
        };
        assert!(matches!(check(0), Ok(5)));
        for (bits, name) in
            [(1, "convolution 1 of 13"), (1 << 12 | 1 << 14, "convolution 13 of 13"), (1 << 14, "dense layer 2 of 3")]
        {
            let text = check(bits).unwrap_err().to_string();
            assert!(text.contains(name), "{bits:b}: {text}");
        }
        // Activations are no wonder then.
        let timed_out = check(1 << TIMEOUT | 1);
        assert!(matches!(&timed_out, Err(Error::DeviceFailed(text)) if text.contains("cuda:1")));
    }
}
