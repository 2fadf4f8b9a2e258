//! Extents and strides of a volume or an output, checked.

use crate::error::Error;

/// Maximum pixels along x or y of a slice.
pub const SLICE_SIDE_MAX: u64 = 1 << 24;

/// The memory of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Memory of the host.
    Host,
    /// Memory of the session's CUDA device, ready when the work of `stream` (a CUstream) is done.
    Cuda {
        /// Address of the CUstream; 0 is the default stream.
        stream: usize,
    },
}

/// Voxels along x (columns), y (rows) and z (slices), all positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Columns of a slice.
    pub width: usize,
    /// Rows of a slice.
    pub height: usize,
    /// Slices.
    pub depth: usize,
}

impl Extents {
    /// Checks the extents of the volume that the error texts call `name`.
    pub fn new(width: u64, height: u64, depth: u64, name: &str) -> Result<Self, Error> {
        for (axis, value) in [("width", width), ("height", height)] {
            if !(1..=SLICE_SIDE_MAX).contains(&value) {
                return Err(Error::invalid(format!("{name} {axis} {value}: must be 1..={SLICE_SIDE_MAX} voxels")));
            }
        }
        let voxels = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(depth));
        if depth == 0 || voxels.is_none_or(|voxels| voxels > isize::MAX as u64) {
            return Err(Error::invalid(format!(
                "{name} depth {depth}: must be at least 1, and all voxels must fit in memory"
            )));
        }
        Ok(Self { width: width as usize, height: height as usize, depth: depth as usize })
    }

    /// Pixels of one slice.
    pub fn pixels(self) -> usize {
        self.width * self.height
    }
}

/// Millimetres between the centres of neighbours within a slice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spacing {
    /// From a voxel to its right neighbour.
    pub x: f64,
    /// From a voxel to the one below it.
    pub y: f64,
}

impl Spacing {
    /// Both 0: unknown.
    pub fn new(x: f64, y: f64, name: &str) -> Result<Option<Self>, Error> {
        let known = |mm: f64| mm > 0.0 && mm.is_finite();
        match (x == 0.0 && y == 0.0, known(x) && known(y)) {
            (true, _) => Ok(None),
            (_, true) => Ok(Some(Self { x, y })),
            _ => Err(Error::invalid(format!(
                "{name} spacing {x}, {y}: must be above 0 and finite, in mm, or both 0 where unknown"
            ))),
        }
    }
}

/// Bytes between neighbours along each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strides {
    /// Bytes from a voxel to its right neighbour.
    pub x: usize,
    /// Bytes from a voxel to the one below it.
    pub y: usize,
    /// Bytes from a slice to the next.
    pub z: usize,
}

impl Strides {
    /// Dense strides, x fastest.
    pub fn dense(extents: Extents, voxel_bytes: usize, name: &str) -> Result<Self, Error> {
        Self::new([0; 3], extents, voxel_bytes, name)
    }

    /// Checks strides in bytes, x first; all zero means dense.
    pub fn new(strides: [u64; 3], extents: Extents, voxel_bytes: usize, name: &str) -> Result<Self, Error> {
        let shape = [1, extents.width, extents.height, extents.depth];
        let strides = [0, strides[0], strides[1], strides[2]];
        let [_, x, y, z] = checked_strides(strides, shape, voxel_bytes, name)?;
        Ok(Self { x, y, z })
    }
}

/// Names of the axes of a buffer in error texts, innermost first.
pub(super) const AXES: [&str; 4] = ["class", "x", "y", "z"];

/// Strides of an array of `shape` (innermost first): given ones checked, all zero replaced by dense.
pub(super) fn checked_strides(
    strides: [u64; 4],
    shape: [usize; 4],
    element: usize,
    name: &str,
) -> Result<[usize; 4], Error> {
    let too_large = || {
        Error::invalid(format!(
            "{name}: {} x {} x {} x {} elements with strides {strides:?} reach beyond the address \
             space",
            shape[0], shape[1], shape[2], shape[3]
        ))
    };
    let mut checked = [0usize; 4];
    if strides == [0; 4] {
        let mut next = element;
        for axis in 0..4 {
            checked[axis] = next;
            next = next.checked_mul(shape[axis]).ok_or_else(too_large)?;
        }
    } else {
        for axis in 0..4 {
            if strides[axis] == 0 && shape[axis] > 1 {
                return Err(Error::invalid(format!(
                    "{name} stride_{} 0: must be positive (or all strides 0 for a dense buffer)",
                    AXES[axis]
                )));
            }
            checked[axis] = usize::try_from(strides[axis]).map_err(|_| too_large())?;
        }
    }
    let mut span = element;
    for axis in 0..4 {
        span = checked[axis]
            .checked_mul(shape[axis] - 1)
            .and_then(|reach| span.checked_add(reach))
            .filter(|&span| span <= isize::MAX as usize)
            .ok_or_else(too_large)?;
    }
    Ok(checked)
}
