//! The pixels that a ROI needs, pixel by pixel.

use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::network::CONVOLUTIONS;
use crate::patch_grid::{Axis, Padding};
use crate::plan::stored_pixels::StoredPixels;
use crate::plan::{AxisPlans, MAX_RUN, STEPS, TapTable, TilePlan, ZERO};

/// Pixel by pixel, Winograd run by Winograd run.
fn complete(needed: &mut [bool], rows: &TapTable, columns: &TapTable) {
    let width = columns.len();
    for rows in (0..rows.runs()).map(|run| rows.run(run)) {
        for columns in (0..columns.runs()).map(|run| columns.run(run)) {
            let line = |row: usize| row * width + columns.start..row * width + columns.end;
            if rows.clone().any(|row| needed[line(row)].contains(&true)) {
                rows.clone().for_each(|row| needed[line(row)].fill(true));
            }
        }
    }
}

/// Pixel by pixel, tap by tap.
fn before(needed: &[bool], rows: &TapTable, columns: &TapTable, width: usize) -> Vec<bool> {
    let mut before = Vec::new();
    for (pixel, _) in needed.iter().enumerate().filter(|&(_, &needed)| needed) {
        for &r in rows.taps_of(pixel / columns.len()) {
            for &c in columns.taps_of(pixel % columns.len()) {
                if r != ZERO && c != ZERO {
                    let pixel = r as usize * width + c as usize;
                    before.resize(before.len().max(pixel + 1), false);
                    before[pixel] = true;
                }
            }
        }
    }
    before
}

/// The stored pixels are those that the wanted patches need, no more, and lie where they are said to.
#[test]
fn as_pixel_by_pixel() {
    // A disc, a ring with a hole, single patches, two opposite corners.
    let rois: [fn(f64, f64, usize) -> bool; 4] = [
        |y, x, _| y * y + x * x < 20.0,
        |y, x, _| (6.0..30.0).contains(&(y * y + x * x)),
        |_, _, patch| patch % 13 == 5,
        |y, x, _| (y - x).abs() < 1.0 && y * x > 12.0,
    ];
    for (patch_size, stride, padding) in
        [(32, 3, Padding::Patch), (33, 8, Padding::Patch), (48, 20, Padding::Patch), (33, 5, Padding::Image)]
    {
        for max_runs in [None, Some([MAX_RUN; CONVOLUTIONS])] {
            let cancel = Cancel::default();
            let mut plans = AxisPlans::new(usize::MAX);
            let mut axis = |count: usize| {
                let axis = Axis { origin: 0, len: (count - 1) * stride + 2, patch_size, stride };
                plans.whole(&axis, max_runs.as_ref(), padding, &cancel).unwrap()
            };
            let axes = Axes { rows: axis(9), columns: axis(12) };
            for wanted in rois {
                let wanted: Vec<bool> =
                    (0..9 * 12).map(|k| wanted((k / 12) as f64 - 4.0, (k % 12) as f64 - 5.0, k)).collect();
                let plan = TilePlan::new(axes.clone(), Some(&wanted), &cancel).unwrap();
                let mut needed = wanted;
                for index in (0..STEPS.len()).rev() {
                    let Axes { rows, columns } = axes.layer(index);
                    complete(&mut needed, rows, columns);
                    let image = plan.output_of(index);
                    let mut stored = 0;
                    for (pixel, &needed) in needed.iter().enumerate() {
                        let (row, column) = (pixel / image.columns, pixel % image.columns);
                        assert_eq!(image.stores(row, column), needed, "step {index}");
                        if needed {
                            assert_eq!(image.index_of(row, column), stored);
                            assert_eq!(image.position(stored), (row, column));
                            stored += 1;
                        }
                    }
                    assert_eq!(image.len(), stored, "step {index}");
                    let bytes = image.listed().map_or(0, |stored| stored.bytes()) as u64;
                    assert!(bytes <= StoredPixels::max_bytes(axes.sizes().output(index)));
                    let input = plan.input_of(index);
                    needed = before(&needed, rows, columns, input.columns);
                    needed.resize(input.rows * input.columns, false);
                }
            }
        }
    }
}

/// A ROI of a slice as large as they come: few sets of columns, which is what makes this fast.
#[test]
fn few_sets_for_many_rows() {
    let axis = Axis { origin: 0, len: 512, patch_size: 257, stride: 8 };
    let plan = AxisPlans::new(0).whole(&axis, None, Padding::Patch, &Cancel::default()).unwrap();
    let away = |k: usize| (k as f64 - 31.0).powi(2);
    let wanted: Vec<bool> = (0..64 * 64).map(|k| away(k / 64) + away(k % 64) < 400.0).collect();
    let axes = Axes { rows: plan.clone(), columns: plan };
    let plan = TilePlan::new(axes, Some(&wanted), &Cancel::default()).unwrap();
    for index in 0..STEPS.len() {
        let image = plan.output_of(index);
        let sets = image.listed().map_or(1, |stored| stored.sets());
        assert!(sets <= 64, "step {index}: {sets} sets for {} rows", image.rows);
    }
}
