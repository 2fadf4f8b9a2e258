//! The transforms of a run pair, all channels: rows first, then columns.

use std::mem::MaybeUninit;

use super::points::{Eight, Matrix, Points, SIDE, Six, input, output};
use crate::engine::cpu::product::PANEL;
use crate::engine::cpu::simd::{Kernel, Simd};

/// A run pair's inputs, x to B x B^T.
pub(super) struct InputTransform<'a> {
    /// Pixel (i, j) of the pair: `channels` floats.
    pub from: &'a [[*const f32; SIDE]; SIDE],
    /// Pixels of the pair that comes next, which are fetched meanwhile.
    pub next: &'a [[*const f32; SIDE]; SIDE],
    /// Point (i, j) of the pair: space for `channels` floats.
    pub into: &'a [[*mut f32; SIDE]; SIDE],
    /// Values of the row run and of the column run.
    pub values: [usize; 2],
    /// A multiple of 16.
    pub channels: usize,
    /// Rows may have runs of [`Eight`].
    pub long: bool,
}

impl Kernel for InputTransform<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: as the caller promises.
        unsafe { if self.long { self.with::<S, Eight>() } else { self.with::<S, Six>() } }
    }
}

impl InputTransform<'_> {
    #[inline(always)]
    unsafe fn with<S: Simd, P: Points>(self) {
        let [rows, columns] = self.values;
        let mut half = [[const { MaybeUninit::<S>::uninit() }; SIDE]; SIDE];
        for channel in (0..self.channels).step_by(S::LANES) {
            // SAFETY: as the caller promises, channels are within pixels and points; of `half` only what the
            // first loop has written is read.
            unsafe {
                for (j, half) in half[..columns + 2].iter_mut().enumerate() {
                    self.next[..rows + 2].iter().for_each(|next| S::prefetch(next[j].wrapping_add(channel)));
                    let load = |i: usize| S::load(self.from[i][j].add(channel));
                    input_values::<S, P>(rows, load, |i, y| half[i] = MaybeUninit::new(y));
                }
                for (i, into) in self.into[..rows + 2].iter().enumerate() {
                    let load = |j: usize| half[j][i].assume_init();
                    input_values::<S, Six>(columns, load, |j, y| y.store(into[j].add(channel)));
                }
            }
        }
    }
}

/// A run pair's outputs, A z A^T + bias, negative ones made 0.
pub(super) struct OutputTransform<'a> {
    /// Point (i, j) of the pair: its sums in the first panel of all. Those of the next panel are `counts[i][j]` rows on.
    pub from: &'a [[*mut f32; SIDE]; SIDE],
    pub counts: &'a [[usize; SIDE]; SIDE],
    /// Pixel (i, j) of the pair: space for these outputs.
    pub into: &'a [[*mut f32; SIDE]; SIDE],
    /// Values of the row run and of the column run.
    pub values: [usize; 2],
    /// The panel of the first of these outputs.
    pub panel: usize,
    /// [outputs]; a multiple of 16.
    pub bias: &'a [f32],
    /// Past the caches: pixels are aligned to the widest register.
    pub stream: bool,
    /// Rows may have runs of [`Eight`].
    pub long: bool,
}

impl Kernel for OutputTransform<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: as the caller promises.
        unsafe { if self.long { self.with::<S, Eight>() } else { self.with::<S, Six>() } }
    }
}

impl OutputTransform<'_> {
    #[inline(always)]
    unsafe fn with<S: Simd, P: Points>(self) {
        let [rows, columns] = self.values;
        let mut half = [[const { MaybeUninit::<S>::uninit() }; SIDE]; SIDE];
        for output in (0..self.bias.len()).step_by(S::LANES) {
            // SAFETY: as the caller promises, outputs are within points and pixels; of `half` only what the
            // first loop has written is read.
            unsafe {
                let bias = S::load(self.bias.as_ptr().add(output));
                let (panel, offset) = (self.panel + output / PANEL, output % PANEL);
                for (j, half) in half[..columns + 2].iter_mut().enumerate() {
                    let load = |i: usize| {
                        let sum = self.from[i][j].add(panel * self.counts[i][j] * PANEL + offset);
                        S::prefetch(sum.wrapping_add(self.counts[i][j] * PANEL)); // in the next panel
                        S::load(sum)
                    };
                    output_values::<S, P>(rows, load, |i, y| half[i] = MaybeUninit::new(y));
                }
                for (i, into) in self.into[..rows].iter().enumerate() {
                    let load = |j: usize| half[j][i].assume_init();
                    output_values::<S, Six>(columns, load, |j, y| {
                        let (pixel, into) = (y.add(bias).relu(), into[j].add(output));
                        if self.stream { pixel.stream(into) } else { pixel.store(into) }
                    });
                }
            }
        }
    }
}

/// B x for a run of so many values.
#[inline(always)]
fn input_values<S: Simd, P: Points>(values: usize, x: impl Fn(usize) -> S, y: impl FnMut(usize, S)) {
    match values {
        1 => apply::<S, 3, 3>(&const { input::<P>(1) }, x, y),
        2 => apply::<S, 4, 4>(&const { input::<P>(2) }, x, y),
        3 => apply::<S, 5, 5>(&const { input::<P>(3) }, x, y),
        4 => apply::<S, 6, 6>(&const { input::<P>(4) }, x, y),
        5 => apply::<S, 7, 7>(&const { input::<P>(5) }, x, y),
        6 => apply::<S, 8, 8>(&const { input::<P>(6) }, x, y),
        7 => apply::<S, 9, 9>(&const { input::<Eight>(7) }, x, y),
        _ => apply::<S, 10, 10>(&const { input::<Eight>(8) }, x, y),
    }
}

/// A z for a run of so many values.
#[inline(always)]
fn output_values<S: Simd, P: Points>(values: usize, z: impl Fn(usize) -> S, y: impl FnMut(usize, S)) {
    match values {
        1 => apply::<S, 1, 3>(&const { output::<P>(1) }, z, y),
        2 => apply::<S, 2, 4>(&const { output::<P>(2) }, z, y),
        3 => apply::<S, 3, 5>(&const { output::<P>(3) }, z, y),
        4 => apply::<S, 4, 6>(&const { output::<P>(4) }, z, y),
        5 => apply::<S, 5, 7>(&const { output::<P>(5) }, z, y),
        6 => apply::<S, 6, 8>(&const { output::<P>(6) }, z, y),
        7 => apply::<S, 7, 9>(&const { output::<Eight>(7) }, z, y),
        _ => apply::<S, 8, 10>(&const { output::<Eight>(8) }, z, y),
    }
}

/// Matrix times vector. The compiler knows the matrix and leaves out its zeros.
#[inline(always)]
fn apply<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    matrix: &Matrix,
    x: impl Fn(usize) -> S,
    mut y: impl FnMut(usize, S),
) {
    let x: [S; COLUMNS] = std::array::from_fn(x);
    for (i, row) in matrix.iter().enumerate().take(ROWS) {
        let mut sum = S::splat(0.0);
        for (&factor, &x) in row.iter().zip(&x) {
            if factor != 0.0 {
                sum = sum.add_product(x, S::splat(factor));
            }
        }
        y(i, sum);
    }
}
