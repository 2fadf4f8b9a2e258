//! Segmenting, against plain loops: what comes out is what patch-by-patch evaluation gives, whatever
//! the geometry, threads, tiles or ROI.

#[path = "../support/builder.rs"]
mod builder;
#[path = "../support/geometry.rs"]
mod geometry;
mod parity;
mod reference;
mod repeatability;
