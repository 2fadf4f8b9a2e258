//! Segmenting, against plain loops: what comes out is what patch-by-patch evaluation gives, whatever
//! the geometry, threads, tiles or ROI.

mod parity;
mod repeatability;
#[path = "../support/mod.rs"]
mod support;
