//! The matrices of F(m, 3), for runs of m = 1 to [`MAX_RUN`](crate::plan::MAX_RUN) values.
//!
//! ```text
//! y = A [(G w) * (B x)]     x: the m + 2 inputs of a run; w: three taps; y: m outputs; *: element by element
//! ```
//! Toom-Cook (Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for
//! convolutional neural networks", 2016): the product of polynomials, transposed, through their values at m + 2 points.
//! Here F(m) uses the first m + 2 of a layer's list of points, and everything that depends on m goes into B, so that one set
//! of transformed weights G w serves all its runs. The points are those with the smallest rounding errors, most important first.

use crate::engine::cpu::runs::MAX_READ;

/// Points along one axis.
pub(super) const SIDE: usize = MAX_READ;

/// A matrix in the top left corner.
pub(super) type Matrix = [[f32; SIDE]; SIDE];

const INFINITY: f64 = f64::INFINITY;

/// A list of points.
pub(super) trait Points {
    const COORDINATES: &'static [f64];
}

/// For layers with runs of up to 6 values (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution",
/// 2020).
pub(super) struct Six;

impl Points for Six {
    const COORDINATES: &'static [f64] = &[0.0, INFINITY, 1.0, -1.0, 0.5, -2.0, -0.5, 2.0];
}

/// For layers with longer runs, up to [`MAX_RUN`](crate::plan::MAX_RUN) values: five times the rounding errors. With a point its
/// negative and its inverse; found by search.
pub(super) struct Eight;

impl Points for Eight {
    const COORDINATES: &'static [f64] = &[
        13.0 / 32.0,
        32.0 / 25.0,
        -32.0 / 25.0,
        -13.0 / 32.0,
        32.0 / 13.0,
        -25.0 / 32.0,
        25.0 / 32.0,
        -32.0 / 13.0,
        0.0,
        INFINITY,
    ];
}

/// True where layers with runs of up to `max_run` values take [`Eight`], else [`Six`].
pub(super) const fn long(max_run: usize) -> bool {
    max_run + 2 > Six::COORDINATES.len()
}

/// G for runs of up to `max_run` values: the taps' polynomial at each point, at points beyond 1 scaled to keep all weights of one
/// size.
pub(super) fn kernels(max_run: usize) -> impl Iterator<Item = [f64; 3]> + Clone {
    let points = if long(max_run) { Eight::COORDINATES } else { Six::COORDINATES };
    let kernel = |&p: &f64| if p == INFINITY { [0.0, 0.0, 1.0] } else { [1.0, p, p * p].map(|power| scale(p) * power) };
    points[..max_run + 2].iter().map(kernel)
}

const fn scale(p: f64) -> f64 {
    if p * p > 1.0 { 1.0 / (p * p) } else { 1.0 }
}

/// B, (m + 2) x (m + 2): row i has the coefficients of the polynomial that is 0 at all finite points but i.
pub(super) const fn input<P: Points>(m: usize) -> Matrix {
    let mut matrix = [[0.0; SIDE]; SIDE];
    let mut i = 0;
    while i < m + 2 {
        // Lowest power first, and what it is at point i.
        let mut coefficients = [0.0; SIDE];
        coefficients[0] = 1.0;
        let mut value = 1.0;
        let mut j = 0;
        while j < m + 2 {
            let p = P::COORDINATES[j];
            if j != i && p != INFINITY {
                let mut power = SIDE - 1;
                while power > 0 {
                    coefficients[power] = coefficients[power - 1] - p * coefficients[power];
                    power -= 1;
                }
                coefficients[0] *= -p;
                if P::COORDINATES[i] != INFINITY {
                    value *= P::COORDINATES[i] - p;
                }
            }
            j += 1;
        }
        if P::COORDINATES[i] != INFINITY {
            value *= scale(P::COORDINATES[i]);
        }
        let mut power = 0;
        while power < m + 2 {
            matrix[i][power] = (coefficients[power] / value) as f32;
            power += 1;
        }
        i += 1;
    }
    matrix
}

/// A, m x (m + 2): powers of the points.
pub(super) const fn output<P: Points>(m: usize) -> Matrix {
    let mut matrix = [[0.0; SIDE]; SIDE];
    let mut j = 0;
    while j < m + 2 {
        let p = P::COORDINATES[j];
        let mut power = 1.0;
        let mut i = 0;
        while i < m {
            matrix[i][j] = if p != INFINITY {
                power as f32
            } else if i == m - 1 {
                1.0
            } else {
                0.0
            };
            power *= p;
            i += 1;
        }
        j += 1;
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::MAX_RUN;

    /// The transforms equal the sums that they stand for.
    #[test]
    fn transforms_equal_the_plain_sums() {
        check::<Six>(6);
        check::<Eight>(MAX_RUN);
    }

    fn check<P: Points>(max: usize) {
        for m in 1..=max {
            for seed in 0..50u32 {
                let number = |i: usize| f64::from((seed * 7919 + i as u32 * 104_729) % 17) - 8.0;
                let taps = [number(0), number(1), number(2)];
                let x: Vec<f64> = (0..m + 2).map(|i| number(3 + i)).collect();
                let (b, a) = (input::<P>(m), output::<P>(m));
                let products: Vec<f64> = (kernels(max).take(m + 2).enumerate())
                    .map(|(i, kernel)| {
                        let weight: f64 = kernel.iter().zip(taps).map(|(g, w)| g * w).sum();
                        let value: f64 = (0..m + 2).map(|j| f64::from(b[i][j]) * x[j]).sum();
                        weight * value
                    })
                    .collect();
                for i in 0..m {
                    let y: f64 = (0..m + 2).map(|j| f64::from(a[i][j]) * products[j]).sum();
                    let plain: f64 = (0..3).map(|tap| taps[tap] * x[i + tap]).sum();
                    // f32 rounds B and A.
                    assert!((y - plain).abs() < 2e-4, "F({m}), output {i}: {y}, not {plain}");
                }
            }
        }
    }
}
