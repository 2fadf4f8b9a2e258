//! Strided arrays in memory of exactly the size that their strides reach.

use libfuzzer_sys::arbitrary::{Result, Unstructured};

/// Larger arrays are not tried.
const MAX_REACH: usize = 1 << 16;
/// Bytes before and behind an output.
const GUARD: usize = 64;

/// Shape (innermost first: class, x, y, z), strides in bytes as in the C structs, and bytes of an element.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub shape: [u64; 4],
    pub strides: [u64; 4],
    pub element: usize,
}

impl Layout {
    /// Any strides, mostly usable ones.
    pub fn arbitrary(u: &mut Unstructured, shape: [u64; 4], element: usize) -> Result<Self> {
        let mut strides = [0; 4];
        match u.int_in_range(0..=8)? {
            0..=2 => {}
            kind @ 3..=6 => {
                let mut order = [0, 1, 2, 3];
                if kind == 6 {
                    order.swap(u.choose_index(4)?, u.choose_index(4)?);
                }
                let mut next = element as u64;
                for axis in order {
                    strides[axis] = next.saturating_add(u.int_in_range(0..=if kind == 3 { 0 } else { 5 })?);
                    next = strides[axis].saturating_mul(shape[axis].max(1));
                }
            }
            7 => strides = [(); 4].map(|()| u.arbitrary::<u8>().unwrap_or(1).into()),
            _ => strides = u.arbitrary()?,
        }
        if shape[0] == 1 {
            strides[0] = 0; // not in the structs
        }
        Ok(Self { shape, strides, element })
    }

    fn dense(&self) -> [u64; 4] {
        if self.strides != [0; 4] {
            return self.strides;
        }
        let mut next = self.element as u64;
        self.shape.map(|length| {
            let stride = next;
            next = next.saturating_mul(length);
            stride
        })
    }

    /// Bytes from the first to the end of the last element; `None` where no buffer is that large, and a call must be
    /// refused.
    pub fn reach(&self) -> Option<u128> {
        let axes = self.shape.iter().zip(self.dense());
        let reach = axes.fold(self.element as u128, |reach, (&length, stride)| {
            reach.saturating_add(u128::from(length.saturating_sub(1)) * u128::from(stride))
        });
        (reach <= isize::MAX as u128).then_some(reach)
    }

    /// True where a call may be tried: with a buffer of that size, or with none since it must be refused.
    pub fn can_be_tried(&self) -> bool {
        self.reach().is_none_or(|reach| reach <= MAX_REACH as u128)
    }

    /// Bytes of the buffer that a call is given.
    pub fn bytes(&self) -> usize {
        self.reach().map_or(1, |reach| reach as usize)
    }

    /// Offset of each element, class fastest, z last. All strides reach inside [`Layout::bytes`].
    pub fn offsets(&self) -> impl Iterator<Item = usize> + use<> {
        let ([classes, width, height, depth], strides) = (self.shape, self.dense());
        let at = move |index: [u64; 4]| index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<u64>() as usize;
        (0..depth).flat_map(move |z| {
            (0..height).flat_map(move |y| (0..width).flat_map(move |x| (0..classes).map(move |c| at([c, x, y, z]))))
        })
    }
}

/// Bytes for an output, with guard zones, all of one value.
pub struct Output {
    bytes: Vec<u8>,
    fill: u8,
}

impl Output {
    pub fn new(bytes: usize, fill: u8) -> Self {
        Self { bytes: vec![fill; bytes + 2 * GUARD], fill }
    }

    pub fn address(&mut self) -> *mut u8 {
        self.bytes[GUARD..].as_mut_ptr()
    }

    /// The elements of a layout that lies in this buffer from `start` on, one behind the other.
    pub fn elements(&self, layout: &Layout, start: usize) -> Vec<u8> {
        let range = |offset: usize| GUARD + start + offset..GUARD + start + offset + layout.element;
        layout.offsets().flat_map(|offset| self.bytes[range(offset)].iter().copied()).collect()
    }

    /// Fails where a byte was written that is no element of `layouts`, each given with its start in the buffer.
    pub fn check_guards(&self, layouts: &[(Layout, usize)]) {
        let mut rest = self.bytes.clone();
        for (layout, start) in layouts {
            for offset in layout.offsets() {
                rest[GUARD + start + offset..][..layout.element].fill(self.fill);
            }
        }
        let touched = rest.iter().position(|&byte| byte != self.fill);
        assert_eq!(
            touched.map(|at| at as isize - GUARD as isize),
            None,
            "a byte outside the elements {layouts:?} was written"
        );
    }
}
