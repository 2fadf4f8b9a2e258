//! The settings of a model's training: the `patchmask.*` strings of safetensors' `__metadata__`.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::archive::quoted;
use crate::error::Error;
use crate::network::{PATCH_SIZE_MAX, PATCH_SIZE_MIN};

/// All our keys begin with it; keys of others are ignored.
pub(super) const PREFIX: &str = "patchmask.";

/// The settings of the training; `None` or empty where the file does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// `patchmask.patch_size`: patch side in pixels, 32..=1024.
    pub patch_size: Option<u32>,
    /// `patchmask.stride`: pixels between patch centres, 1..=patch_size.
    pub stride: Option<u32>,
    /// `patchmask.window`, `LO,HI`: the HU mapped to 0 and 1. Finite, LO < HI.
    pub window: Option<(f64, f64)>,
    /// `patchmask.equalize`, `true` or `false`: histogram equalisation of each slice.
    pub equalize: Option<bool>,
    /// `patchmask.mean`: subtracted after the window, per input channel. One number in the file
    /// stands for all channels.
    pub mean: Option<[f64; 3]>,
    /// `patchmask.std`: divided by after the mean, per input channel, positive. One number in the
    /// file stands for all channels.
    pub std: Option<[f64; 3]>,
    /// `patchmask.classes`: one name per class, separated by commas.
    pub classes: Vec<String>,
    /// `patchmask.lesion_class`: the class whose probability is the lesion's.
    pub lesion_class: Option<u32>,
    /// `patchmask.pixel_mm`: side of the pixels that it was trained on, in mm, positive.
    pub pixel_mm: Option<f64>,
    /// `patchmask.threshold`: probability from which a voxel is of the lesion class, above 0, at most 1.
    pub threshold: Option<f64>,
}

impl Metadata {
    /// Reads the strings of a model with `input_channels` channels and `classes` classes.
    pub(super) fn parse(strings: BTreeMap<&str, &str>, input_channels: usize, classes: u32) -> Result<Self, Error> {
        let mut metadata = Self::default();
        for (key, value) in strings {
            let Some(short) = key.strip_prefix(PREFIX) else {
                continue;
            };
            let entry = Entry { key, value };
            match short {
                "patch_size" => {
                    let (low, high) = (PATCH_SIZE_MIN as u32, PATCH_SIZE_MAX as u32);
                    metadata.patch_size = Some(entry.integer(low, high)?);
                }
                "stride" => metadata.stride = Some(entry.integer(1, PATCH_SIZE_MAX as u32)?),
                "window" => metadata.window = Some(entry.window()?),
                "equalize" => metadata.equalize = Some(entry.boolean()?),
                "mean" => metadata.mean = Some(entry.per_channel(input_channels, "finite", |_| true)?),
                "std" => {
                    let positive = |std| std > 0.0;
                    metadata.std = Some(entry.per_channel(input_channels, "finite, above 0", positive)?);
                }
                "classes" => metadata.classes = entry.names(classes)?,
                "lesion_class" => metadata.lesion_class = Some(entry.integer(0, classes - 1)?),
                "pixel_mm" => metadata.pixel_mm = Some(entry.real("a positive number of mm", |mm| mm > 0.0)?),
                "threshold" => {
                    let is_one = |threshold| threshold > 0.0 && threshold <= 1.0;
                    metadata.threshold = Some(entry.real("above 0 and at most 1", is_one)?);
                }
                _ => {
                    return Err(Error::bad_model(format!(
                        "metadata {}: unknown; known are {PREFIX}{{patch_size,stride,window,\
                         equalize,mean,std,classes,lesion_class,pixel_mm,threshold}}",
                        quoted(key)
                    )));
                }
            }
        }
        if let (Some(patch_size), Some(stride)) = (metadata.patch_size, metadata.stride)
            && stride > patch_size
        {
            return Err(Error::bad_model(format!(
                "metadata {PREFIX}stride {stride}: must be 1..=patch_size ({patch_size})"
            )));
        }
        Ok(metadata)
    }
}

/// One key with its text.
struct Entry<'a> {
    key: &'a str,
    value: &'a str,
}

impl Entry<'_> {
    fn must_be(&self, what: &str) -> Error {
        let value = quoted(self.value);
        Error::bad_model(format!("metadata {} {value}: must be {what}", self.key))
    }

    fn integer(&self, low: u32, high: u32) -> Result<u32, Error> {
        number(self.value)
            .filter(|value| (low..=high).contains(value))
            .ok_or_else(|| self.must_be(&format!("{low}..={high}")))
    }

    fn boolean(&self) -> Result<bool, Error> {
        number(self.value).ok_or_else(|| self.must_be("true or false"))
    }

    fn real(&self, what: &str, allowed: impl Fn(f64) -> bool) -> Result<f64, Error> {
        number(self.value).filter(|&x: &f64| x.is_finite() && allowed(x)).ok_or_else(|| self.must_be(what))
    }

    fn window(&self) -> Result<(f64, f64), Error> {
        match self.finite_numbers(2).as_deref() {
            Some(&[low, high]) if low < high => Ok((low, high)),
            _ => Err(self.must_be("LO,HI: two finite numbers in HU, LO < HI")),
        }
    }

    fn per_channel(&self, channels: usize, limits: &str, allowed: impl Fn(f64) -> bool) -> Result<[f64; 3], Error> {
        let numbers = self.finite_numbers(channels).unwrap_or_default();
        let numbers = match numbers[..] {
            [all] => [all; 3],
            [red, green, blue] => [red, green, blue],
            _ => [f64::NAN; 3],
        };
        if numbers.iter().all(|&x| x.is_finite() && allowed(x)) {
            return Ok(numbers);
        }
        let count = if channels == 1 { "1 number" } else { "1 or 3 numbers separated by commas" };
        Err(self.must_be(&format!("{count}, {limits}")))
    }

    fn names(&self, classes: u32) -> Result<Vec<String>, Error> {
        let names: Vec<_> = self.value.split(',').map(|name| name.trim().to_owned()).collect();
        let usable = |name: &String| !name.is_empty() && !name.contains(char::is_control);
        if names.len() == classes as usize && names.iter().all(usable) {
            return Ok(names);
        }
        Err(self.must_be(&format!("{classes} names separated by commas, one per class, without control characters")))
    }

    /// The numbers between commas, if all are finite and there are at most `limit`.
    fn finite_numbers(&self, limit: usize) -> Option<Vec<f64>> {
        let numbers: Vec<f64> = self.value.split(',').take(limit + 1).map(number).collect::<Option<_>>()?;
        (numbers.len() <= limit && numbers.iter().all(|x| x.is_finite())).then_some(numbers)
    }
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}
