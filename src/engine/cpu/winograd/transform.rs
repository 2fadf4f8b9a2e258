//! The transforms of a tile, all channels: rows first, then columns.

use super::points::{Matrix, SIDE, input, output};
use crate::engine::cpu::simd::{Kernel, Simd};

/// A tile's inputs, x to B x B^T.
pub(super) struct InputTransform<'a> {
    /// Pixel (i, j) of the tile: `channels` floats, read only.
    pub from: &'a [[*const f32; SIDE]; SIDE],
    /// Point (i, j) of the transformed tile: room for `channels` floats.
    pub into: &'a [[*mut f32; SIDE]; SIDE],
    /// Values of the row chain and of the column chain.
    pub chains: [usize; 2],
    /// A multiple of 16.
    pub channels: usize,
}

impl Kernel for InputTransform<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [rows, columns] = self.chains.map(|values| values + 2);
        for channel in (0..self.channels).step_by(S::LANES) {
            let mut half = [[S::splat(0.0); SIDE]; SIDE];
            for j in 0..columns {
                let mut x = [S::splat(0.0); SIDE];
                for (x, from) in x[..rows].iter_mut().zip(self.from) {
                    // SAFETY: as the caller promises, channels are within the pixel.
                    *x = unsafe { S::load(from[j].add(channel)) };
                }
                let y = input_values(self.chains[0], x);
                for i in 0..rows {
                    half[i][j] = y[i];
                }
            }
            for i in 0..rows {
                let y = input_values(self.chains[1], half[i]);
                for (y, into) in y[..columns].iter().zip(&self.into[i]) {
                    // SAFETY: as the caller promises, channels are within the point's room.
                    unsafe { y.store(into.add(channel)) };
                }
            }
        }
    }
}

/// A tile's outputs, A z A^T + bias, negative ones made 0.
pub(super) struct OutputTransform<'a> {
    /// Point (i, j): sums of `channels` outputs, read only.
    pub from: &'a [[*const f32; SIDE]; SIDE],
    /// Pixel (i, j): room for `channels` floats.
    pub into: &'a [[*mut f32; SIDE]; SIDE],
    /// Values of the row chain and of the column chain.
    pub chains: [usize; 2],
    /// [channels]; a multiple of 16.
    pub bias: &'a [f32],
}

impl Kernel for OutputTransform<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let [rows, columns] = self.chains;
        for channel in (0..self.bias.len()).step_by(S::LANES) {
            let mut half = [[S::splat(0.0); SIDE]; SIDE];
            for j in 0..columns + 2 {
                let mut z = [S::splat(0.0); SIDE];
                for (z, from) in z[..rows + 2].iter_mut().zip(self.from) {
                    // SAFETY: as the caller promises, channels are within the point's sums.
                    *z = unsafe { S::load(from[j].add(channel)) };
                }
                let y = output_values(rows, z);
                for i in 0..rows {
                    half[i][j] = y[i];
                }
            }
            // SAFETY: `bias` has this channel and the lanes after it.
            let bias = unsafe { S::load(self.bias.as_ptr().add(channel)) };
            for i in 0..rows {
                let y = output_values(columns, half[i]);
                for (y, into) in y[..columns].iter().zip(&self.into[i]) {
                    // SAFETY: as the caller promises, channels are within the pixel.
                    unsafe { y.add(bias).relu().store(into.add(channel)) };
                }
            }
        }
    }
}

/// B x for a chain of `values`.
#[inline(always)]
fn input_values<S: Simd>(values: usize, x: [S; SIDE]) -> [S; SIDE] {
    match values {
        1 => apply(&const { input(1) }, x, 3, 3),
        2 => apply(&const { input(2) }, x, 4, 4),
        3 => apply(&const { input(3) }, x, 5, 5),
        4 => apply(&const { input(4) }, x, 6, 6),
        5 => apply(&const { input(5) }, x, 7, 7),
        _ => apply(&const { input(6) }, x, 8, 8),
    }
}

/// A z for a chain of `values`.
#[inline(always)]
fn output_values<S: Simd>(values: usize, z: [S; SIDE]) -> [S; SIDE] {
    match values {
        1 => apply(&const { output(1) }, z, 1, 3),
        2 => apply(&const { output(2) }, z, 2, 4),
        3 => apply(&const { output(3) }, z, 3, 5),
        4 => apply(&const { output(4) }, z, 4, 6),
        5 => apply(&const { output(5) }, z, 5, 7),
        _ => apply(&const { output(6) }, z, 6, 8),
    }
}

/// Matrix times vector: the matrix is known to the compiler, which leaves out its zeros.
#[inline(always)]
fn apply<S: Simd>(matrix: &Matrix, x: [S; SIDE], rows: usize, columns: usize) -> [S; SIDE] {
    let mut y = [S::splat(0.0); SIDE];
    for i in 0..rows {
        let mut sum: Option<S> = None;
        for j in 0..columns {
            let factor = matrix[i][j];
            if factor != 0.0 {
                let factor = S::splat(factor);
                sum = Some(match sum {
                    None => x[j].mul(factor),
                    Some(sum) => sum.add_product(x[j], factor),
                });
            }
        }
        if let Some(sum) = sum {
            y[i] = sum;
        }
    }
    y
}
