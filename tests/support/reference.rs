//! The specification of the library, as plain loops in f64: every slice, every patch of it, every layer of the patch,
//! every voxel, one after another, with nothing shared between them. It takes options and parameters, and none of the
//! library's code. The tests compare results with it.
//!
//! ```text
//! voxels --> pixels --> intensities --> patches on a grid --> VGG16 --> logits --> class probabilities of each voxel
//! HU         HU         0 black .. 1    13 convolutions, 5 pools, dense layers     of the nearest patch, or between patches
//! ```

use std::collections::BTreeSet;
use std::ops::Range;

use patchmask::Interpolation;
use patchmask::Options;
use patchmask::{Crop, Padding};

use super::parameters::{Layer, Parameters};

/// The input: voxels, a ROI and the options of the call.
pub struct Scan<'a> {
    pub options: &'a Options,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
    /// mm along y and x, where they are known.
    pub spacing: Option<[f64; 2]>,
    /// [depth][height][width], HU
    pub voxels: Vec<f64>,
    /// The same shape: a class is wanted where it is not 0.
    pub roi: Option<&'a [u8]>,
}

/// Patch centres along one axis: the crop's first pixel and every `stride` pixels from there, inside the crop.
pub struct Axis {
    voxels: usize,
    pixels: usize,
    voxel_crop: Range<usize>,
    crop: Range<usize>,
    stride: usize,
}

impl Axis {
    pub fn count(&self) -> usize {
        self.crop.clone().step_by(self.stride).count()
    }

    /// The centres that decide voxel `x` of the crop, each with its share. Nearest: one, the lower of two as near.
    /// Linear: the two around the voxel, but one alone for a voxel on it or beyond the first or last.
    fn deciding(&self, x: usize, interpolation: Interpolation) -> Vec<(usize, f64)> {
        // All in parts of 1 / (2 voxels) pixels, from the middle of the first pixel: whole numbers.
        let [one, x] = [2 * self.voxels, (2 * x + 1) * self.pixels].map(|n| n as i64);
        let middle = x - self.voxels as i64;
        let centre = |k: usize| (self.crop.start + k * self.stride) as i64 * one;
        let distance = |k: &usize| (centre(*k) - middle).abs();
        let stride = self.stride as i64 * one;
        let from_first = (middle - centre(0)).max(0);
        let (before, past) = ((from_first / stride) as usize, from_first % stride);
        let share = past as f64 / stride as f64;
        match interpolation {
            Interpolation::Nearest => vec![((0..self.count()).min_by_key(distance).unwrap(), 1.0)],
            Interpolation::Linear if past == 0 || before + 1 == self.count() => vec![(before, 1.0)],
            Interpolation::Linear => vec![(before, 1.0 - share), (before + 1, share)],
        }
    }

    /// Pixel `i` as shares of voxels: the mean of those under it where pixels are larger, else between the two around it. In
    /// whole numbers as long as that goes: levels of the equalisation hang on the last bit.
    fn shares(&self, i: usize) -> Vec<(usize, f64)> {
        let (voxels, pixels) = (self.voxels, self.pixels);
        if pixels <= voxels {
            let overlap =
                |j: usize| ((i + 1) * voxels).min((j + 1) * pixels).saturating_sub((i * voxels).max(j * pixels));
            let shares = (0..voxels).map(|j| (j, overlap(j) as f64 / voxels as f64));
            return shares.filter(|&(_, share)| share > 0.0).collect();
        }
        let middle = ((2 * i + 1) * voxels).saturating_sub(pixels).min(2 * pixels * (voxels - 1));
        let (low, share) = (middle / (2 * pixels), (middle % (2 * pixels)) as f64 / (2 * pixels) as f64);
        vec![(low, 1.0 - share), ((low + 1).min(voxels - 1), share)]
    }
}

impl Scan<'_> {
    /// Rows (y) and columns (x) of the patch grid.
    pub fn grid(&self) -> [Axis; 2] {
        let whole = Crop { x0: 0, y0: 0, x1: self.width as u64, y1: self.height as u64 };
        let Crop { x0, y0, x1, y1 } = self.options.crop.unwrap_or(whole);
        let stride = self.options.stride as usize;
        let factors = match (self.spacing, self.options.pixel_mm, self.options.resample) {
            (Some(spacing), Some(pixel), true) => spacing.map(|mm| mm / pixel),
            _ => [1.0, 1.0],
        };
        let axis = |voxels: usize, factor: f64, first: u64, end: u64| {
            let (first, end) = (first as usize, end as usize);
            let is_alike = (factor - 1.0).abs() <= 0.02;
            let pixels = if is_alike { voxels } else { ((voxels as f64 * factor).round() as usize).max(1) };
            let crop = first * pixels / voxels..(end * pixels).div_ceil(voxels);
            Axis { voxels, pixels, voxel_crop: first..end, crop, stride }
        };
        [axis(self.height, factors[0], y0, y1), axis(self.width, factors[1], x0, x1)]
    }

    /// In the crop, the ROI and the body: only there voxels get a class. [depth][height][width]
    fn inside(&self) -> Vec<bool> {
        let [rows, columns] = self.grid();
        let mut inside = Vec::new();
        for z in 0..self.depth {
            let body = self.body(z);
            for (y, x) in (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x))) {
                let in_roi = self.roi.is_none_or(|roi| roi[inside.len()] != 0);
                let in_crop = rows.voxel_crop.contains(&y) && columns.voxel_crop.contains(&x);
                inside.push(in_crop && in_roi && body[y * self.width + x]);
            }
        }
        inside
    }

    /// Slice `z`, [height][width]: everything, or the largest component of what is above -500 HU and what that encloses.
    pub fn body(&self, z: usize) -> Vec<bool> {
        let slice = &self.voxels[z * self.height * self.width..][..self.height * self.width];
        if !self.options.body {
            return vec![true; slice.len()];
        }
        let tissue: Vec<bool> = slice.iter().map(|&hu| hu > -500.0 && hu.is_finite()).collect();
        let components = self.components(&tissue);
        let size = |first: usize| components.iter().filter(|&&component| component == first).count();
        let firsts = (0..slice.len()).filter(|&i| tissue[i] && components[i] == i);
        let largest = firsts.rev().max_by_key(|&first| size(first));
        let body: Vec<bool> = components.iter().map(|&component| Some(component) == largest).collect();
        let outside = self.components(&body);
        let is_border = |i: usize| {
            let (y, x) = (i / self.width, i % self.width);
            y == 0 || x == 0 || y + 1 == self.height || x + 1 == self.width
        };
        let reached: BTreeSet<usize> =
            (0..slice.len()).filter(|&i| is_border(i) && !body[i]).map(|i| outside[i]).collect();
        (0..slice.len()).map(|i| body[i] || !reached.contains(&outside[i])).collect()
    }

    /// For each pixel the first one that it is connected with by sides of equal pixels.
    fn components(&self, pixels: &[bool]) -> Vec<usize> {
        let mut first: Vec<usize> = (0..pixels.len()).collect();
        loop {
            let before = first.clone();
            for (a, b) in (0..pixels.len()).flat_map(|i| [(i, i + 1), (i, i + self.width)]) {
                let are_neighbours = b < pixels.len() && (b == a + self.width || b % self.width != 0);
                if are_neighbours && pixels[a] == pixels[b] {
                    let least = first[a].min(first[b]);
                    (first[a], first[b]) = (least, least);
                }
            }
            if first == before {
                return first;
            }
        }
    }

    /// Patches that decide a voxel, each with its share: (grid row, grid column, share).
    fn deciding(&self, y: usize, x: usize) -> Vec<(usize, usize, f64)> {
        let ([rows, columns], fill) = (self.grid(), self.options.interpolation);
        let mut patches = Vec::new();
        for (row, down) in rows.deciding(y, fill) {
            for (column, right) in columns.deciding(x, fill) {
                patches.push((row, column, down * right));
            }
        }
        patches
    }

    /// Slice `z`, [rows of pixels][columns]: the window becomes 0 (black) to 1. Voxels that are not finite are black.
    pub fn intensities(&self, z: usize) -> Vec<f64> {
        let (low, high) = self.options.window;
        let [rows, columns] = self.grid();
        let voxel = |y: usize, x: usize| self.voxels[(z * self.height + y) * self.width + x];
        let mut slice = Vec::new();
        for (i, j) in (0..rows.pixels).flat_map(|i| (0..columns.pixels).map(move |j| (i, j))) {
            let finite = |hu: f64| if hu.is_finite() { hu } else { low };
            let across = |y| columns.shares(j).into_iter().map(|(x, right)| right * finite(voxel(y, x))).sum::<f64>();
            let hu: f64 = rows.shares(i).into_iter().map(|(y, down)| down * across(y)).sum();
            slice.push(((hu - low) / (high - low)).clamp(0.0, 1.0));
        }
        if self.options.equalize { equalized(slice) } else { slice }
    }

    /// Logits of all patches, [depth][grid rows][grid columns][classes]. Patches that decide no voxel are not
    /// evaluated: NaN.
    pub fn logits(&self, parameters: &Parameters) -> Vec<f64> {
        let [rows, columns] = self.grid().map(|axis| axis.count());
        let (mut logits, inside) = (Vec::new(), self.inside());
        for z in 0..self.depth {
            let mut wanted = vec![false; rows * columns];
            for (y, x) in (0..self.height).flat_map(|y| (0..self.width).map(move |x| (y, x))) {
                if inside[(z * self.height + y) * self.width + x] {
                    self.deciding(y, x).into_iter().for_each(|(row, column, _)| wanted[row * columns + column] = true);
                }
            }
            let slice = self.intensities(z);
            for (point, wanted) in wanted.into_iter().enumerate() {
                match wanted {
                    true => logits.extend(self.patch(&slice, point / columns, point % columns, parameters)),
                    false => logits.extend(vec![f64::NAN; parameters.classes()]),
                }
            }
        }
        logits
    }

    /// Logits of one patch, whose middle pixel is its grid point. Outside the crop it is black. In IMAGE padding a tap
    /// that leaves the patch finds the true neighbour, within what all patches of the slice cover together.
    pub fn patch(&self, slice: &[f64], row: usize, column: usize, parameters: &Parameters) -> Vec<f64> {
        let (size, stride) = (self.options.patch_size as i64, self.options.stride as i64);
        let [rows, columns] = self.grid();
        let visible = |axis: &Axis, k: i64| match self.options.padding {
            Padding::Patch => 0..size,
            Padding::Image => -k * stride..(axis.count() as i64 - 1 - k) * stride + size,
        };
        let pixel = |axis: &Axis, k: i64, offset: i64| {
            let pixel = axis.crop.start as i64 + k * stride - size / 2 + offset;
            usize::try_from(pixel).ok().filter(|pixel| axis.crop.contains(pixel))
        };
        let (row, column) = (row as i64, column as i64);
        let mut map = Map::new(visible(&rows, row), visible(&columns, column), parameters.channels());
        for (r, c) in map.positions() {
            let intensity = match (pixel(&rows, row, r), pixel(&columns, column, c)) {
                (Some(y), Some(x)) => slice[y * columns.pixels + x],
                _ => 0.0,
            };
            for channel in 0..map.channels.len() {
                let normalised = (intensity - self.options.mean[channel]) / self.options.std[channel];
                *map.at(channel, r, c) = normalised;
            }
        }
        for (number, layer) in parameters.convolutions.iter().enumerate() {
            map = map.convolved(layer);
            if [1, 3, 6, 9, 12].contains(&number) {
                map = map.pooled();
            }
        }
        dense_layers(map.features(size / 32), &parameters.dense)
    }

    /// Class probabilities of every voxel by these logits, [depth][height][width]; `None` outside the crop, the ROI and the body.
    /// A voxel's class is that of [`Scan::class`].
    pub fn probabilities(&self, logits: &[f64]) -> Vec<Option<Vec<f64>>> {
        let [rows, columns] = self.grid().map(|axis| axis.count());
        let classes = logits.len() / rows / columns / self.depth;
        let mut voxels = Vec::new();
        for (voxel, inside) in self.inside().into_iter().enumerate() {
            let (z, y, x) = (voxel / self.width / self.height, voxel / self.width % self.height, voxel % self.width);
            voxels.push(inside.then(|| {
                let mut mixed = vec![0.0; classes];
                for (row, column, share) in self.deciding(y, x) {
                    let of_patch = softmax(&logits[((z * rows + row) * columns + column) * classes..][..classes]);
                    (0..classes).for_each(|class| mixed[class] += share * of_patch[class]);
                }
                mixed
            }));
        }
        voxels
    }
}

impl Scan<'_> {
    /// The largest of the probabilities; with a threshold the lesion class from there on, else the largest of the others.
    pub fn class(&self, probabilities: &[f64]) -> usize {
        let lesion = self.options.lesion_class as usize;
        match self.options.threshold {
            None => largest(probabilities),
            Some(threshold) if probabilities[lesion] >= threshold => lesion,
            Some(_) => {
                let mut others = probabilities.to_vec();
                others[lesion] = -1.0;
                largest(&others)
            }
        }
    }
}

/// Histogram equalisation in 256 levels, as OpenCV's equalizeHist has it: the factor is in single precision.
fn equalized(slice: Vec<f64>) -> Vec<f64> {
    let levels: Vec<usize> = slice.iter().map(|x| (255.0 * x + 0.5).floor() as usize).collect();
    let lowest = *levels.iter().min().unwrap();
    let above_lowest = |up_to| levels.iter().filter(|&&level| lowest < level && level <= up_to).count() as f32;
    let factor = 255.0 / above_lowest(255);
    let table: Vec<f64> = match factor.is_finite() {
        true => (0..256).map(|level| (above_lowest(level) * factor).round_ties_even().min(255.0).into()).collect(),
        false => (0..256).map(f64::from).collect(), // one level: left as it is
    };
    levels.into_iter().map(|level| table[level] / 255.0).collect()
}

/// Each has a rectifier, but for the last.
fn dense_layers(mut features: Vec<f64>, layers: &[Layer]) -> Vec<f64> {
    for (number, layer) in layers.iter().enumerate() {
        let sums = layer.bias.iter().zip(layer.weight.chunks(features.len())).map(|(bias, weights)| {
            let sum = bias + weights.iter().zip(&features).map(|(w, x)| w * x).sum::<f64>();
            if number + 1 < layers.len() { sum.max(0.0) } else { sum }
        });
        features = sums.collect();
    }
    features
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|exponential| exponential / sum).collect()
}

/// Index of the largest value, the first of equals.
pub fn largest(values: &[f64]) -> usize {
    (0..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

/// [channels][rows][columns]; row and column 0 are the patch's first.
struct Map {
    rows: Range<i64>,
    columns: Range<i64>,
    channels: Vec<Vec<f64>>,
}

impl Map {
    fn new(rows: Range<i64>, columns: Range<i64>, channels: usize) -> Self {
        let pixels = ((rows.end - rows.start) * (columns.end - columns.start)) as usize;
        Self { rows, columns, channels: vec![vec![0.0; pixels]; channels] }
    }

    fn positions(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let columns = self.columns.clone();
        self.rows.clone().flat_map(move |r| columns.clone().map(move |c| (r, c)))
    }

    fn index(&self, r: i64, c: i64) -> usize {
        ((r - self.rows.start) * (self.columns.end - self.columns.start) + c - self.columns.start) as usize
    }

    fn at(&mut self, channel: usize, r: i64, c: i64) -> &mut f64 {
        let index = self.index(r, c);
        &mut self.channels[channel][index]
    }

    /// Zero outside the map.
    fn value(&self, channel: usize, r: i64, c: i64) -> f64 {
        if self.rows.contains(&r) && self.columns.contains(&c) { self.channels[channel][self.index(r, c)] } else { 0.0 }
    }

    /// 3 x 3, with a rectifier.
    fn convolved(&self, layer: &Layer) -> Self {
        let inputs = self.channels.len();
        let mut out = Self::new(self.rows.clone(), self.columns.clone(), layer.bias.len());
        for o in 0..layer.bias.len() {
            for (r, c) in out.positions() {
                let mut sum = layer.bias[o];
                for i in 0..inputs {
                    for tap in 0..9 {
                        let weight = layer.weight[(o * inputs + i) * 9 + tap];
                        sum += weight * self.value(i, r + tap as i64 / 3 - 1, c + tap as i64 % 3 - 1);
                    }
                }
                *out.at(o, r, c) = sum.max(0.0);
            }
        }
        out
    }

    /// The largest of each 2 x 2, counted from the patch's first row and column; incomplete ones are dropped.
    fn pooled(&self) -> Self {
        let half = |range: &Range<i64>| (range.start + 1).div_euclid(2)..range.end.div_euclid(2);
        let mut out = Self::new(half(&self.rows), half(&self.columns), self.channels.len());
        for channel in 0..self.channels.len() {
            for (r, c) in out.positions() {
                let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| self.value(channel, 2 * r + i, 2 * c + j));
                *out.at(channel, r, c) = four.into_iter().fold(f64::NEG_INFINITY, f64::max);
            }
        }
        out
    }

    /// The patch's own `side` x `side`, [channels][rows][columns].
    fn features(&self, side: i64) -> Vec<f64> {
        let own = (0..side).flat_map(|r| (0..side).map(move |c| (r, c)));
        (0..self.channels.len()).flat_map(|i| own.clone().map(move |(r, c)| self.value(i, r, c))).collect()
    }
}
