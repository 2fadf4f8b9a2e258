//! The safetensors container: tensors by name and the strings of `__metadata__`, borrowed from the file's bytes.
//!
//! The `safetensors` crate parses; before it does, the header's length and the numbers in it are
//! bounded here, so that what a file claims can neither make it allocate much nor overflow.

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::round::{F16_MAX, fits_f16, round_to_f16};
use crate::error::Error;
use crate::memory::try_with_capacity;

/// Largest header in bytes. That of a VGG16 has about 5 KB; parsing takes a multiple of its length.
const HEADER_MAX: u64 = 1 << 20;
/// Maximum digits of a size in the header. A file has at most 8 GiB, 10 digits.
const DIGITS_MAX: usize = 12;

pub(super) struct Archive<'a> {
    metadata: Metadata,
    /// All tensors one after another; offsets in `metadata` count from its start.
    data: &'a [u8],
}

/// One tensor of floating point numbers, row-major, little-endian.
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) float: Float,
    pub(super) shape: &'a [usize],
    pub(super) data: &'a [u8],
}

/// The element types that parameters may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

impl<'a> Archive<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let header = header(bytes)?;
        check_numbers(header)?;
        let (length, metadata) = SafeTensors::read_metadata(bytes).map_err(|error| {
            Error::bad_model(format!(
                "not a whole safetensors file ({}): is it truncated?",
                printable(&error.to_string(), 200)
            ))
        })?;
        Ok(Self { metadata, data: &bytes[8 + length..] })
    }

    /// Names of all tensors, in no particular order.
    pub(super) fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    /// The strings of `__metadata__`, sorted by key.
    pub(super) fn strings(&self) -> BTreeMap<&str, &str> {
        let strings = self.metadata.metadata().iter().flat_map(HashMap::iter);
        strings.map(|(key, value)| (key.as_str(), value.as_str())).collect()
    }

    /// The tensor `name` with shape `expected`, where `None` stands for any length from 1.
    pub(super) fn tensor<'s>(&'s self, name: &'s str, expected: &[Option<usize>]) -> Result<Tensor<'s>, Error> {
        let info = self.metadata.info(name);
        let info = info.ok_or_else(|| Error::bad_model(format!("tensor {name} is missing")))?;
        let TensorInfo { dtype, shape, data_offsets: (start, end) } = info;
        let float = match dtype {
            Dtype::F16 => Float::F16,
            Dtype::BF16 => Float::Bf16,
            Dtype::F32 => Float::F32,
            Dtype::F64 => Float::F64,
            _ => {
                return Err(Error::bad_model(format!("{name}: dtype {dtype}: must be F16, BF16, F32 or F64")));
            }
        };
        let fits = shape.len() == expected.len()
            && shape
                .iter()
                .zip(expected)
                .all(|(&length, &expected)| length >= 1 && expected.is_none_or(|expected| length == expected));
        let tensor = Tensor { name, float, shape, data: &self.data[*start..*end] };
        if fits { Ok(tensor) } else { Err(tensor.wrong_shape(&pattern(expected))) }
    }
}

impl Tensor<'_> {
    pub(super) fn len(&self) -> usize {
        self.data.len() / self.float.bytes()
    }

    pub(super) fn wrong_shape(&self, expected: &str) -> Error {
        let shape: Vec<_> = self.shape.iter().take(8).copied().map(Some).collect();
        let more = if self.shape.len() > 8 { " and more" } else { "" };
        Error::bad_model(format!("{}: shape {}{more}: expected {expected}", self.name, pattern(&shape)))
    }

    /// Element `index`; an error when it is NaN or infinite.
    pub(super) fn finite(&self, index: usize) -> Result<f64, Error> {
        let value = self.float.value(self.data, index);
        if value.is_finite() { Ok(value) } else { Err(self.bad_value(index, value, "")) }
    }

    /// `value`, which came of element `index` (`how` says by what), rounded to fp16.
    pub(super) fn round(&self, index: usize, value: f64, how: &str) -> Result<f16, Error> {
        round_to_f16(value).ok_or_else(|| self.bad_value(index, value, how))
    }

    /// All elements rounded to fp16.
    pub(super) fn to_f16(&self) -> Result<Vec<f16>, Error> {
        let mut rounded = try_with_capacity(self.len(), self.name)?;
        for index in 0..self.len() {
            rounded.push(self.round(index, self.float.value(self.data, index), "")?);
        }
        Ok(rounded)
    }

    /// An error unless every element is finite and within the range of fp16.
    pub(super) fn check_range(&self) -> Result<(), Error> {
        for index in 0..self.len() {
            let value = self.float.value(self.data, index);
            if !fits_f16(value) {
                return Err(self.bad_value(index, value, ""));
            }
        }
        Ok(())
    }

    fn bad_value(&self, index: usize, value: f64, how: &str) -> Error {
        // The flat index as one index per axis, last axis fastest.
        let mut rest = index;
        let mut position = Vec::new();
        for &length in self.shape.iter().rev() {
            position.insert(0, rest % length);
            rest /= length;
        }
        Error::bad_model(format!(
            "{}{position:?}{how} is {value}: parameters must be finite and at most {F16_MAX} in \
             magnitude, the limit of fp16",
            self.name
        ))
    }
}

impl Float {
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Element `index` of the little-endian `data`, exactly.
    #[inline]
    pub(super) fn value(self, data: &[u8], index: usize) -> f64 {
        match self {
            Self::F16 => f16::from_le_bytes(element(data, index)).to_f64(),
            Self::Bf16 => bf16::from_le_bytes(element(data, index)).to_f64(),
            Self::F32 => f64::from(f32::from_le_bytes(element(data, index))),
            Self::F64 => f64::from_le_bytes(element(data, index)),
        }
    }
}

#[inline]
fn element<const N: usize>(data: &[u8], index: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[index * N..][..N]);
    bytes
}

/// The JSON header: 8 bytes of length, little-endian, then as many bytes.
fn header(bytes: &[u8]) -> Result<&[u8], Error> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(Error::bad_model(format!("{} bytes: too short for a safetensors file", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > HEADER_MAX {
        return Err(Error::bad_model(format!(
            "header of {length} bytes: at most {HEADER_MAX}; is this a safetensors file?"
        )));
    }
    // At most 2^20, so it fits.
    rest.get(..length as usize).ok_or_else(|| {
        Error::bad_model(format!(
            "header of {length} bytes in a file of {}: truncated, or not a safetensors file",
            bytes.len()
        ))
    })
}

/// An error when a number outside the header's strings has too many digits: the parser adds up sizes unchecked.
fn check_numbers(header: &[u8]) -> Result<(), Error> {
    let (mut in_string, mut escaped, mut digits) = (false, false, 0);
    for &byte in header {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        in_string = byte == b'"';
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > DIGITS_MAX {
            return Err(Error::bad_model(format!(
                "the header claims a size of more than {DIGITS_MAX} digits: no tensor is that large"
            )));
        }
    }
    Ok(())
}

/// `[*, 3, 3, 3]`, `*` for any length from 1.
fn pattern(shape: &[Option<usize>]) -> String {
    let lengths = shape.iter().map(|length| length.map_or("*".to_owned(), |length| length.to_string()));
    format!("[{}]", lengths.collect::<Vec<_>>().join(", "))
}

/// Text from the file for an error: escaped, and cut after `limit` characters.
pub(super) fn printable(text: &str, limit: usize) -> String {
    let cut: String = text.chars().take(limit).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    format!("{}{dots}", cut.escape_debug())
}

/// [`printable`] in quotation marks, for names and values.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text, 80))
}
