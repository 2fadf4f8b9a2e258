//! f64 -> fp16 in one correct rounding.
//!
//! `half::f16::from_f64` is not used: where the CPU converts, it goes through f32 and so rounds
//! twice, and in software it drops the low 32 bits before it decides a tie. Integer arithmetic
//! here also keeps a host's rounding mode out of the parameters.

use half::f16;

/// Largest finite fp16 value.
pub(super) const F16_MAX: f64 = 65504.0;
/// From here on, rounding to nearest goes to infinity: half a step above [`F16_MAX`].
const F16_OVERFLOW: f64 = 65520.0;

/// True if `value` is finite and rounds to a finite fp16.
#[inline]
pub(super) fn fits_f16(value: f64) -> bool {
    value.abs() < F16_OVERFLOW // false for NaN
}

/// `value` rounded to the nearest fp16, ties to even; `None` unless [`fits_f16`].
#[inline]
pub(super) fn round_to_f16(value: f64) -> Option<f16> {
    const FRACTION: u32 = 52; // fraction bits of f64; fp16 has 10
    if !fits_f16(value) {
        return None;
    }
    let bits = value.to_bits();
    let sign = ((bits >> 48) & 0x8000) as u16;
    let exponent = ((bits >> FRACTION) & 0x7ff) as i32 - 1023; // value = 1.fraction * 2^exponent
    if exponent < -25 {
        return Some(f16::from_bits(sign)); // below half the smallest fp16, 2^-24
    }
    let significand = (bits & ((1 << FRACTION) - 1)) | (1 << FRACTION);
    // Bits of the significand that fp16 lacks: 42, and more below its normal range.
    let lowest = exponent.max(-14);
    let dropped = FRACTION - 10 + (lowest - exponent) as u32; // 42..=53
    let kept = significand >> dropped;
    let rest = significand & ((1 << dropped) - 1);
    let half = 1 << (dropped - 1);
    let up = rest > half || (rest == half && kept & 1 == 1);
    // `kept` of a normal number holds the leading one, which counts as one exponent step; a carry
    // out of the fraction steps the exponent, as it should.
    let magnitude = (((lowest + 14) as u64) << 10) + kept + u64::from(up);
    Some(f16::from_bits(sign | magnitude as u16))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every gap between neighbouring fp16 values, at its ends, its middle and one f64 step aside.
    #[test]
    fn rounds_to_nearest_even_everywhere() {
        for low in 0..0x7c00_u16 {
            let from = f16::from_bits(low).to_f64();
            let to = if low == 0x7bff { 65536.0 } else { f16::from_bits(low + 1).to_f64() };
            let middle = (from + to) / 2.0; // exact in f64
            let even = low + (low & 1);
            let cases = [(from, low), (middle.next_down(), low), (middle, even), (middle.next_up(), low + 1)];
            for (value, bits) in cases {
                let expected = (bits != 0x7c00).then(|| f16::from_bits(bits));
                assert_eq!(round_to_f16(value), expected, "{value:e}");
                assert_eq!(round_to_f16(-value), expected.map(|x| -x), "-{value:e}");
            }
        }
    }

    /// A value just above a tie, whose excess f32 loses: rounding through f32 would go down.
    #[test]
    fn does_not_round_twice() {
        let trap = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        assert_eq!(f16::from_f32(trap as f32).to_bits(), 0x3c00);
        assert_eq!(round_to_f16(trap).map(f16::to_bits), Some(0x3c01));
    }

    #[test]
    fn keeps_signs_and_refuses_what_is_not_finite() {
        for (value, bits) in [(0.0, 0), (-0.0, 0x8000), (1e-300, 0), (-5e-324, 0x8000)] {
            assert_eq!(round_to_f16(value).map(f16::to_bits), Some(bits), "{value:e}");
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 65520.0] {
            assert_eq!(round_to_f16(value), None, "{value:e}");
        }
    }
}
