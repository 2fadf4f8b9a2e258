//! The network that a model file is, in f64: the specification of how weights are read. It uses none of the library's
//! code.

use half::f16;

use super::models::{File, PLAIN, WITH_BATCH_NORM};

/// A convolution, weight [outputs][inputs][3][3], or a dense layer, weight [outputs][inputs].
pub struct Layer {
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// The 13 convolutions of a VGG16 and its dense layers.
pub struct Parameters {
    pub convolutions: Vec<Layer>,
    pub dense: Vec<Layer>,
}

impl Parameters {
    /// The file's parameters, folded: batch norm into the convolutions, and average pooling to 7 x 7 into the first
    /// dense layer where a patch leaves `side` x `side` features and that layer takes 7 x 7.
    pub fn unrounded(file: &File, side: usize) -> Self {
        let has_norm = file.tensors.contains_key("features.1.running_var");
        let positions = if has_norm { WITH_BATCH_NORM } else { PLAIN };
        let convolutions = Vec::from(positions.map(|position| {
            let layer = Layer::read(file, &format!("features.{position}"));
            if has_norm { layer.normalised(file, &format!("features.{}", position + 1)) } else { layer }
        }));
        let names = (0..100).map(|number| format!("classifier.{number}"));
        let names = names.filter(|name| file.tensors.contains_key(&format!("{name}.weight")));
        let mut dense: Vec<Layer> = names.map(|name| Layer::read(file, &name)).collect();
        let (inputs, channels) = (dense[0].inputs(), convolutions[12].bias.len());
        if inputs == channels * 49 && side != 7 {
            dense[0].weight = dense[0].weight.chunks(49).flat_map(|cells| unpooled(cells, side)).collect();
        }
        Self { convolutions, dense }
    }

    /// The network that the library promises to evaluate: these parameters, rounded to fp16 once.
    pub fn of(file: &File, side: usize) -> Self {
        let mut network = Self::unrounded(file, side);
        for layer in network.convolutions.iter_mut().chain(&mut network.dense) {
            for value in layer.weight.iter_mut().chain(&mut layer.bias) {
                *value = f16::from_f64(*value).to_f64();
            }
        }
        network
    }

    /// Channels of the image, 1 or 3.
    pub fn channels(&self) -> usize {
        self.convolutions[0].inputs() / 9
    }

    pub fn classes(&self) -> usize {
        self.dense[self.dense.len() - 1].bias.len()
    }
}

impl Layer {
    fn read(file: &File, name: &str) -> Self {
        let [weight, bias] = ["weight", "bias"].map(|kind| file.values(&format!("{name}.{kind}")));
        Self { weight, bias }
    }

    /// Weights of an output.
    fn inputs(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// The batch norm that follows, folded in: gamma * (w*x + b - mean) / sqrt(variance + 1e-5) + beta.
    fn normalised(mut self, file: &File, norm: &str) -> Self {
        let norm = ["weight", "bias", "running_mean", "running_var"].map(|kind| file.values(&format!("{norm}.{kind}")));
        let [gamma, beta, mean, variance] = norm;
        let inputs = self.inputs();
        for (o, (weights, bias)) in self.weight.chunks_mut(inputs).zip(&mut self.bias).enumerate() {
            let scale = gamma[o] / (variance[o] + 1e-5).sqrt();
            weights.iter_mut().for_each(|weight| *weight *= scale);
            *bias = (*bias - mean[o]) * scale + beta[o];
        }
        self
    }
}

/// Weights of 7 x 7 pooled features as weights of side x side features: as torchvision's AdaptiveAvgPool2d does, pooled
/// feature i is the mean of features floor(i * side / 7) to ceil((i + 1) * side / 7).
fn unpooled(cells: &[f64], side: usize) -> Vec<f64> {
    let features = |i: usize| i * side / 7..((i + 1) * side).div_ceil(7);
    let mut weights = vec![0.0; side * side];
    for (index, weight) in cells.iter().enumerate() {
        let (rows, columns) = (features(index / 7), features(index % 7));
        for (r, c) in rows.clone().flat_map(|r| columns.clone().map(move |c| (r, c))) {
            weights[r * side + c] += weight / (rows.len() * columns.len()) as f64;
        }
    }
    weights
}
