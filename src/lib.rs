//! `patchmask`: a lesion mask from a CT volume, by classifying every overlapping patch of every slice with a VGG16,
//! evaluated exactly with shared computation. C and C++ programs use it through `include/patchmask.h`; this crate is
//! the same library for Rust.
//!
//! ```
//! use patchmask::{Model, Options, Outputs, Session, Volume, VolumeMut};
//!
//! # fn main() -> Result<(), patchmask::Error> {
//! let model = Model::from_file("examples/demo/model.safetensors".as_ref())?;
//! let options = Options { stride: 16, ..Options::for_model(Some(&model)) };
//! let session = Session::new(&model, options, &mut |_level, text| println!("{text}"))?;
//!
//! let (width, height, depth) = (60, 50, 2);
//! let voxels: Vec<i16> = vec![40; width * height * depth]; // in HU, x fastest
//! let volume = Volume::from_slice(&voxels, width, height, depth)?;
//! let mut mask = vec![0_u8; voxels.len()];
//! let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
//! let report = session.segment(&volume, None, &mut outputs, &mut |_fraction, _stage| true)?;
//!
//! assert_eq!(report.work.patches, 2 * 4 * 4);
//! assert!(mask.iter().all(|&class| class < 2));
//! # Ok(())
//! # }
//! ```
//!
//! The floors: a module imports only from those below it, and no files import each other (tests/floors.rs).
//!
//! ```text
//! ffi                the C interface
//! session            calls: tiling, the loop over slices, progress, options
//! engine             evaluates slices: on the CPU in f32, on GPUs in fp16 on own kernels
//! mask plan          patches' classes to voxels; value numbering: the activations that patches share
//! body intensity patch_grid weights
//!                    the body in a slice; a slice as network input; patch centres, crop, ROI; safetensors files
//! resampling         the caller's voxels and the model's pixels
//! volume network     the caller's voxels and buffers; VGG16
//! memory reserve     allocations that may fail; the allocator of the C library
//! threads axes cancel
//!                    the library's own threads; rows and columns; the request to stop
//! panics             panics that stay inside
//! float_modes process error
//!                    rounding modes; which process this is
//! ```
//!
//! The flow of data:
//!
//! ```text
//! volume --> intensity --> patch grid --> plan --> engine (cpu | cuda) --> mask
//! caller's   one slice     where the      axis     two operations:         caller's
//! voxels     as network    patches        tables   gather_conv,            buffers
//!            input         are                     gather_max_pool
//! ```
// Shapes are written [rows][columns][channels] everywhere, in the C header too.
#![allow(rustdoc::broken_intra_doc_links)]
#![warn(missing_docs)]

pub mod ffi;
mod session;

mod engine;

mod mask;
mod plan;

mod body;
mod intensity;
mod patch_grid;
mod weights;

mod resampling;

mod network;
mod volume;

mod memory;
#[cfg(feature = "reserve")]
mod reserve;

mod axes;
mod cancel;
mod threads;

mod float_modes;
mod panics;
mod process;

mod error;

pub use engine::{Bytes, DeviceChoice, DeviceKind, LayerWork, LogLevel, Span};
pub use error::Error;
pub use mask::Interpolation;
pub use patch_grid::{Crop, Padding};
pub use session::{Centres, Estimate, Options, Outputs, Report, Session, Stage, Timings, Work};
pub use volume::{Extents, Memory, Spacing, Strides, Volume, VolumeMut, Voxel, VoxelType};
pub use weights::{Description, Metadata, Model};
