//! Model files built in memory: tiny VGG16s with reproducible random parameters.
#![allow(dead_code)] // each test binary uses a part

use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use patchmask::Error;
use patchmask::Model;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

pub const PLAIN: [usize; 13] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
pub const WITH_BATCH_NORM: [usize; 13] = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40];
/// Widths of the 13 convolutions, no two neighbours alike.
pub const WIDTHS: [usize; 13] = [2, 3, 1, 4, 2, 3, 5, 2, 3, 4, 2, 1, 3];

/// The splitmix64 generator.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    /// Uniform in -1..1.
    pub fn symmetric(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

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

impl File {
    /// A vgg16 (or vgg16_bn) whose dense layers have `dense` outputs; the first takes side x side.
    pub fn new(dtype: Dtype, batch_norm: bool, channels: usize, side: usize, dense: &[usize]) -> Self {
        let mut random = Random(7);
        let mut file = Self { tensors: BTreeMap::new(), strings: HashMap::new(), dtype };
        let positions = if batch_norm { WITH_BATCH_NORM } else { PLAIN };
        let mut inputs = channels;
        for (position, outputs) in positions.into_iter().zip(WIDTHS) {
            let name = format!("features.{position}");
            file.random(&format!("{name}.weight"), &[outputs, inputs, 3, 3], &mut random);
            file.random(&format!("{name}.bias"), &[outputs], &mut random);
            if batch_norm {
                let name = format!("features.{}", position + 1);
                for kind in ["weight", "bias", "running_mean"] {
                    file.random(&format!("{name}.{kind}"), &[outputs], &mut random);
                }
                let variance: Vec<f64> = (0..outputs).map(|_| random.symmetric().abs()).collect();
                file.set(&format!("{name}.running_var"), &[outputs], &variance);
                let counter = Tensor { dtype: Dtype::I64, shape: vec![], bytes: vec![9; 8] };
                file.tensors.insert(format!("{name}.num_batches_tracked"), counter);
            }
            inputs = outputs;
        }
        inputs *= side * side;
        for (index, &outputs) in dense.iter().enumerate() {
            let name = format!("classifier.{}", 3 * index);
            file.random(&format!("{name}.weight"), &[outputs, inputs], &mut random);
            file.random(&format!("{name}.bias"), &[outputs], &mut random);
            inputs = outputs;
        }
        file
    }

    /// A grey (1 channel) or coloured (3) vgg16 of these widths in fp16, whose dense layers, of which the first takes side
    /// x side, have `dense` outputs. Weights are scaled so that signals neither die nor grow; biases are up to `bias`.
    pub fn scaled(
        random: &mut Random,
        channels: usize,
        widths: &[usize; 13],
        side: usize,
        dense: &[usize],
        bias: f64,
    ) -> Self {
        let mut file = Self { tensors: BTreeMap::new(), strings: HashMap::new(), dtype: Dtype::F16 };
        let mut set = |name: String, shape: &[usize]| {
            let inputs: usize = shape[1..].iter().product();
            let mut values =
                |count: usize, scale: f64| -> Vec<f64> { (0..count).map(|_| random.symmetric() * scale).collect() };
            let weights = values(shape.iter().product(), (6.0 / inputs as f64).sqrt());
            file.set(&format!("{name}.weight"), shape, &weights);
            file.set(&format!("{name}.bias"), &shape[..1], &values(shape[0], bias));
        };
        let mut inputs = channels;
        for (position, &outputs) in PLAIN.into_iter().zip(widths) {
            set(format!("features.{position}"), &[outputs, inputs, 3, 3]);
            inputs = outputs;
        }
        inputs *= side * side;
        for (index, &outputs) in dense.iter().enumerate() {
            set(format!("classifier.{}", 3 * index), &[outputs, inputs]);
            inputs = outputs;
        }
        file
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

    fn random(&mut self, name: &str, shape: &[usize], random: &mut Random) {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| random.symmetric()).collect();
        self.set(name, shape, &values);
    }
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
