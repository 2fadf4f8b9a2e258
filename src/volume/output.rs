//! The caller's output buffers.

use std::marker::PhantomData;

use super::array::StridedArray;
use super::extents::{AXES, Memory, checked_strides};
use crate::error::Error;

/// An output buffer of the caller, whose shape is not known yet.
pub struct VolumeMut<'a, T> {
    data: *mut T,
    memory: Memory,
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
            memory: Memory::Host,
            len: Some(buffer.len()),
            strides: [0; 4],
            borrow: PhantomData,
        }
    }

    /// A buffer at an address of the caller; `None` for NULL. Strides in bytes, innermost first.
    ///
    /// # Safety
    /// Every element that the strides reach in the shape of this output is writable for `'a`, in `memory`.
    pub unsafe fn from_raw(data: *mut T, memory: Memory, strides: [u64; 4]) -> Option<Self> {
        (!data.is_null()).then_some(Self { data, memory, len: None, strides, borrow: PhantomData })
    }

    /// Checks the buffer against its shape (innermost first).
    pub(crate) fn view(&mut self, shape: [usize; 4], name: &str) -> Result<OutputView<'_, T>, Error> {
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
        let (memory, address) = (self.memory, self.data as usize);
        let array = StridedArray { memory, address, strides, shape, element: size_of::<T>() };
        Ok(OutputView { data: self.data.cast(), array, borrow: PhantomData })
    }
}

/// An output buffer with its shape, checked: elements never overlap.
pub(crate) struct OutputView<'a, T> {
    data: *mut u8,
    pub(crate) array: StridedArray,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: an exclusive borrow of plain numbers.
unsafe impl<T: Send> Send for OutputView<'_, T> {}

impl<T: Copy> OutputView<'_, T> {
    /// Writes element (class, x, y, z).
    pub(crate) fn set(&mut self, index: [usize; 4], value: T) {
        assert!(self.array.memory == Memory::Host);
        let mut offset = 0;
        for ((index, extent), stride) in index.into_iter().zip(self.array.shape).zip(self.array.strides) {
            assert!(index < extent);
            offset += index * stride;
        }
        // SAFETY: inside the shape, whose reach was checked and is writable by the contract of
        // `from_raw` (or the length of the slice).
        unsafe { self.data.add(offset).cast::<T>().write_unaligned(value) };
    }

    /// Writes a row of elements along x, all classes of each: `values` is [x][class].
    pub(crate) fn set_row(&mut self, y: usize, z: usize, values: &[T]) {
        let StridedArray { strides, shape: [classes, width, height, depth], element, .. } = self.array;
        assert!(self.array.memory == Memory::Host);
        assert!(y < height && z < depth);
        assert_eq!(values.len(), classes * width);
        let classes_touch = classes == 1 || strides[0] == element;
        if classes_touch && strides[1] == classes * element {
            // SAFETY: the elements of a row follow each other, and all of them are writable, as in `set`.
            unsafe {
                let to = self.data.add(y * strides[2] + z * strides[3]);
                let from = values.as_ptr().cast::<u8>();
                std::ptr::copy_nonoverlapping(from, to, size_of_val(values));
            }
            return;
        }
        for (index, &value) in values.iter().enumerate() {
            self.set([index % classes, index / classes, y, z], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In memory that ends with the last element, at an odd address.
    #[test]
    fn every_element_is_written_and_nothing_else() {
        for strides in [[0; 4], [5, 11, 40, 200], [1, 3, 12, 60].map(|stride| 4 * stride), [300, 100, 20, 5]] {
            let (shape, mut bytes) = ([2, 3, 4, 2], vec![9_u8; 1 + 600]);
            let data = bytes.as_mut_ptr().wrapping_add(1).cast::<f32>();
            // SAFETY: the strides reach 600 bytes at most.
            let mut buffer = unsafe { VolumeMut::from_raw(data, Memory::Host, strides) }.unwrap();
            let mut view = buffer.view(shape, "logits").unwrap();
            let strides = view.array.strides;
            view.set([1, 2, 3, 1], 7.0);
            for row in 0..8 {
                view.set_row(row % 4, row / 4, &[0, 1, 2, 3, 4, 5].map(|value| (10 * row + value) as f32));
            }
            let mut expected = vec![9_u8; bytes.len()];
            for element in 0..48 {
                let [class, x, y, z] = [element % 2, element / 2 % 3, element / 6 % 4, element / 24];
                let offset = class * strides[0] + x * strides[1] + y * strides[2] + z * strides[3];
                let value = (10 * (element / 6) + element % 6) as f32;
                expected[1 + offset..][..4].copy_from_slice(&value.to_ne_bytes());
            }
            assert_eq!(bytes, expected);
        }
    }
}
