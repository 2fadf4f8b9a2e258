//! Plans of real geometries.

mod figures;
mod roi;
mod winograd_runs;
