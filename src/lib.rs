//! `patchmask`: a lesion mask from a CT volume, by classifying every overlapping patch of every slice
//! with a VGG16, evaluated exactly with shared computation. C and C++ programs use it through
//! `include/patchmask.h`; this crate is the same library for Rust.
//!
//! ```text
//! volume --> intensity --> grid --> plan --> engine (cpu | cuda) --> mask
//! caller's   one slice     where the   axis     two operations:        caller's
//! voxels     as network    patches     tables   gather_conv,            buffers
//!            input         are                  gather_max_pool
//! ```
//!
//! That is how data flows. An engine does the last three steps of a slice itself (a GPU reads voxels and writes masks), so
//! it imports everything to its left, and [`mask`]; otherwise each module imports only from its left, and `error`.
//! [`session`] runs the loop over slices and tiles; [`ffi`] is the outermost layer and nothing imports it.
//!
//! | module | what it is |
//! |---|---|
//! | [`volume`] | borrowed views of the caller's voxels and buffers |
//! | [`intensity`] | window, histogram equalisation: a slice as network input |
//! | [`grid`] | patch centres, crop, ROI, tiles |
//! | `plan` | value numbering: which activations of all patches are the same |
//! | [`network`], [`weights`] | VGG16 with fp16 parameters, from safetensors |
//! | [`mask`] | grid classes to voxels |
//! | [`engine`] | evaluates slices: `engine::cpu` in f32, `engine::cuda` in fp16 on own kernels |
//! | [`session`] | slices x tiles, progress, cancel, timings |
//! | [`ffi`] | the C interface |
// Shapes are written [rows][columns][channels] everywhere, in the C header too.
#![allow(rustdoc::broken_intra_doc_links)]
#![warn(missing_docs)]

mod axes;
mod cancel;
pub mod engine;
pub mod error;
pub mod ffi;
pub mod intensity;
pub mod mask;
mod memory;
pub mod network;
mod panics;
pub mod patch_grid;
mod plan;
pub mod session;
pub mod volume;
pub mod weights;
