//! Plans of real geometries.

mod figures;
mod neighbourhood;
mod roi;
mod winograd_runs;
