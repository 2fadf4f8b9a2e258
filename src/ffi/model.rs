//! Loading, describing and freeing models.

use std::ffi::{CString, c_char, c_void};
use std::path::Path;
use std::ptr;

use super::guard::{guard, guard_value};
use super::pointers::{borrow, check_out, invalid_null, struct_size, write_struct};
use super::types::{patchmask_model_info, patchmask_status};
use crate::error::Error;
use crate::threads::run;
use crate::weights::Model;

/// A loaded model. Immutable: any number of threads and sessions may use it at once.
pub struct patchmask_model {
    pub(super) model: Model,
    class_names: Vec<CString>,
}

/// Loads a VGG16 from a safetensors file. Weights are rounded to fp16 once, after folding batch normalisation: that
/// is the network, on every engine (logits of f32 weights change by about 1e-3 of the largest). `path` is a path of
/// the operating system (UTF-8 on Linux). On success `*out_model` is a new model: free it with patchmask_model_free.
/// Errors: IO, BAD_MODEL, OUT_OF_MEMORY, INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_load(
    path: *const c_char,
    out_model: *mut *mut patchmask_model,
) -> patchmask_status {
    guard(|| {
        check_out(out_model, "out_model")?;
        if path.is_null() {
            return Err(invalid_null("path"));
        }
        // SAFETY: not NULL, and zero-terminated by contract.
        let path = unsafe { std::ffi::CStr::from_ptr(path) };
        let path = path_from_bytes(path.to_bytes())?;
        hand_out(run(|| Model::from_file(path))?, out_model)
    })
}

/// Loads a VGG16 from the `size` bytes of a safetensors file at `data`, which are copied.
/// Otherwise as patchmask_model_load.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_load_memory(
    data: *const c_void,
    size: usize,
    out_model: *mut *mut patchmask_model,
) -> patchmask_status {
    guard(|| {
        check_out(out_model, "out_model")?;
        if data.is_null() {
            return Err(invalid_null("data"));
        }
        if size > isize::MAX as usize {
            return Err(Error::invalid(format!("size {size}: no buffer is that large")));
        }
        // SAFETY: not NULL, and readable for `size` bytes by contract.
        let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size) };
        hand_out(run(|| Model::from_bytes(bytes))?, out_model)
    })
}

/// Describes a model in `*out_info`, which patchmask_model_info_init has initialised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_get_info(
    model: *const patchmask_model,
    out_info: *mut patchmask_model_info,
) -> patchmask_status {
    guard(|| {
        // SAFETY: by contract of this function.
        let model = unsafe { borrow(model, "model") }?;
        // SAFETY: by contract of this function.
        unsafe { struct_size(out_info, "out_info") }?;
        let description = model.model.describe();
        let mut sha256 = [0 as c_char; 65];
        for (to, from) in sha256.iter_mut().zip(description.sha256.bytes()) {
            *to = from as c_char;
        }
        let info = patchmask_model_info {
            struct_size: size_of::<patchmask_model_info>(),
            input_channels: description.input_channels,
            classes: description.classes,
            dense_layers: description.dense_layers,
            lesion_class: description.lesion_class,
            patch_size: description.patch_size.unwrap_or(0),
            stride: description.stride.unwrap_or(0),
            parameters: description.parameters,
            sha256,
            unused: [0; 7],
            pixel_mm: description.pixel_mm.unwrap_or(0.0),
            threshold: description.threshold.unwrap_or(0.0),
        };
        // SAFETY: checked above.
        unsafe { write_struct(out_info, &info) };
        Ok(())
    })
}

/// Name of class `index` according to the model's metadata; NULL when it has none or the index is
/// not a class. Valid as long as the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_class_name(model: *const patchmask_model, index: u32) -> *const c_char {
    guard_value(ptr::null(), || {
        // SAFETY: by contract of this function.
        let model = unsafe { borrow(model, "model") }?;
        let name = model.class_names.get(index as usize);
        Ok(name.map_or(ptr::null(), |name| name.as_ptr()))
    })
}

/// Frees a model; NULL is accepted. Sessions made from it stay valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn patchmask_model_free(model: *mut patchmask_model) {
    guard(|| {
        if !model.is_null() {
            // SAFETY: by contract of this function.
            drop(unsafe { Box::from_raw(model) });
        }
        Ok(())
    });
}

fn hand_out(model: Model, out_model: *mut *mut patchmask_model) -> Result<(), Error> {
    let class_names =
        model.describe().class_names.into_iter().map(|name| CString::new(name).unwrap_or_default()).collect();
    let model = Box::new(patchmask_model { model, class_names });
    // SAFETY: the caller of this function has checked the pointer.
    unsafe { out_model.write(Box::into_raw(model)) };
    Ok(())
}

#[cfg(unix)]
fn path_from_bytes(bytes: &[u8]) -> Result<&Path, Error> {
    use std::os::unix::ffi::OsStrExt;
    Ok(Path::new(std::ffi::OsStr::from_bytes(bytes)))
}

#[cfg(not(unix))]
fn path_from_bytes(bytes: &[u8]) -> Result<&Path, Error> {
    std::str::from_utf8(bytes).map(Path::new).map_err(|_| Error::invalid("path is not UTF-8".into()))
}
