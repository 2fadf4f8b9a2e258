//! The matrix product that all layers come down to: rows of inputs by a packed panel of weights.
//!
//! ```text
//! out[row][0..PANEL] (+)= sum over i of a[row][i] * panel[i][0..PANEL]
//! ```
//! The sums of a few rows stay in registers; each is taken over i in order, so a row's bits do not depend on
//! the rows around it. Some inputs at a time are summed by themselves first: rounding errors of long sums grow with the
//! length of what is summed at a time (Higham, "The accuracy of floating point summation", 1993).

use std::ops::Range;

use super::simd::{Instructions, Kernel, Simd};
use crate::error::Error;
use crate::memory::try_filled;

/// Outputs of a panel of weights.
pub(super) const PANEL: usize = 32;

/// Inputs that are summed by themselves. Fewer where they are few: products take little of the time of such a layer.
const fn summed(inputs: usize) -> usize {
    if inputs <= 128 { 32 } else { 64 }
}

/// Floats of a line of the caches.
const LINE: usize = 16;

/// Outputs are padded to a multiple of this: the widest register of f32.
pub(super) const LANES: usize = 16;

/// `values`, and zeros up to the next multiple of [`LANES`].
pub(super) fn padded(values: impl ExactSizeIterator<Item = f32>) -> Result<Vec<f32>, Error> {
    let len = values.len().next_multiple_of(LANES);
    let mut padded = try_filled(len, 0.0, "packed weights")?;
    padded.iter_mut().zip(values).for_each(|(to, from)| *to = from);
    Ok(padded)
}

/// Rows of a matrix, by stride.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub data: &'a [f32],
    /// Floats from one row to the next.
    pub stride: usize,
}

/// Rows that a product is written to.
pub(super) struct Sums<'a> {
    pub data: &'a mut [f32],
    /// Floats from one row to the next.
    pub stride: usize,
    /// Wanted outputs of the panel: a multiple of 16, at most [`PANEL`].
    pub outputs: usize,
    /// Added to what is there.
    pub add: bool,
}

/// Multiplies `rows` rows of `a` by `panel`, [inputs][PANEL]. Meanwhile `next`, what this thread will most likely need afterwards,
/// is fetched from memory, first things first.
pub(super) fn product(
    instructions: Instructions,
    a: Rows<'_>,
    rows: usize,
    panel: &[f32],
    next: [&[f32]; 2],
    sums: Sums<'_>,
) {
    if rows == 0 {
        return;
    }
    let inputs = panel.len() / PANEL;
    assert!(a.data.len() >= (rows - 1) * a.stride + inputs);
    assert!(sums.outputs <= PANEL && sums.outputs.is_multiple_of(16));
    assert!(sums.data.len() >= (rows - 1) * sums.stride + sums.outputs);
    let [next, after] = next.map(|floats| (floats.as_ptr(), floats.len().div_ceil(LINE)));
    let product = Product {
        a: a.data.as_ptr(),
        a_stride: a.stride,
        rows,
        panel: panel.as_ptr(),
        inputs,
        next,
        after,
        into: sums.data.as_mut_ptr(),
        stride: sums.stride,
        outputs: sums.outputs,
        add: sums.add,
    };
    // SAFETY: the engine uses instructions that the machine has; all rows lie within their slices, as just checked.
    unsafe { instructions.run(product) }
}

struct Product {
    a: *const f32,
    a_stride: usize,
    rows: usize,
    panel: *const f32,
    inputs: usize,
    /// What is to be fetched, and how many lines of it; and what then.
    next: (*const f32, usize),
    after: (*const f32, usize),
    into: *mut f32,
    stride: usize,
    outputs: usize,
    add: bool,
}

impl Kernel for Product {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        while self.rows > 0 {
            let rows = self.rows.min(S::ROWS);
            // SAFETY: the first of the rows that are left.
            unsafe {
                match rows {
                    1 => self.rows::<S, 1>(),
                    2 => self.rows::<S, 2>(),
                    3 => self.rows::<S, 3>(),
                    4 => self.rows::<S, 4>(),
                    5 => self.rows::<S, 5>(),
                    6 => self.rows::<S, 6>(),
                    7 => self.rows::<S, 7>(),
                    8 => self.rows::<S, 8>(),
                    9 => self.rows::<S, 9>(),
                    10 => self.rows::<S, 10>(),
                    11 => self.rows::<S, 11>(),
                    _ => self.rows::<S, 12>(),
                }
                self.a = self.a.add(rows * self.a_stride);
                self.into = self.into.add(rows * self.stride);
            }
            self.rows -= rows;
        }
    }
}

impl Product {
    /// The next `ROWS` rows.
    #[inline(always)]
    unsafe fn rows<S: Simd, const ROWS: usize>(&mut self) {
        if ROWS > S::ROWS {
            return; // never called: spares the compiler the code
        }
        let summed = summed(self.inputs);
        for first in (0..self.inputs).step_by(summed) {
            let inputs = first..self.inputs.min(first + summed);
            // SAFETY: as for the whole.
            unsafe { self.partial_sums::<S, ROWS>(inputs, self.add || first > 0) };
        }
    }

    /// The sums over some `inputs`, added to what is there or not. Fetches a line for each input.
    #[inline(always)]
    unsafe fn partial_sums<S: Simd, const ROWS: usize>(&mut self, inputs: Range<usize>, add: bool) {
        // As many registers of a panel as the narrowest has.
        let mut sums = [[S::splat(0.0); 8]; ROWS];
        let registers = PANEL / S::LANES;
        // After the last line the same address again and again, which costs nothing and spares a branch.
        let (mut fetched, left) = self.next;
        let lines = left.min(inputs.len());
        let step = if lines > 0 { LINE } else { 0 };
        for i in inputs {
            S::prefetch(fetched);
            fetched = fetched.wrapping_add(step);
            // SAFETY: within the panel and the rows, as `product` has checked.
            unsafe {
                let row = |row| S::splat(*self.a.add(row * self.a_stride + i));
                let weight = |v| S::load(self.panel.add(i * PANEL + v * S::LANES));
                // The fewer of the two stay in registers, the others come one at a time.
                if registers > ROWS {
                    let x: [S; ROWS] = std::array::from_fn(row);
                    for v in 0..registers {
                        let w = weight(v);
                        sums.iter_mut().zip(x).for_each(|(sums, x)| sums[v] = sums[v].add_product(x, w));
                    }
                } else {
                    let mut w = [S::splat(0.0); 8];
                    w[..registers].iter_mut().enumerate().for_each(|(v, w)| *w = weight(v));
                    for (number, sums) in sums.iter_mut().enumerate() {
                        let x = row(number);
                        sums[..registers].iter_mut().zip(w).for_each(|(sum, w)| *sum = sum.add_product(x, w));
                    }
                }
            }
        }
        self.next =
            if lines < left { (fetched, left - lines) } else { std::mem::replace(&mut self.after, (fetched, 0)) };
        for (row, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums[..registers].iter().enumerate() {
                if v * S::LANES >= self.outputs {
                    break;
                }
                // SAFETY: within the row, as `product` has checked.
                unsafe {
                    let into = self.into.add(row * self.stride + v * S::LANES);
                    let sum = if add { sum.add(S::load(into)) } else { sum };
                    sum.store(into);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every number of rows, on every instruction set; what is not to be written stays.
    #[test]
    fn products_equal_plain_sums() {
        for instructions in Instructions::available() {
            for (rows, inputs) in (0..30).zip([1, 2, 31, 64].into_iter().cycle()) {
                for (outputs, add) in [(32, false), (16, true), (32, true)] {
                    let (a_stride, stride) = (inputs + 3, outputs + 5);
                    let a: Vec<f32> = (0..30 * a_stride).map(|i| (i % 13) as f32 - 6.0).collect();
                    let panel: Vec<f32> = (0..inputs * PANEL).map(|i| (i % 7) as f32 - 3.0).collect();
                    let mut into = vec![0.5; 30 * stride];
                    let sums = Sums { data: &mut into, stride, outputs, add };
                    let a_rows = Rows { data: &a, stride: a_stride };
                    product(instructions, a_rows, rows, &panel, [if add { &panel } else { &[] }, &a], sums);
                    for (index, &have) in into.iter().enumerate() {
                        let (row, output) = (index / stride, index % stride);
                        let mut want = 0.5;
                        if row < rows && output < outputs {
                            let terms = (0..inputs).map(|i| a[row * a_stride + i] * panel[i * PANEL + output]);
                            want = terms.sum::<f32>() + if add { 0.5 } else { 0.0 };
                        }
                        assert_eq!(have, want, "{instructions:?} row {row} of {rows}, output {output}");
                    }
                }
            }
        }
    }

    /// The bits are those of plain loops, so they are the same on every machine that rounds a product and its sum once.
    #[test]
    fn sums_are_taken_in_one_order() {
        for instructions in Instructions::available().into_iter().filter(|instructions| instructions.fuse()) {
            for (rows, inputs) in (1..15).zip([300, 128, 129, 31].into_iter().cycle()) {
                let noise = |i: usize| (i * 7919 % 1009) as f32 / 1009.0 - 0.5;
                let a: Vec<f32> = (0..rows * inputs).map(noise).collect();
                let panel: Vec<f32> = (0..inputs * PANEL).map(|i| noise(i + 31)).collect();
                let mut into = vec![0.1; rows * PANEL];
                let sums = Sums { data: &mut into, stride: PANEL, outputs: PANEL, add: true };
                product(instructions, Rows { data: &a, stride: inputs }, rows, &panel, [&[], &panel], sums);
                for (index, &have) in into.iter().enumerate() {
                    let (row, output) = (index / PANEL, index % PANEL);
                    let mut want = 0.1_f32;
                    for first in (0..inputs).step_by(summed(inputs)) {
                        let terms = first..inputs.min(first + summed(inputs));
                        want += terms.fold(0.0, |sum, i| a[row * inputs + i].mul_add(panel[i * PANEL + output], sum));
                    }
                    assert_eq!(have.to_bits(), want.to_bits(), "{instructions:?} row {row} of {rows}, output {output}");
                }
            }
        }
    }
}
