//! Small models of every kind, loaded once.

use std::ptr::null_mut;
use std::sync::OnceLock;

use patchmask::ffi::*;
use safetensors::Dtype;

use crate::model_files::{File, Vgg};
use crate::random::Random;

/// A model, and what is known of it.
pub struct Model {
    pub handle: *mut patchmask_model,
    /// Patch sizes that it takes.
    pub patch_sizes: std::ops::RangeInclusive<u32>,
    pub classes: u32,
}

// SAFETY: models are immutable.
unsafe impl Send for Model {}
// SAFETY: as above.
unsafe impl Sync for Model {}

const WIDTHS: [usize; 13] = [2, 3, 1, 4, 2, 3, 5, 2, 3, 4, 2, 1, 3];
/// Runs of Winograd and blocks of outputs.
const WIDER: [usize; 13] = [3, 5, 17, 4, 7, 5, 4, 6, 9, 5, 4, 17, 6];

/// All models.
pub fn models() -> &'static [Model] {
    static MODELS: OnceLock<Vec<Model>> = OnceLock::new();
    MODELS.get_or_init(|| {
        let grey = Vgg { widths: &WIDTHS, ..Vgg::GREY };
        [
            (grey, 32..=63),
            (Vgg { dtype: Dtype::F32, batch_norm: true, channels: 3, widths: &WIDER, dense: &[5, 3], ..grey }, 32..=63),
            (Vgg { dtype: Dtype::BF16, side: 2, dense: &[4, 4, 4, 2], ..grey }, 64..=95),
            // Adaptive pooling is folded.
            (Vgg { side: 7, dense: &[9, 4], ..grey }, 32..=95),
        ]
        .map(|(vgg, patch_sizes)| {
            let bytes = vgg.file(&mut Random(11)).bytes();
            let mut handle = null_mut();
            // SAFETY: bytes and their number.
            let status = unsafe { patchmask_model_load_memory(bytes.as_ptr().cast(), bytes.len(), &raw mut handle) };
            assert_eq!(status, PATCHMASK_OK, "{}", crate::last_error());
            Model { handle, patch_sizes, classes: vgg.dense[vgg.dense.len() - 1] as u32 }
        })
        .into()
    })
}

/// Files to begin with, for the corpus.
pub fn files() -> [File; 3] {
    const NARROW: [usize; 13] = [1; 13];
    let narrow = Vgg { widths: &NARROW, ..Vgg::GREY };
    let plain = narrow.file(&mut Random(1)).string("patchmask.patch_size", "40").string("patchmask.stride", "8");
    let with_batch_norm = Vgg { dtype: Dtype::F32, batch_norm: true, channels: 3, dense: &[2, 3], ..narrow }
        .file(&mut Random(2))
        .string("patchmask.mean", "0.5,0.4,0.3")
        .string("patchmask.std", "0.2")
        .string("patchmask.classes", "a,b,c");
    let pooled = Vgg { dtype: Dtype::BF16, side: 7, dense: &[2, 2, 2, 2], ..narrow }
        .file(&mut Random(3))
        .string("patchmask.window", "-160,240")
        .string("patchmask.equalize", "true")
        .string("patchmask.lesion_class", "0");
    [plain, with_batch_norm, pooled]
}
