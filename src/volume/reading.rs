//! The caller's voxels, read row by row.

use std::marker::PhantomData;

use super::array::StridedArray;
use super::extents::{Extents, Memory, Spacing, Strides};
use crate::cancel::{AT_A_TIME, Cancel};
use crate::error::Error;
use crate::memory::{Zeros, try_filled};

/// Type of the caller's voxels, with the number that it has in the C interface and in the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoxelType {
    /// Signed 8-bit.
    I8 = 1,
    /// Unsigned 8-bit.
    U8 = 2,
    /// Signed 16-bit.
    I16 = 3,
    /// Unsigned 16-bit.
    U16 = 4,
    /// Signed 32-bit.
    I32 = 5,
    /// Single precision.
    F32 = 6,
    /// Double precision.
    F64 = 7,
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

/// A borrowed, read-only volume.
#[derive(Clone, Copy)]
pub struct Volume<'a> {
    data: *const u8,
    memory: Memory,
    voxel: VoxelType,
    extents: Extents,
    strides: Strides,
    slope: f64,
    intercept: f64,
    spacing: Option<Spacing>,
    borrow: PhantomData<&'a [u8]>,
}

// SAFETY: a shared borrow of plain numbers.
unsafe impl Send for Volume<'_> {}
// SAFETY: as above.
unsafe impl Sync for Volume<'_> {}

impl<'a> Volume<'a> {
    /// A dense volume in a slice of `width * height * depth` voxels, x fastest, in HU.
    pub fn from_slice<T: Voxel>(voxels: &'a [T], width: usize, height: usize, depth: usize) -> Result<Self, Error> {
        let extents = Extents::new(width as u64, height as u64, depth as u64, "volume")?;
        if voxels.len() != extents.pixels() * depth {
            return Err(Error::invalid(format!(
                "volume: {} voxels given, {width} x {height} x {depth} needed",
                voxels.len()
            )));
        }
        let strides = Strides::dense(extents, T::TYPE.size(), "volume")?;
        // SAFETY: the slice holds exactly the voxels that extents and dense strides reach.
        unsafe { Self::from_raw(voxels.as_ptr().cast(), Memory::Host, T::TYPE, extents, strides, (1.0, 0.0), "volume") }
    }

    /// A volume at an address of the caller. `rescale` is (slope, intercept): HU = slope * voxel + intercept.
    ///
    /// # Safety
    /// Every voxel that `extents` and `strides` reach from `data` is readable for `'a`, in `memory`.
    pub unsafe fn from_raw(
        data: *const u8,
        memory: Memory,
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
        Ok(Self { data, memory, voxel, extents, strides, slope, intercept, spacing: None, borrow: PhantomData })
    }

    /// The same volume with its voxels' spacing within a slice.
    pub fn with_spacing(self, spacing: Option<Spacing>) -> Self {
        Self { spacing, ..self }
    }

    /// The voxels' spacing within a slice, where it is known.
    pub fn spacing(&self) -> Option<Spacing> {
        self.spacing
    }

    /// The volume's extents.
    pub fn extents(&self) -> Extents {
        self.extents
    }

    /// Copies voxels of a row from (x, y, z) on, in HU.
    pub(crate) fn read(&self, from: [usize; 3], values: &mut [f64]) {
        match self.voxel {
            VoxelType::I8 => self.read_as::<i8>(from, values, f64::from),
            VoxelType::U8 => self.read_as::<u8>(from, values, f64::from),
            VoxelType::I16 => self.read_as::<i16>(from, values, f64::from),
            VoxelType::U16 => self.read_as::<u16>(from, values, f64::from),
            VoxelType::I32 => self.read_as::<i32>(from, values, f64::from),
            VoxelType::F32 => self.read_as::<f32>(from, values, f64::from),
            VoxelType::F64 => self.read_as::<f64>(from, values, |value| value),
        }
    }

    /// [height][width] of slice `z`: true where the voxel, in HU, `is_wanted`.
    pub(crate) fn select(
        &self,
        z: usize,
        is_wanted: impl Fn(f64) -> bool,
        what: &str,
        cancel: &Cancel,
    ) -> Result<Zeros<bool>, Error> {
        let Extents { width, height, .. } = self.extents;
        let mut selected = Zeros::new(width * height, what)?;
        let mut values = try_filled(width.min(AT_A_TIME), 0.0, what)?;
        for (y, row) in selected.chunks_exact_mut(width).enumerate() {
            for (part, selected) in row.chunks_mut(AT_A_TIME).enumerate() {
                cancel.check()?;
                let values = &mut values[..selected.len()];
                self.read([part * AT_A_TIME, y, z], values);
                selected.iter_mut().zip(&*values).for_each(|(selected, &hu)| *selected = is_wanted(hu));
            }
        }
        Ok(selected)
    }

    /// Copies the voxels of row `y` of slice `z` as they are to `row`, one behind the other.
    pub(crate) fn copy_row(&self, y: usize, z: usize, row: &mut [u8]) {
        let size = self.voxel.size();
        assert!(self.memory == Memory::Host);
        assert!(y < self.extents.height && z < self.extents.depth);
        assert_eq!(row.len(), self.extents.width * size);
        let start = y * self.strides.y + z * self.strides.z;
        if self.strides.x == size {
            // SAFETY: a row of the volume, readable by the contract of `from_raw`; the caller's other buffers
            // do not overlap it, and `row` is ours.
            unsafe {
                let from = self.data.add(start);
                std::ptr::copy_nonoverlapping(from, row.as_mut_ptr(), row.len());
            }
            return;
        }
        for (x, voxel) in row.chunks_exact_mut(size).enumerate() {
            // SAFETY: as above, voxel by voxel.
            unsafe {
                let from = self.data.add(start + x * self.strides.x);
                std::ptr::copy_nonoverlapping(from, voxel.as_mut_ptr(), size);
            }
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// Type of the voxels, and (slope, intercept) to HU.
    pub(crate) fn voxel(&self) -> (VoxelType, (f64, f64)) {
        (self.voxel, (self.slope, self.intercept))
    }

    fn read_as<T: Copy>(&self, [x, y, z]: [usize; 3], values: &mut [f64], to_f64: impl Fn(T) -> f64) {
        assert!(self.memory == Memory::Host);
        assert!(y < self.extents.height && z < self.extents.depth);
        assert!(x + values.len() <= self.extents.width);
        let first = x * self.strides.x + y * self.strides.y + z * self.strides.z;
        for (index, value) in values.iter_mut().enumerate() {
            let offset = first + index * self.strides.x;
            // SAFETY: (x + index, y, z) is inside the extents, and all of these are readable by the contract
            // of `from_raw`; the offset was checked to stay below isize::MAX.
            let voxel = unsafe { self.data.add(offset).cast::<T>().read_unaligned() };
            *value = self.slope * to_f64(voxel) + self.intercept;
        }
    }

    /// Where it lies.
    pub(crate) fn array(&self) -> StridedArray {
        let (Extents { width, height, depth }, Strides { x, y, z }) = (self.extents, self.strides);
        StridedArray {
            memory: self.memory,
            address: self.data as usize,
            strides: [0, x, y, z],
            shape: [1, width, height, depth],
            element: self.voxel.size(),
        }
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
            Volume::from_raw(bytes.as_ptr(), Memory::Host, VoxelType::I16, extents, strides, (2.0, -1.0), "volume")
        }
        .unwrap();
        let mut row = [0.0; 3];
        volume.read([0, 0, 2], &mut row);
        assert_eq!(row, [-1.0, -1.0, 2.0 * f64::from(0x1234) - 1.0]);
        volume.read([1, 0, 1], &mut row[..2]);
        assert_eq!(row, [-1.0, -1.0, 2.0 * f64::from(0x1234) - 1.0]);
    }

    /// Every type from memory that ends with the last voxel, at an odd address.
    #[test]
    fn rows_of_every_type() {
        use VoxelType::*;
        for voxel in [I8, U8, I16, U16, I32, F32, F64] {
            let size = voxel.size();
            for strides in [[size, 3 * size, 6 * size], [size + 1, 29, 61], [50, 11, 150]] {
                let reach = 2 * strides[0] + strides[1] + strides[2] + size;
                let mut bytes = vec![0_u8; 1 + reach];
                let at = |x: usize, y: usize, z: usize| 1 + x * strides[0] + y * strides[1] + z * strides[2];
                for voxel_at in 0..12 {
                    let value = voxel_at as u8 + 1;
                    let stored = match voxel {
                        F32 => f32::from(value).to_ne_bytes().to_vec(),
                        F64 => f64::from(value).to_ne_bytes().to_vec(),
                        _ => i32::from(value).to_le_bytes()[..size].to_vec(),
                    };
                    bytes[at(voxel_at % 3, voxel_at / 3 % 2, voxel_at / 6)..][..size].copy_from_slice(&stored);
                }
                let extents = Extents::new(3, 2, 2, "volume").unwrap();
                let checked = Strides::new(strides.map(|stride| stride as u64), extents, size, "volume").unwrap();
                let data = bytes[1..].as_ptr();
                // SAFETY: the buffer ends with the last voxel.
                let volume =
                    unsafe { Volume::from_raw(data, Memory::Host, voxel, extents, checked, (2.0, 1.0), "volume") }
                        .unwrap();
                let (mut row, mut copy) = ([0.0; 3], vec![0; 3 * size]);
                for line in 0..4 {
                    volume.read([0, line % 2, line / 2], &mut row);
                    assert_eq!(
                        row,
                        [1, 2, 3].map(|x| 2.0 * f64::from(3 * line as i32 + x) + 1.0),
                        "{voxel:?} {strides:?}"
                    );
                    volume.copy_row(line % 2, line / 2, &mut copy);
                    let first = at(0, line % 2, line / 2);
                    assert_eq!(copy[..size], bytes[first..first + size]);
                }
            }
        }
    }
}
