//! The bytes that a strided array reaches, and arrays that share some.

/// The bytes that a strided array reaches.
#[derive(Clone, Copy)]
pub(crate) struct Footprint {
    start: usize,
    /// Bytes from the first to the end of the last element.
    span: usize,
    strides: [usize; 4],
    shape: [usize; 4],
    element: usize,
}

impl Footprint {
    pub(super) fn new(start: usize, strides: [usize; 4], shape: [usize; 4], element: usize) -> Self {
        let reach: usize = (0..4).map(|axis| strides[axis] * (shape[axis] - 1)).sum();
        Self { start, span: reach + element, strides, shape, element }
    }

    /// True if two arrays may share a byte. Arrays of the same shape and strides that are interleaved in
    /// one buffer do not: at some axis the second lies behind the first, within one stride.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (low, high) = if self.start <= other.start { (self, other) } else { (other, self) };
        let distance = high.start - low.start;
        if distance >= low.span {
            return false;
        }
        let same_layout = low.shape == high.shape
            && (0..4).all(|axis| low.shape[axis] == 1 || low.strides[axis] == high.strides[axis]);
        if !same_layout {
            return true;
        }
        let mut order = [0, 1, 2, 3];
        order.sort_by_key(|&axis| low.strides[axis]);
        // Bytes that the axes so far reach: of each array, and once they are apart of both together.
        let (mut reach_low, mut reach_high) = (low.element, high.element);
        let mut both = None;
        for axis in order.into_iter().filter(|&axis| low.shape[axis] > 1) {
            let stride = low.strides[axis];
            if both.is_none() && reach_low <= distance && distance + reach_high <= stride {
                both = Some(distance + reach_high);
            }
            let more = stride * (low.shape[axis] - 1);
            both = match both {
                Some(reach) if stride < reach => return true,
                reach => reach.map(|reach| reach + more),
            };
            reach_low += more;
            reach_high += more;
        }
        both.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_arrays_do_not_overlap() {
        let at = |start, strides| Footprint::new(start, strides, [1, 5, 4, 3], 4);
        let strides = [0, 12, 60, 240];
        let first = at(1000, strides);
        assert!(!first.overlaps(&at(1004, strides)));
        assert!(!at(1008, strides).overlaps(&first));
        assert!(first.overlaps(&at(1002, strides)));
        assert!(first.overlaps(&at(1012, strides)));
        assert!(first.overlaps(&at(1004, [0, 12, 60, 300])));
        // A byte and a float beside each other in a struct of 8 bytes.
        let of = |start, element| Footprint::new(start, [0, 8, 40, 160], [1, 5, 4, 3], element);
        assert!(!of(0, 1).overlaps(&of(4, 4)) && !of(1, 1).overlaps(&of(4, 4)));
        assert!(of(2, 4).overlaps(&of(5, 1)) && !of(0, 4).overlaps(&of(7, 1)));
        // Planes one behind the other in each slice.
        let plane = |start| Footprint::new(start, [0, 4, 20, 240], [1, 5, 4, 3], 4);
        assert!(!plane(0).overlaps(&plane(80)) && !plane(0).overlaps(&plane(160)));
        assert!(plane(0).overlaps(&plane(76)) && plane(0).overlaps(&plane(164)));
        // The end of a row of one is the beginning of a row of the other.
        let tight = |start| Footprint::new(start, [0, 2, 5, 100], [1, 3, 4, 1], 1);
        assert!(tight(0).overlaps(&tight(1)));
        assert!(!first.overlaps(&at(1000 + 240 * 2 + 60 * 3 + 12 * 4 + 4, strides)));
    }
}
