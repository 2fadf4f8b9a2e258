//! The C interface: thin functions that check pointers, call the library, and turn every outcome,
//! panics included, into a status number. The only module that nothing else imports.
//!
//! One kind of ownership per type:
//!
//! | C type | here | rule |
//! |---|---|---|
//! | `patchmask_model *` out | `Box<patchmask_model>` leaked | freed by `patchmask_model_free` |
//! | `const patchmask_model *` | `&patchmask_model` | borrowed for the call |
//! | `patchmask_session *` | `&patchmask_session` | borrowed; its state is behind atomics and a lock |
//! | structs by pointer | copied in after `struct_size` is checked | the caller's memory is not kept |
//! | `out_*` | written once, on success | untouched on failure |
//!
//! The duties of C callers are said once, in the header's introduction: pointers are NULL or valid, buffers
//! are as large as their extents and strides say.
#![allow(non_camel_case_types, clippy::missing_safety_doc)]

mod constants;
mod types;

mod guard;
mod pointers;

mod convert;
mod init;

mod model;
mod session;

pub use constants::*;
pub use guard::{patchmask_last_error, patchmask_status_name};
pub use init::*;
pub use model::*;
pub use session::*;
pub use types::*;

use std::ffi::c_char;

/// Version of the library that is loaded, such as "0.1.0". Never fails; static storage.
#[unsafe(no_mangle)]
pub extern "C" fn patchmask_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// ABI number of the library that is loaded; compare with PATCHMASK_ABI_VERSION. Never fails.
#[unsafe(no_mangle)]
pub extern "C" fn patchmask_abi_version() -> u32 {
    PATCHMASK_ABI_VERSION
}
