//! Borrowed views of the caller's voxels and output buffers: element type, extents, byte strides.
//!
//! Checks happen before a view is made, so that reading and writing through it is safe: extents are
//! positive, the last byte that the strides reach is addressable, and output views never reach a byte
//! twice. Rows are copied out and in with unaligned accesses: any stride and any address will do.

use std::marker::PhantomData;

use crate::error::Error;

/// Most pixels along x or y of a slice.
pub const SLICE_SIDE_MAX: u64 = 1 << 24;

/// Type of the caller's voxels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoxelType {
    /// Signed 8-bit.
    I8,
    /// Unsigned 8-bit.
    U8,
    /// Signed 16-bit.
    I16,
    /// Unsigned 16-bit.
    U16,
    /// Signed 32-bit.
    I32,
    /// Single precision.
    F32,
    /// Double precision.
    F64,
}

impl VoxelType {
    /// Bytes of one voxel.
    pub fn size(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }
}

/// Rust types that are voxels.
pub trait Voxel: Copy + Send + Sync + 'static {
    /// The matching [`VoxelType`].
    const TYPE: VoxelType;
}

macro_rules! voxel {
    ($($rust:ty => $name:ident),*) => {
        $(impl Voxel for $rust { const TYPE: VoxelType = VoxelType::$name; })*
    };
}
voxel!(i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, f32 => F32, f64 => F64);

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
                return Err(Error::invalid(format!(
                    "{name} {axis} {value}: must be 1..={SLICE_SIDE_MAX} voxels"
                )));
            }
        }
        let voxels = width
            .checked_mul(height)
            .and_then(|pixels| pixels.checked_mul(depth));
        if depth == 0 || voxels.is_none_or(|voxels| voxels > isize::MAX as u64) {
            return Err(Error::invalid(format!(
                "{name} depth {depth}: must be at least 1, and all voxels must fit in memory"
            )));
        }
        Ok(Self {
            width: width as usize,
            height: height as usize,
            depth: depth as usize,
        })
    }

    /// Pixels of one slice.
    pub fn pixels(self) -> usize {
        self.width * self.height
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
    pub fn new(
        strides: [u64; 3],
        extents: Extents,
        voxel_bytes: usize,
        name: &str,
    ) -> Result<Self, Error> {
        let shape = [1, extents.width, extents.height, extents.depth];
        let strides = [0, strides[0], strides[1], strides[2]];
        let [_, x, y, z] = checked_strides(strides, shape, voxel_bytes, name)?;
        Ok(Self { x, y, z })
    }
}

/// Names of the axes of a buffer in error texts, innermost first.
const AXES: [&str; 4] = ["class", "x", "y", "z"];

/// Strides of an array of `shape` (innermost first): given ones checked, all zero replaced by dense.
fn checked_strides(
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

/// A borrowed, read-only volume.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    data: *const u8,
    voxel: VoxelType,
    extents: Extents,
    strides: Strides,
    slope: f64,
    intercept: f64,
    borrow: PhantomData<&'a [u8]>,
}

// SAFETY: a shared borrow of plain numbers.
unsafe impl Send for Volume<'_> {}
// SAFETY: as above.
unsafe impl Sync for Volume<'_> {}

impl<'a> Volume<'a> {
    /// A dense volume in a slice of `width * height * depth` voxels, x fastest, in HU.
    pub fn from_slice<T: Voxel>(
        voxels: &'a [T],
        width: usize,
        height: usize,
        depth: usize,
    ) -> Result<Self, Error> {
        let extents = Extents::new(width as u64, height as u64, depth as u64, "volume")?;
        if voxels.len() != extents.pixels() * depth {
            return Err(Error::invalid(format!(
                "volume: {} voxels given, {width} x {height} x {depth} needed",
                voxels.len()
            )));
        }
        let strides = Strides::dense(extents, T::TYPE.size(), "volume")?;
        // SAFETY: the slice holds exactly the voxels that extents and dense strides reach.
        unsafe {
            Self::from_raw(
                voxels.as_ptr().cast(),
                T::TYPE,
                extents,
                strides,
                (1.0, 0.0),
                "volume",
            )
        }
    }

    /// A volume at an address of the caller. `rescale` is (slope, intercept): HU = slope * voxel +
    /// intercept.
    ///
    /// # Safety
    /// Every voxel that `extents` and `strides` reach from `data` is readable for `'a`.
    pub unsafe fn from_raw(
        data: *const u8,
        voxel: VoxelType,
        extents: Extents,
        strides: Strides,
        rescale: (f64, f64),
        name: &str,
    ) -> Result<Self, Error> {
        let (slope, intercept) = rescale;
        if !slope.is_finite() || slope == 0.0 || !intercept.is_finite() {
            return Err(Error::invalid(format!(
                "{name} slope {slope}, intercept {intercept}: must be finite, the slope not 0"
            )));
        }
        Ok(Self {
            data,
            voxel,
            extents,
            strides,
            slope,
            intercept,
            borrow: PhantomData,
        })
    }

    /// The volume's extents.
    pub fn extents(&self) -> Extents {
        self.extents
    }

    /// Copies row `y` of slice `z` to `row` (`width` values, in HU).
    pub fn read_row(&self, y: usize, z: usize, row: &mut [f64]) {
        match self.voxel {
            VoxelType::I8 => self.read_row_as::<i8>(y, z, row, f64::from),
            VoxelType::U8 => self.read_row_as::<u8>(y, z, row, f64::from),
            VoxelType::I16 => self.read_row_as::<i16>(y, z, row, f64::from),
            VoxelType::U16 => self.read_row_as::<u16>(y, z, row, f64::from),
            VoxelType::I32 => self.read_row_as::<i32>(y, z, row, f64::from),
            VoxelType::F32 => self.read_row_as::<f32>(y, z, row, f64::from),
            VoxelType::F64 => self.read_row_as::<f64>(y, z, row, |value| value),
        }
    }

    fn read_row_as<T: Copy>(&self, y: usize, z: usize, row: &mut [f64], to_f64: impl Fn(T) -> f64) {
        assert!(y < self.extents.height && z < self.extents.depth);
        assert_eq!(row.len(), self.extents.width);
        for (x, value) in row.iter_mut().enumerate() {
            let offset = x * self.strides.x + y * self.strides.y + z * self.strides.z;
            // SAFETY: (x, y, z) is inside the extents, and all of these are readable by the contract
            // of `from_raw`; the offset was checked to stay below isize::MAX.
            let voxel = unsafe { self.data.add(offset).cast::<T>().read_unaligned() };
            *value = self.slope * to_f64(voxel) + self.intercept;
        }
    }

    /// The bytes that this volume reaches, for overlap checks.
    pub(crate) fn footprint(&self) -> Footprint {
        let Extents {
            width,
            height,
            depth,
        } = self.extents;
        let strides = [0, self.strides.x, self.strides.y, self.strides.z];
        Footprint::new(
            self.data as usize,
            strides,
            [1, width, height, depth],
            self.voxel.size(),
        )
    }
}

/// An output buffer of the caller, whose shape is not known yet.
pub struct VolumeMut<'a, T> {
    data: *mut T,
    /// Elements behind `data`, where known.
    len: Option<usize>,
    /// Bytes, innermost (class) first; all zero: dense.
    strides: [u64; 4],
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: an exclusive borrow of plain numbers.
unsafe impl<T: Send> Send for VolumeMut<'_, T> {}

impl<'a, T: Copy> VolumeMut<'a, T> {
    /// A dense buffer.
    pub fn from_slice(buffer: &'a mut [T]) -> Self {
        Self {
            data: buffer.as_mut_ptr(),
            len: Some(buffer.len()),
            strides: [0; 4],
            borrow: PhantomData,
        }
    }

    /// A buffer at an address of the caller; `None` for NULL. Strides in bytes, innermost first.
    ///
    /// # Safety
    /// Every element that the strides reach in the shape of this output is writable for `'a`.
    pub unsafe fn from_raw(data: *mut T, strides: [u64; 4]) -> Option<Self> {
        (!data.is_null()).then_some(Self {
            data,
            len: None,
            strides,
            borrow: PhantomData,
        })
    }

    /// Checks the buffer against its shape (innermost first).
    pub(crate) fn grid(&mut self, shape: [usize; 4], name: &str) -> Result<Grid<'_, T>, Error> {
        let strides = checked_strides(self.strides, shape, size_of::<T>(), name)?;
        let elements = shape.iter().product::<usize>();
        if self.len.is_some_and(|len| len < elements) {
            return Err(Error::invalid(format!(
                "{name}: a buffer of {} elements given, {elements} needed",
                self.len.unwrap_or(0)
            )));
        }
        let mut order = [0, 1, 2, 3];
        order.sort_by_key(|&axis| strides[axis]);
        let mut reach = size_of::<T>();
        for axis in order.into_iter().filter(|&axis| shape[axis] > 1) {
            if strides[axis] < reach {
                return Err(Error::invalid(format!(
                    "{name} stride_{} {}: elements would overlap, must be at least {reach} bytes",
                    AXES[axis], strides[axis]
                )));
            }
            reach += strides[axis] * (shape[axis] - 1);
        }
        Ok(Grid {
            data: self.data.cast(),
            strides,
            shape,
            element: PhantomData,
        })
    }
}

/// An output buffer with its shape, checked: elements never overlap.
pub(crate) struct Grid<'a, T> {
    data: *mut u8,
    strides: [usize; 4],
    shape: [usize; 4],
    element: PhantomData<&'a mut [T]>,
}

// SAFETY: an exclusive borrow of plain numbers.
unsafe impl<T: Send> Send for Grid<'_, T> {}

impl<T: Copy> Grid<'_, T> {
    /// Writes element (class, x, y, z).
    pub(crate) fn set(&mut self, index: [usize; 4], value: T) {
        let mut offset = 0;
        for ((index, extent), stride) in index.into_iter().zip(self.shape).zip(self.strides) {
            assert!(index < extent);
            offset += index * stride;
        }
        // SAFETY: inside the shape, whose reach was checked and is writable by the contract of
        // `from_raw` (or the length of the slice).
        unsafe { self.data.add(offset).cast::<T>().write_unaligned(value) };
    }

    /// The bytes that this grid reaches, for overlap checks.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::new(self.data as usize, self.strides, self.shape, size_of::<T>())
    }
}

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
    fn new(start: usize, strides: [usize; 4], shape: [usize; 4], element: usize) -> Self {
        let reach: usize = (0..4).map(|axis| strides[axis] * (shape[axis] - 1)).sum();
        Self {
            start,
            span: reach + element,
            strides,
            shape,
            element,
        }
    }

    /// Whether two arrays may share a byte. Arrays of the same shape and strides that are interleaved in
    /// one buffer do not: at some axis the second lies behind the first, within one stride.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (low, high) = if self.start <= other.start {
            (self, other)
        } else {
            (other, self)
        };
        let distance = high.start - low.start;
        if distance >= low.span {
            return false;
        }
        let same_lattice = low.shape == high.shape
            && (0..4).all(|axis| low.shape[axis] == 1 || low.strides[axis] == high.strides[axis]);
        if !same_lattice {
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

    /// Three slices more than 2^32 bytes apart, in memory that is never touched in between.
    #[test]
    fn strides_beyond_32_bits() {
        const APART: usize = (1 << 32) + (1 << 31) + 7;
        let mut bytes = vec![0u8; 2 * APART + 6];
        bytes[2 * APART + 4] = 0x34;
        bytes[2 * APART + 5] = 0x12;
        let extents = Extents::new(3, 1, 3, "volume").unwrap();
        let strides = Strides::new([2, 6, APART as u64], extents, 2, "volume").unwrap();
        // SAFETY: the last byte that the strides reach is the last of the buffer.
        let volume = unsafe {
            Volume::from_raw(
                bytes.as_ptr(),
                VoxelType::I16,
                extents,
                strides,
                (2.0, -1.0),
                "volume",
            )
        }
        .unwrap();
        let mut row = [0.0; 3];
        volume.read_row(0, 2, &mut row);
        assert_eq!(row, [-1.0, -1.0, 2.0 * f64::from(0x1234) - 1.0]);
        volume.read_row(0, 1, &mut row);
        assert_eq!(row, [-1.0; 3]);
    }

    #[test]
    fn extents_and_strides_that_cannot_be_are_named() {
        let text = |outcome: Result<Strides, Error>| outcome.unwrap_err().to_string();
        let many = Extents::new(1 << 20, 1 << 20, 1 << 20, "volume").unwrap();
        assert_eq!(many.pixels(), 1 << 40);
        assert!(text(Strides::dense(many, 8, "volume")).contains("address space"));
        assert!(Extents::new(0, 1, 1, "volume").is_err());
        assert!(Extents::new(1, SLICE_SIDE_MAX + 1, 1, "volume").is_err());
        let small = Extents::new(4, 4, 4, "volume").unwrap();
        assert!(text(Strides::new([1, 4, 0], small, 1, "volume")).contains("stride_z 0"));
        let far = Strides::new([1, 4, u64::MAX / 2], small, 1, "volume");
        assert!(text(far).contains("address space"));
    }

    #[test]
    fn output_elements_may_not_overlap_each_other() {
        let mut byte = 0u8;
        // SAFETY: `grid` only checks; nothing is written.
        let mut buffer = |strides| unsafe { VolumeMut::from_raw(&raw mut byte, strides) }.unwrap();
        assert!(buffer([0, 1, 5, 20]).grid([1, 5, 4, 3], "mask").is_ok());
        assert!(buffer([0, 12, 3, 1]).grid([1, 5, 4, 3], "mask").is_ok());
        let error = buffer([0, 1, 4, 20])
            .grid([1, 5, 4, 3], "mask")
            .err()
            .unwrap();
        assert!(error.to_string().contains("stride_y 4"), "{error}");
    }

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
