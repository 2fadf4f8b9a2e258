//! VGG16 on single patches by plain loops in f64, written for being obviously right.

use std::ops::Range;

use patchmask::Model;
use patchmask::Padding;

use crate::geometry::Case;

/// Convolutions after which VGG16 pools.
const POOLS: [usize; 5] = [1, 3, 6, 9, 12];

/// [channels][rows][columns], rows and columns at positions `rows`, `columns` relative to a patch.
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

    fn index(&self, r: i64, c: i64) -> usize {
        ((r - self.rows.start) * (self.columns.end - self.columns.start) + c - self.columns.start) as usize
    }

    /// Zero outside the map.
    fn at(&self, channel: usize, r: i64, c: i64) -> f64 {
        if self.rows.contains(&r) && self.columns.contains(&c) { self.channels[channel][self.index(r, c)] } else { 0.0 }
    }

    fn positions(&self) -> impl Iterator<Item = (i64, i64)> + use<> {
        let columns = self.columns.clone();
        self.rows.clone().flat_map(move |r| columns.clone().map(move |c| (r, c)))
    }

    fn convolve(&self, model: &Model, layer: usize) -> Self {
        let layer = &model.convolutions()[layer];
        let (outputs, inputs) = (layer.weight.shape()[0], layer.weight.shape()[1]);
        let mut out = Self::new(self.rows.clone(), self.columns.clone(), outputs);
        for o in 0..outputs {
            for (r, c) in self.positions() {
                let mut sum = layer.bias[o].to_f64();
                for i in 0..inputs {
                    for dr in 0..3 {
                        for dc in 0..3 {
                            let weight = layer.weight[[o, i, dr, dc]].to_f64();
                            sum += weight * self.at(i, r + dr as i64 - 1, c + dc as i64 - 1);
                        }
                    }
                }
                let index = out.index(r, c);
                out.channels[o][index] = sum.max(0.0);
            }
        }
        out
    }

    /// Cells of 2 x 2 anchored at position 0; those that are not complete are dropped.
    fn pool(&self) -> Self {
        let half = |range: &Range<i64>| (range.start + 1).div_euclid(2)..range.end.div_euclid(2);
        let mut out = Self::new(half(&self.rows), half(&self.columns), self.channels.len());
        for channel in 0..self.channels.len() {
            for (r, c) in out.positions() {
                let cell = [(0, 0), (0, 1), (1, 0), (1, 1)];
                let values = cell.map(|(dr, dc)| self.at(channel, 2 * r + dr, 2 * c + dc));
                let index = out.index(r, c);
                out.channels[channel][index] = values.into_iter().fold(f64::NEG_INFINITY, f64::max);
            }
        }
        out
    }
}

/// Logits of the patch at lattice point (`row`, `column`) of slice `z`.
pub fn logits(case: &Case, model: &Model, z: usize, row: usize, column: usize) -> Vec<f64> {
    let patch = i64::from(case.options.patch_size);
    let stride = i64::from(case.options.stride);
    let (x0, y0, x1, y1) = case.crop();
    let starts = |count: usize| (count as i64 - 1) * stride - patch / 2;
    let top = row as i64 * stride - patch / 2;
    let left = column as i64 * stride - patch / 2;
    let (rows, columns) = match case.options.padding {
        Padding::Patch => (0..patch, 0..patch),
        Padding::Image => {
            let (columns, rows) = case.lattice();
            (-patch / 2 - top..starts(rows) + patch - top, -patch / 2 - left..starts(columns) + patch - left)
        }
    };
    let inputs = model.convolutions()[0].weight.shape()[1];
    let mut map = Map::new(rows, columns, inputs);
    for (r, c) in map.positions() {
        let (y, x) = (top + r, left + c);
        let inside = (0..y1 - y0).contains(&y) && (0..x1 - x0).contains(&x);
        let intensity = if inside { case.intensity(z, (y0 + y) as usize, (x0 + x) as usize) } else { 0.0 };
        let index = map.index(r, c);
        for channel in 0..inputs {
            map.channels[channel][index] = (intensity - case.options.mean[channel]) / case.options.std[channel];
        }
    }
    for layer in 0..13 {
        map = map.convolve(model, layer);
        if POOLS.contains(&layer) {
            map = map.pool();
        }
    }
    let side = patch / 32;
    let mut features: Vec<f64> = (0..map.channels.len())
        .flat_map(|channel| (0..side).flat_map(move |r| (0..side).map(move |c| (channel, r, c))))
        .map(|(channel, r, c)| map.at(channel, r, c))
        .collect();
    let first = model.first_dense(side as usize).expect("it fits");
    let layers: Vec<_> = std::iter::once(&first).chain(model.dense()).collect();
    for (index, layer) in layers.iter().enumerate() {
        features = (0..layer.bias.len())
            .map(|o| {
                let terms = features.iter().enumerate().map(|(i, x)| x * layer.weight[[o, i]].to_f64());
                let sum = layer.bias[o].to_f64() + terms.sum::<f64>();
                if index + 1 < layers.len() { sum.max(0.0) } else { sum }
            })
            .collect();
    }
    features
}
