//! Any bytes through `patchmask_model_load_memory`: a model whose description is true, or a refusal with a text.
#![no_main]

use std::ffi::CStr;
use std::ptr::null_mut;

use libfuzzer_sys::fuzz_target;
use patchmask::ffi::*;
use patchmask_fuzz::{check, check_silence, report_panics};
use sha2::{Digest, Sha256};

fuzz_target!(init: report_panics(), |bytes: &[u8]| {
    // SAFETY: bytes and their number, structs of their own size, and a model until it is freed.
    unsafe {
        let mut model = null_mut();
        let status = patchmask_model_load_memory(bytes.as_ptr().cast(), bytes.len(), &raw mut model);
        if check(status, &[PATCHMASK_BAD_MODEL]) == PATCHMASK_OK {
            describe(model, bytes);
            patchmask_model_free(model);
        } else {
            assert!(model.is_null());
        }
    }
    check_silence();
});

unsafe fn describe(model: *mut patchmask_model, bytes: &[u8]) {
    // SAFETY: by contract.
    unsafe {
        let mut info = std::mem::zeroed();
        check(patchmask_model_info_init(&raw mut info, size_of_val(&info)), &[]);
        check(patchmask_model_get_info(model, &raw mut info), &[]);
        assert!(matches!(info.input_channels, 1 | 3) && (2..=255).contains(&info.classes));
        assert!((1..=4).contains(&info.dense_layers) && info.lesion_class < info.classes);
        let patch_sizes = PATCHMASK_PATCH_SIZE_MIN..=PATCHMASK_PATCH_SIZE_MAX;
        assert!(info.patch_size == 0 || patch_sizes.contains(&info.patch_size));
        assert!(info.stride <= if info.patch_size == 0 { PATCHMASK_PATCH_SIZE_MAX } else { info.patch_size });
        assert!((26..=bytes.len() as u64 / 2).contains(&info.parameters));
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(CStr::from_ptr(info.sha256.as_ptr()).to_str(), Ok(&digest[..]));

        let name = |index| patchmask_model_class_name(model, index);
        assert!((0..info.classes).all(|index| name(index).is_null() == name(0).is_null()));
        assert!(name(info.classes).is_null());
        if !name(0).is_null() {
            assert!(CStr::from_ptr(name(info.classes - 1)).to_str().is_ok_and(|name| !name.is_empty()));
        }

        let mut options = std::mem::zeroed();
        check(patchmask_options_init(&raw mut options, size_of_val(&options), model), &[]);
        assert!(options.window_low < options.window_high && options.std.iter().all(|&std| std > 0.0));
        assert!(options.lesion_class == info.lesion_class && (options.stride == info.stride || info.stride == 0));
    }
}
