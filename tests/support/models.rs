//! Model files built in memory: VGG16s of any widths with random parameters.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;

use half::{bf16, f16};
use patchmask::Error;
use patchmask::Model;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::random::Random;

pub const PLAIN: [usize; 13] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
pub const WITH_BATCH_NORM: [usize; 13] = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40];
/// Widths of the 13 convolutions, no two neighbours alike.
pub const WIDTHS: [usize; 13] = [2, 3, 1, 4, 2, 3, 5, 2, 3, 4, 2, 1, 3];

#[derive(Clone)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// A model file in the making.
#[derive(Clone)]
pub struct File {
    pub tensors: BTreeMap<String, Tensor>,
    pub strings: HashMap<String, String>,
    pub dtype: Dtype,
}

/// The parts of a model file. Weights are scaled so that signals neither die nor grow.
#[derive(Clone, Copy)]
pub struct Vgg<'a> {
    pub dtype: Dtype,
    pub batch_norm: bool,
    /// 1 (grey) or 3.
    pub channels: usize,
    pub widths: &'a [usize; 13],
    /// Features that the first dense layer takes: side x side.
    pub side: usize,
    /// Outputs of the dense layers.
    pub dense: &'a [usize],
    /// The largest bias.
    pub bias: f64,
}

impl Vgg<'static> {
    pub const GREY: Self =
        Self { dtype: Dtype::F16, batch_norm: false, channels: 1, widths: &WIDTHS, side: 1, dense: &[2], bias: 0.2 };
}

impl Vgg<'_> {
    pub fn model(&self, random: &mut Random) -> TestModel {
        let file = self.file(random);
        let model = file.load().expect("a model");
        TestModel { file, model }
    }

    pub fn file(&self, random: &mut Random) -> File {
        let mut file = File { tensors: BTreeMap::new(), strings: HashMap::new(), dtype: self.dtype };
        let mut values = |count, scale| -> Vec<f64> { (0..count).map(|_| random.symmetric() * scale).collect() };
        let mut layer = |name: String, shape: &[usize]| {
            let inputs: usize = shape[1..].iter().product();
            file.set(&format!("{name}.weight"), shape, &values(shape.iter().product(), (6.0 / inputs as f64).sqrt()));
            file.set(&format!("{name}.bias"), &shape[..1], &values(shape[0], self.bias));
        };
        let positions = if self.batch_norm { WITH_BATCH_NORM } else { PLAIN };
        let mut inputs = self.channels;
        for (position, &outputs) in positions.into_iter().zip(self.widths) {
            layer(format!("features.{position}"), &[outputs, inputs, 3, 3]);
            inputs = outputs;
        }
        inputs *= self.side * self.side;
        for (index, &outputs) in self.dense.iter().enumerate() {
            layer(format!("classifier.{}", 3 * index), &[outputs, inputs]);
            inputs = outputs;
        }
        for (position, &outputs) in positions.into_iter().zip(self.widths).filter(|_| self.batch_norm) {
            let name = format!("features.{}", position + 1);
            for kind in ["weight", "bias", "running_mean"] {
                file.set(&format!("{name}.{kind}"), &[outputs], &values(outputs, 1.0));
            }
            let variance: Vec<f64> = values(outputs, 1.0).into_iter().map(f64::abs).collect();
            file.set(&format!("{name}.running_var"), &[outputs], &variance);
            let counter = Tensor { dtype: Dtype::I64, shape: vec![], bytes: vec![9; 8] };
            file.tensors.insert(format!("{name}.num_batches_tracked"), counter);
        }
        file
    }
}

impl File {
    /// A vgg16 (or vgg16_bn) of [`WIDTHS`] whose dense layers have `dense` outputs; the first takes side x side.
    pub fn new(dtype: Dtype, batch_norm: bool, channels: usize, side: usize, dense: &[usize]) -> Self {
        Vgg { dtype, batch_norm, channels, side, dense, bias: 1.0, ..Vgg::GREY }.file(&mut Random(7))
    }

    /// The usual one of these tests: f32, no batch norm, grey, 7 x 7, two dense layers, 2 classes.
    pub fn plain() -> Self {
        Self::new(Dtype::F32, false, 1, 7, &[5, 2])
    }

    pub fn set(&mut self, name: &str, shape: &[usize], values: &[f64]) {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        let bytes = values.iter().flat_map(|&x| to_bytes(self.dtype, x)).collect();
        let tensor = Tensor { dtype: self.dtype, shape: shape.to_vec(), bytes };
        self.tensors.insert(name.to_owned(), tensor);
    }

    /// Replaces one element.
    pub fn poke(&mut self, name: &str, index: usize, value: f64) {
        let bytes = to_bytes(self.dtype, value);
        let at = index * bytes.len();
        self.tensors.get_mut(name).unwrap().bytes[at..at + bytes.len()].copy_from_slice(&bytes);
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let tensor = self.tensors.remove(from).unwrap();
        self.tensors.insert(to.to_owned(), tensor);
    }

    pub fn string(mut self, key: &str, value: &str) -> Self {
        self.strings.insert(key.to_owned(), value.to_owned());
        self
    }

    /// The elements of a tensor as they are in the file.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let tensor = &self.tensors[name];
        let size = tensor.bytes.len() / tensor.shape.iter().product::<usize>();
        tensor.bytes.chunks(size).map(|bytes| from_bytes(tensor.dtype, bytes)).collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let views = self.tensors.iter().map(|(name, tensor)| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            (name, view.expect(name))
        });
        safetensors::serialize(views, Some(self.strings.clone())).unwrap()
    }

    pub fn load(&self) -> Result<Model, Error> {
        Model::from_bytes(&self.bytes())
    }
}

/// A model and the file that it was loaded from.
pub struct TestModel {
    pub file: File,
    model: Model,
}

impl TestModel {
    pub fn classes(&self) -> usize {
        self.describe().classes as usize
    }
}

impl Deref for TestModel {
    type Target = Model;

    fn deref(&self) -> &Model {
        &self.model
    }
}

/// A network of few channels for patches of this size.
pub fn network(random: &mut Random, patch_size: u32) -> TestModel {
    let channels = if random.below(2) == 0 { 1 } else { 3 };
    let classes = 2 + random.below(3);
    let mut dense: Vec<usize> = (0..random.below(3)).map(|_| 3 + random.below(20)).collect();
    // Several blocks of outputs in the head.
    if let Some(first) = dense.first_mut().filter(|_| random.below(4) == 0) {
        *first += 256;
    }
    dense.push(classes);
    let widths = &[3, 5, 6, 4, 7, 5, 4, 6, 8, 5, 4, 17, 6];
    Vgg { channels, widths, side: patch_size as usize / 32, dense: &dense, ..Vgg::GREY }.model(random)
}

/// A file with this JSON header and `data` zero bytes.
pub fn raw_file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// Asserts that the file is refused as BAD_MODEL with a text that holds all of `parts`.
#[track_caller]
pub fn refused(loaded: Result<Model, Error>, parts: &[&str]) {
    match loaded {
        Err(Error::BadModel(text)) => {
            for part in parts {
                assert!(text.contains(part), "no {part:?} in: {text}");
            }
            assert!(text.len() < 600, "{} bytes of text: {text}", text.len());
        }
        other => panic!("expected BadModel with {parts:?}, got {other:?}"),
    }
}

fn to_bytes(dtype: Dtype, value: f64) -> Vec<u8> {
    match dtype {
        Dtype::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::BF16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        Dtype::F32 => (value as f32).to_le_bytes().to_vec(),
        Dtype::F64 => value.to_le_bytes().to_vec(),
        _ => panic!("{dtype} is not a type of parameters"),
    }
}

fn from_bytes(dtype: Dtype, bytes: &[u8]) -> f64 {
    match dtype {
        Dtype::F16 => f16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        Dtype::BF16 => bf16::from_le_bytes(bytes.try_into().unwrap()).to_f64(),
        Dtype::F32 => f32::from_le_bytes(bytes.try_into().unwrap()).into(),
        Dtype::F64 => f64::from_le_bytes(bytes.try_into().unwrap()),
        _ => panic!("{dtype} is not a type of parameters"),
    }
}
