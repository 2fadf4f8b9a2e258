//! The unique work that value numbering leaves, for full-width VGG16 on a 512 x 512 slice.

use super::axis::{AxisPlans, PatchRow};
use super::pixels::TilePlan;
use crate::lattice::{Lattice, Padding};
use crate::volume::Extents;

/// Inputs and outputs of VGG16's convolutions.
const WIDTHS: [(u64, u64); 13] = [
    (3, 64),
    (64, 64),
    (64, 128),
    (128, 128),
    (128, 256),
    (256, 256),
    (256, 256),
    (256, 512),
    (512, 512),
    (512, 512),
    (512, 512),
    (512, 512),
    (512, 512),
];

fn go() -> Result<(), crate::error::Error> {
    Ok(())
}

/// TMAC of all convolutions of a slice evaluated as one tile.
fn tera_macs(patch_size: u32, stride: u32, padding: Padding) -> f64 {
    let extents = Extents::new(512, 512, 1, "volume").unwrap();
    let lattice = Lattice::new(extents, patch_size, stride, None).unwrap();
    let all: Vec<usize> = (0..lattice.x.count()).collect();
    let axis = AxisPlans::new(0)
        .get(PatchRow::new(&lattice.x, &all, padding), &go)
        .unwrap();
    let plan = TilePlan::new(axis.clone(), axis, None, &go).unwrap();
    let convolutions = WIDTHS.map(|(inputs, outputs)| 9 * inputs * outputs);
    plan.macs(&convolutions, 0) as f64 / 1e12
}

/// The figures that the project was designed by (TMAC): distinct values of every position of every
/// layer. Numbering only what some patch needs must stay at or below them, and near.
#[test]
fn shared_work_is_what_the_design_promises() {
    for (patch_size, stride, designed) in [
        (257, 7, 20.7),
        (257, 8, 6.85),
        (225, 8, 7.07),
        (129, 8, 5.78),
        (65, 4, 10.5),
    ] {
        let shared = tera_macs(patch_size, stride, Padding::Patch);
        println!("{patch_size}/{stride}: {shared:.3} TMAC, designed {designed}");
        assert!(
            (0.95 * designed..=1.005 * designed).contains(&shared),
            "{patch_size}/{stride}: {shared} TMAC, designed {designed}"
        );
    }
}

/// 82.2 TMAC patch by patch at 257/8, and 359 times less in a plain dense evaluation; numbering also
/// leaves out the black margin and what no patch needs.
#[test]
fn image_scope_is_hundreds_of_times_less() {
    let work = tera_macs(257, 8, Padding::Image);
    println!("257/8 IMAGE: {work:.4} TMAC, {:.0} times less", 82.2 / work);
    assert!((359.0..600.0).contains(&(82.2 / work)), "{work} TMAC");
}
