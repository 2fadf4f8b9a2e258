//! One slice of voxels as network input: intensities from 0 (black) to 1.
//!
//! ```text
//! x = clamp((HU - low) / (high - low), 0, 1)         HU of the model's pixels (`resampling`);
//!                                                    NaN and infinite voxels count as low
//! with equalisation, over the whole slice of N pixels, before any crop:
//!   level = floor(255 x + 0.5)                        0..=255
//!   h[l]  = pixels at level l;  m = smallest level present
//!   x = round(255 / (N - h[m]) * sum(h[m+1..=level])) / 255
//! ```
//! This is the cumulative-distribution formula of histogram equalisation (Gonzalez and Woods, Digital
//! Image Processing, section 3.3) in the form that OpenCV's `equalizeHist` computes, roundings
//! included: the factor in single precision, halves to even. A slice of one level is left as it is.
//!
//! Mean and deviation are not applied here: the engine folds them into the first layer, because the
//! zeros at a patch's border are zeros *after* normalisation, whereas black pixels are 0 before it.

use crate::axes::Axes;
use crate::cancel::{AT_A_TIME, Cancel};
use crate::error::Error;
use crate::memory::try_filled;
use crate::resampling::{PixelReader, Scale};
use crate::volume::Volume;

const LEVELS: usize = 256;

/// The way from HU to intensities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Intensity {
    /// HU that becomes 0.
    low: f64,
    /// HU that becomes 1.
    high: f64,
    /// Equalise the histogram of each slice.
    equalize: bool,
}

impl Intensity {
    /// Checks the window (HU).
    pub fn new(window: (f64, f64), equalize: bool) -> Result<Self, Error> {
        let (low, high) = window;
        if !(low.is_finite() && high.is_finite() && low < high && (high - low).is_finite()) {
            return Err(Error::invalid(format!(
                "window {low},{high}: must be two finite numbers in HU, the lower one first"
            )));
        }
        Ok(Self { low, high, equalize })
    }

    /// (low, high) of the window in HU, and whether histograms are equalised.
    pub(crate) fn settings(&self) -> ((f64, f64), bool) {
        ((self.low, self.high), self.equalize)
    }

    /// Fills `image` ([rows][columns] of pixels) from slice `z`; returns how many voxels were not finite.
    pub(crate) fn slice(
        &self,
        volume: &Volume<'_>,
        scale: Axes<Scale>,
        z: usize,
        image: &mut [f32],
        cancel: &Cancel,
    ) -> Result<u64, Error> {
        let columns = scale.columns.pixels;
        let mut values = try_filled(columns.min(AT_A_TIME), 0.0, "part of a row")?;
        let mut reader = PixelReader::new(volume, scale, self.low)?;
        let mut nonfinite = 0;
        for (y, row) in image.chunks_exact_mut(columns).enumerate() {
            for (part, pixels) in row.chunks_mut(AT_A_TIME).enumerate() {
                cancel.check()?;
                let values = &mut values[..pixels.len()];
                nonfinite += reader.read([part * AT_A_TIME, y, z], values);
                for (pixel, &hu) in pixels.iter_mut().zip(&*values) {
                    let x = ((hu - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
                    *pixel = if self.equalize { (255.0 * x + 0.5).floor() as f32 } else { x as f32 };
                }
            }
        }
        if self.equalize {
            equalize_levels(image, cancel)?;
        }
        Ok(nonfinite)
    }
}

/// Levels 0..=255 (whole numbers) in, equalised intensities 0..=1 out.
fn equalize_levels(image: &mut [f32], cancel: &Cancel) -> Result<(), Error> {
    let mut histogram = [0usize; LEVELS];
    cancel.each(image, |_, level| histogram[*level as usize] += 1)?;
    let lowest = histogram.iter().position(|&count| count > 0).unwrap_or(0);
    let others = image.len() - histogram[lowest];
    let mut table: [f32; LEVELS] = std::array::from_fn(|level| level as f32 / 255.0);
    if others > 0 {
        let factor = 255.0 / others as f32;
        let mut below = 0usize;
        for level in 0..LEVELS {
            if level > lowest {
                below += histogram[level];
            }
            table[level] = (below as f32 * factor).round_ties_even().min(255.0) / 255.0;
        }
    }
    cancel.each(image, |_, pixel| *pixel = table[*pixel as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_clamps_and_black_is_counted() {
        let voxels = [-1000.0, -160.0, 40.0, 240.0, f32::NAN, f32::NEG_INFINITY];
        let volume = Volume::from_slice(&voxels, 3, 2, 1).unwrap();
        let intensity = Intensity::new((-160.0, 240.0), false).unwrap();
        let mut image = [9.0; 6];
        let nonfinite =
            intensity.slice(&volume, Scale::same_axes(volume.extents()), 0, &mut image, &Cancel::default()).unwrap();
        assert_eq!(image, [0.0, 0.0, 0.5, 1.0, 0.0, 0.0]);
        assert_eq!(nonfinite, 2);
    }

    /// Golden levels from OpenCV's equalizeHist, made by tests/golden/make.py.
    #[test]
    fn equalisation_is_opencv_s() {
        let golden = include_str!("../tests/golden/equalize.txt");
        let mut lines = golden.lines().filter(|line| !line.starts_with('#'));
        let mut cases = 0;
        while let Some(title) = lines.next() {
            let mut levels = || -> Vec<f32> {
                let line = lines.next().expect("a line of levels");
                line.split_whitespace().map(|word| word.parse().expect("a level")).collect()
            };
            let (mut image, expected) = (levels(), levels());
            equalize_levels(&mut image, &Cancel::default()).unwrap();
            for (index, (have, want)) in image.iter().zip(&expected).enumerate() {
                assert_eq!(*have, want / 255.0, "{title}: pixel {index}");
            }
            cases += 1;
        }
        assert!(cases >= 4, "{cases} golden cases");
    }
}
