//! Where the caller's arrays lie, and whether two share a byte.

use super::extents::Memory;

/// A strided array: class, x, y, z. Strides and the size of an element are in bytes.
#[derive(Clone, Copy)]
pub(crate) struct StridedArray {
    pub memory: Memory,
    /// Of the first element.
    pub address: usize,
    pub strides: [usize; 4],
    pub shape: [usize; 4],
    pub element: usize,
}

impl StridedArray {
    /// True if two arrays share a byte, or are so intertwined that it takes too long to tell.
    ///
    /// ```text
    /// an element of each begins at   sum of i_k * stride_k        and   distance + sum of j_k * stride'_k
    /// they share a byte where        sum of i_k * stride_k - sum of j_k * stride'_k - distance
    ///                                is above -element and below element'
    /// ```
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        const STEPS: u32 = 1 << 14;
        let distance = other.address as i128 - self.address as i128;
        let mut terms: Vec<Term> = Vec::with_capacity(8);
        for (of, sign) in [(self, 1), (other, -1)] {
            for (&stride, &extent) in of.strides.iter().zip(&of.shape).filter(|&(_, &extent)| extent > 1) {
                let reach = sign * (extent as i128 - 1);
                let index = terms.iter().position(|term| term.stride == stride as i128).unwrap_or(terms.len());
                if index == terms.len() {
                    terms.push(Term { stride: stride as i128, ..Term::default() });
                }
                terms[index].min += reach.min(0);
                terms[index].max += reach.max(0);
            }
        }
        terms.sort_by_key(|term| term.stride);
        let (mut divisor, mut rest) = (0, (0, 0));
        for term in &mut terms {
            divisor = gcd(divisor, term.stride);
            (term.divisor, term.rest) = (divisor, rest);
            rest = (rest.0 + term.stride * term.min, rest.1 + term.stride * term.max);
        }
        let (min, max) = (distance - self.element as i128 + 1, distance + other.element as i128 - 1);
        reaches(&terms, min, max, &mut { STEPS })
    }
}

/// A stride times a number from `min` to `max`.
#[derive(Default)]
struct Term {
    stride: i128,
    min: i128,
    max: i128,
    /// The greatest that this stride and all shorter ones have in common.
    divisor: i128,
    /// Least and greatest sum of the terms with shorter strides.
    rest: (i128, i128),
}

/// True if a sum of the `terms`, by ascending strides, lies within `min..=max`, and where `steps` end before that is known.
fn reaches(terms: &[Term], min: i128, max: i128, steps: &mut u32) -> bool {
    let Some((last, shorter)) = terms.split_last() else {
        return min <= 0 && 0 <= max;
    };
    *steps = steps.saturating_sub(1);
    if max.div_euclid(last.divisor) * last.divisor < min {
        return false;
    }
    let from = last.min.max(-(last.rest.1 - min).div_euclid(last.stride));
    let to = last.max.min((max - last.rest.0).div_euclid(last.stride));
    (from..=to).any(|n| *steps == 0 || reaches(shorter, min - n * last.stride, max - n * last.stride, steps))
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_arrays_do_not_overlap() {
        let at =
            |address, strides| StridedArray { memory: Memory::Host, address, strides, shape: [1, 5, 4, 3], element: 4 };
        let strides = [0, 12, 60, 240];
        let first = at(1000, strides);
        assert!(!first.overlaps(&at(1004, strides)));
        assert!(!at(1008, strides).overlaps(&first));
        assert!(first.overlaps(&at(1002, strides)));
        assert!(first.overlaps(&at(1012, strides)));
        assert!(!first.overlaps(&at(1004, [0, 12, 60, 300])) && first.overlaps(&at(1004, [0, 12, 60, 305])));
        // A byte and a float beside each other in a struct of 8 bytes.
        let of = |address, element| StridedArray { element, ..at(address, [0, 8, 40, 160]) };
        assert!(!of(0, 1).overlaps(&of(4, 4)) && !of(1, 1).overlaps(&of(4, 4)));
        assert!(of(2, 4).overlaps(&of(5, 1)) && !of(0, 4).overlaps(&of(7, 1)));
        // Planes one behind the other in each slice.
        let plane = |address| at(address, [0, 4, 20, 240]);
        assert!(!plane(0).overlaps(&plane(80)) && !plane(0).overlaps(&plane(160)));
        assert!(plane(0).overlaps(&plane(76)) && plane(0).overlaps(&plane(164)));
        // The end of a row of one is the beginning of a row of the other.
        let tight = |address| StridedArray { shape: [1, 3, 4, 1], element: 1, ..at(address, [0, 2, 5, 100]) };
        assert!(tight(0).overlaps(&tight(1)));
        assert!(!first.overlaps(&at(1000 + 240 * 2 + 60 * 3 + 12 * 4 + 4, strides)));
    }

    /// Random arrays of all kinds: nested, intertwined, with strides in common or not.
    #[test]
    fn as_byte_by_byte() {
        let mut state = 1_u32;
        let mut below = |end: u32| {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            ((state >> 8) % end) as usize
        };
        let (mut apart, mut inside_each_other) = (0, 0);
        for _ in 0..20_000 {
            let mut array = || {
                let element = [1, 2, 4, 8][below(4)];
                let shape = [1 + below(3), 1 + below(4), 1 + below(4), 1 + below(3)];
                let unit = [1, 2, 4, 12][below(4)];
                let strides = std::array::from_fn(|axis| unit * (1 + below([3, 12, 40, 100][axis])));
                StridedArray { memory: Memory::Host, address: below(200), strides, shape, element }
            };
            let (a, b) = (array(), array());
            let bytes = |of: &StridedArray| {
                let mut bytes = std::collections::BTreeSet::new();
                for index in 0..of.shape.iter().product::<usize>() {
                    let mut at = of.address;
                    let mut rest = index;
                    for axis in 0..4 {
                        at += rest % of.shape[axis] * of.strides[axis];
                        rest /= of.shape[axis];
                    }
                    bytes.extend(at..at + of.element);
                }
                bytes
            };
            let (of_a, of_b) = (bytes(&a), bytes(&b));
            let share = !of_a.is_disjoint(&of_b);
            assert_eq!(a.overlaps(&b), share);
            assert_eq!(b.overlaps(&a), share);
            apart += usize::from(!share);
            let intertwined = of_a.first() < of_b.last() && of_b.first() < of_a.last();
            inside_each_other += usize::from(!share && intertwined);
        }
        println!("{apart} of 20000 apart, {inside_each_other} of them intertwined");
        assert!(inside_each_other > 1000);
    }

    /// Arrays of which that cannot be told soon are taken to overlap; this would take hours.
    #[test]
    fn the_answer_comes_soon() {
        let of = |address, strides| {
            let shape = [255, 4001, 4001, 4001];
            StridedArray { memory: Memory::Host, address, strides, shape, element: 1 }
        };
        let (a, b) = (of(0, [30030, 39270, 46410, 51870]), of(15, [43890, 53130, 60060, 66990]));
        assert!(!a.overlaps(&b)); // all strides are multiples of 30
        let odd = |address, least: usize| of(address, [least, 3, 5, 7].map(|factor| (factor * least) << 20 | 1));
        assert!(odd(0, 11).overlaps(&odd(1 << 19, 13)));
    }
}
