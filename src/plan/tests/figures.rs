//! The unique work that value numbering leaves, for full-width VGG16 on a 512 x 512 slice.

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::patch_grid::{Padding, PatchGrid, interleaved};
use crate::plan::{AxisPlans, MacsPerOutput, MaxRuns, STEPS, Step, TilePlan, values_of_a_patch};
use crate::resampling::Scale;
use crate::volume::Extents;

/// Channels of VGG16: the input's, then those of each convolution.
const CHANNELS: [u64; 14] = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];

/// Tera-multiplications of all convolutions but the first with Winograd on the runs, in tiles of `side` x `side`
/// patches of a phase: a run of m values takes m + 2.
fn winograd_tera_macs(patch_size: u32, stride: u32, phases: usize, side: usize, max_runs: Axes<MaxRuns>) -> f64 {
    let axis = grid(patch_size, stride).x;
    let all: Vec<usize> = (0..axis.count()).collect();
    let interleaved = interleaved(&all, phases).unwrap();
    let products = max_runs.map(|max_runs| {
        let mut plans = AxisPlans::new(usize::MAX);
        let mut products = [0u64; 13];
        for patches in interleaved.chunk_by(|a, b| a < b).flat_map(|phase| phase.chunks(side)) {
            let plan = plans.tile(&axis, Some(&max_runs), patches, Padding::Patch, &Cancel::default()).unwrap();
            for (index, &step) in STEPS.iter().enumerate() {
                if let Step::Convolution(layer @ 1..) = step {
                    products[layer] += plan.layer(index).products();
                }
            }
        }
        products
    });
    let layers = products.rows.iter().zip(products.columns).zip(CHANNELS.windows(2));
    let products = layers.map(|((rows, columns), channels)| rows * columns * channels[0] * channels[1]);
    products.sum::<u64>() as f64 / 1e12
}

fn grid(patch_size: u32, stride: u32) -> PatchGrid {
    let extents = Extents::new(512, 512, 1, "volume").unwrap();
    PatchGrid::new(Scale::same_axes(extents), patch_size, stride, None).unwrap()
}

/// TMAC of all convolutions of a slice evaluated as one tile.
fn tera_macs(patch_size: u32, stride: u32, padding: Padding) -> f64 {
    let grid = grid(patch_size, stride);
    let axis = AxisPlans::new(0).whole(&grid.x, None, padding, &Cancel::default()).unwrap();
    let plan = TilePlan::new(Axes { rows: axis.clone(), columns: axis }, None, &Cancel::default()).unwrap();
    plan.macs(&macs_of_convolutions()) as f64 / 1e12
}

fn macs_of_convolutions() -> MacsPerOutput {
    MacsPerOutput { convolutions: CHANNELS.windows(2).map(|channels| 9 * channels[0] * channels[1]).collect(), head: 0 }
}

/// The figures that the project was designed by (TMAC): distinct values of every position of every
/// layer. Numbering only what some patch needs must stay at or below them, and near.
#[test]
fn shared_work_is_what_the_design_promises() {
    for (patch_size, stride, designed) in
        [(257, 7, 20.7), (257, 8, 6.85), (225, 8, 7.07), (129, 8, 5.78), (65, 4, 10.5)]
    {
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

/// Winograd runs leave few multiplications, and tiles pay little for evaluating whole ones.
#[test]
fn winograd_runs_leave_a_quarter_of_the_work() {
    for (patch_size, stride, phases, side, most) in [
        (257, 8, 1, 64, 1.5),
        (257, 8, 1, 32, 1.9),
        (257, 8, 1, 16, 2.6),
        (257, 7, 1, 74, 4.6),
        (257, 7, 1, 37, 6.0),
        (257, 7, 2, 37, 4.7),
        (257, 7, 4, 19, 5.0),
        (257, 6, 2, 43, 3.9),
        (65, 4, 1, 128, 2.7),
        (65, 4, 1, 16, 2.9),
        (65, 3, 2, 86, 5.1),
    ] {
        let left = winograd_tera_macs(patch_size, stride, phases, side, Axes { rows: [6; 13], columns: [6; 13] });
        let what = format!("{patch_size}/{stride} in {phases} phases, tiles of {side}");
        println!("{what}: {left:.3} T, at most {most}");
        assert!((0.9 * most..=most).contains(&left), "{what}: {left}");
    }
}

/// A patch of 65 pixels has 8 values of the fourth stage: runs of 8 on one axis and of 4 on the other.
#[test]
fn longer_runs_leave_less() {
    assert_eq!(values_of_a_patch(65)[6..], [16, 8, 8, 8, 4, 4, 4]);
    assert_eq!(values_of_a_patch(72)[6..], [18, 9, 9, 8, 4, 4, 4]);
    let mut max_runs = Axes { rows: [6; 13], columns: [6; 13] };
    max_runs.rows[7..10].fill(8);
    max_runs.columns[7..10].fill(4);
    let left = winograd_tera_macs(65, 4, 1, 128, max_runs);
    println!("{left:.3} T");
    assert!((2.3..2.35).contains(&left), "{left} T, with runs of up to 6 2.59");
}

/// A round ROI of a tenth of the slice: its patches reach further, and whole runs further still.
#[test]
fn a_compact_roi_takes_a_fifth_of_the_work() {
    let grid = grid(257, 8);
    let all: Vec<usize> = (0..grid.x.count()).collect();
    let per_output = macs_of_convolutions();
    let mut plans = AxisPlans::new(usize::MAX);
    let mut plan = |indices: &[usize], wanted: Option<&[bool]>| {
        let cancel = Cancel::default();
        let axis = plans.tile(&grid.x, Some(&[6; 13]), indices, Padding::Patch, &cancel).unwrap();
        TilePlan::new(Axes { rows: axis.clone(), columns: axis }, wanted, &cancel).unwrap()
    };
    let whole = plan(&all, None).macs(&per_output) as f64;
    // Patches within 11.4 of the middle of 23 x 23 of the 64 x 64.
    let indices = &all[30..53];
    let away = |k: usize| (k as f64 - 11.0).powi(2);
    let wanted: Vec<bool> = (0..23 * 23).map(|k| away(k / 23) + away(k % 23) <= 11.4_f64.powi(2)).collect();
    let area = wanted.iter().filter(|&&wanted| wanted).count() as f64 / 4096.0;
    let part = plan(indices, Some(&wanted)).macs(&per_output) as f64 / whole;
    println!("a ROI of {:.1} % takes {:.1} % of the work", 100.0 * area, 100.0 * part);
    assert!((0.09..0.11).contains(&area) && part < 0.2, "{area} {part}");
}
