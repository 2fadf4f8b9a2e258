//! Weights file -> network: one safetensors file with torchvision's names becomes a [`Model`].
//!
//! ```text
//! bytes --archive--> tensors by name + strings      container, limits
//!         names      which layers there are         plain or batch-norm layout, missing, unknown
//!         convolution, dense                        shapes, folding in f64, one rounding to fp16
//!         metadata                                  how the model was trained
//! ```
//!
//! Parameters are widened to f64, folded (batch norm into the convolutions, adaptive average
//! pooling into the first dense layer) and rounded to fp16 exactly once. That is the network, on
//! every engine. A file is never trusted: whatever it holds, loading gives a model or an error.

mod archive;
mod convolution;
mod dense;
mod metadata;
mod names;
mod packed_cache;
mod round;

use std::any::Any;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use self::archive::Archive;
use self::dense::FirstDense;
pub use self::metadata::Metadata;
use self::names::Layers;
use self::packed_cache::PackedCache;
use crate::error::Error;
use crate::memory::{ensure_headroom, try_with_capacity};
use crate::network::{CONVOLUTIONS, Convolution, Dense, feature_side};

/// Largest model file, in bytes. VGG16 with torchvision's widths has 1.1 GB in f64.
const FILE_MAX: u64 = 8 << 30;

/// A loaded VGG16: immutable, shared between threads and sessions.
pub struct Model {
    convolutions: Vec<Convolution>,
    first_dense: FirstDense,
    dense: Vec<Dense>,
    metadata: Metadata,
    description: Description,
    packed: PackedCache,
}

/// Description of a model, for reports and for choosing options.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// 1 (grey) or 3.
    pub input_channels: u32,
    /// Number of classes, 2..=255.
    pub classes: u32,
    /// Number of dense layers, 1..=4.
    pub dense_layers: u32,
    /// Class whose probability is the lesion's: from the metadata, else 1.
    pub lesion_class: u32,
    /// Patch side in pixels according to the metadata.
    pub patch_size: Option<u32>,
    /// Stride in pixels according to the metadata.
    pub stride: Option<u32>,
    /// Side of the pixels in mm according to the metadata.
    pub pixel_mm: Option<f64>,
    /// Probability from which a voxel has the lesion class according to the metadata.
    pub threshold: Option<f64>,
    /// Weights and biases, batch norm folded, the first dense layer as in the file.
    pub parameters: u64,
    /// SHA-256 of the file's bytes, lower-case hexadecimal.
    pub sha256: String,
    /// One name per class according to the metadata, else empty.
    pub class_names: Vec<String>,
}

impl Model {
    /// Loads a model from a safetensors file, which is read into memory, not mapped.
    ///
    /// Errors: `Io` when the file cannot be read or is not a regular file, `BadModel` when it is
    /// not a usable VGG16, `OutOfMemory`. The text of the first two names the path.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let bytes = read_file(path)?;
        Self::from_bytes(&bytes).map_err(|error| match error {
            Error::BadModel(text) => Error::BadModel(format!("{}: {text}", path.display())),
            other => other,
        })
    }

    /// Loads a model from the bytes of a safetensors file; nothing of `bytes` is kept.
    ///
    /// Errors: `BadModel` when they are not a usable VGG16, `OutOfMemory`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        ensure_headroom(0, "model")?;
        check_length(bytes.len() as u64)?;
        let archive = Archive::parse(bytes)?;
        let layers = Layers::find(archive.names())?;

        let mut convolutions: Vec<Convolution> = try_with_capacity(CONVOLUTIONS, "convolutions")?;
        for names in layers.convolutions() {
            let inputs = convolutions.last().map(|layer| layer.bias.len());
            convolutions.push(convolution::read(&archive, &names, inputs)?);
        }
        let input_channels = convolutions[0].weight.dim().1;
        let channels = convolutions[CONVOLUTIONS - 1].bias.len();

        let mut dense_names = layers.dense().iter();
        let first_name = dense_names.next().ok_or_else(|| Error::bad_model("no dense layer".into()))?;
        let first_dense = FirstDense::read(&archive, first_name, channels)?;
        let mut dense: Vec<Dense> = try_with_capacity(layers.dense().len(), "dense layers")?;
        let mut width = first_dense.outputs();
        for name in dense_names {
            let layer = dense::read(&archive, name, width)?;
            width = layer.bias.len();
            dense.push(layer);
        }
        let classes = class_count(width, layers.dense())?;

        let metadata = Metadata::parse(archive.strings(), input_channels, classes)?;
        if let Some(patch_size) = metadata.patch_size {
            first_dense
                .check_side(feature_side(patch_size as usize))
                .map_err(|error| Error::bad_model(format!("{}patch_size {patch_size}: {error}", metadata::PREFIX)))?;
        }
        let parameters = convolutions
            .iter()
            .map(|layer| layer.weight.len() + layer.bias.len())
            .chain(dense.iter().map(|layer| layer.weight.len() + layer.bias.len()))
            .fold(first_dense.parameters(), |sum, count| sum + count as u64);
        let description = Description {
            input_channels: input_channels as u32, // 1 or 3
            classes,
            dense_layers: layers.dense().len() as u32, // 1..=4
            lesion_class: metadata.lesion_class.unwrap_or(1),
            patch_size: metadata.patch_size,
            stride: metadata.stride,
            pixel_mm: metadata.pixel_mm,
            threshold: metadata.threshold,
            parameters,
            sha256: Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
            class_names: metadata.classes.clone(),
        };
        Ok(Self { convolutions, first_dense, dense, metadata, description, packed: PackedCache::default() })
    }

    /// The model's description.
    pub fn describe(&self) -> Description {
        self.description.clone()
    }

    /// The settings of the training, as far as the file says.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The 13 convolutions in order, batch norm folded.
    pub fn convolutions(&self) -> &[Convolution] {
        &self.convolutions
    }

    /// The first dense layer for patches whose last feature map is `side` x `side`: weight
    /// [out][channel * side * side], columns in (channel, row, column) order. Computed at each call:
    /// where the file's layer takes 7 x 7 and `side` is another, adaptive average pooling is folded.
    ///
    /// Errors: `InvalidArgument` when the layer does not fit (see [`Model::check_side`]), `BadModel`
    /// when a folded weight overflows fp16, `OutOfMemory`.
    pub fn first_dense(&self, side: usize) -> Result<Dense, Error> {
        self.first_dense.at_side(side)
    }

    /// The dense layers after the first, perhaps none.
    pub fn dense(&self) -> &[Dense] {
        &self.dense
    }

    /// Weights that an engine has packed under `key`, if some session still holds them, else those of `make`.
    pub(crate) fn packed<T: Any + Send + Sync>(
        &self,
        key: &str,
        make: impl FnOnce() -> Result<T, Error>,
    ) -> Result<Arc<T>, Error> {
        self.packed.get(key, make)
    }

    /// Fails unless patches whose last feature map is `side` x `side` fit the first dense layer: `InvalidArgument`
    /// names both sides and the patch sizes that fit.
    pub fn check_side(&self, side: usize) -> Result<(), Error> {
        self.first_dense.check_side(side)
    }
}

/// The description; parameters are too many to print.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Model").field(&self.description).finish()
    }
}

fn class_count(width: usize, dense: &[String]) -> Result<u32, Error> {
    match u8::try_from(width) {
        Ok(classes) if classes >= 2 => Ok(u32::from(classes)),
        _ => Err(Error::bad_model(format!(
            "{}.weight: {width} classes: the last dense layer must have 2..=255",
            dense.last().map_or("classifier", String::as_str)
        ))),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |reason: String| Error::Io(format!("{}: {reason}", path.display()));
    // Looked at before opening: opening a FIFO would wait for its writer.
    let kind = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?;
    if !kind.is_file() {
        return Err(failed("not a regular file: give the path of a safetensors file".into()));
    }
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let length = file.metadata().map_err(|error| failed(error.to_string()))?.len();
    check_length(length).map_err(|error| Error::bad_model(format!("{}: {error}", path.display())))?;
    let size = usize::try_from(length).map_err(|_| failed(format!("{length} bytes: too large")))?;
    let mut bytes = try_with_capacity(size, "model file")?;
    file.take(length).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() != size {
        return Err(failed(format!("{} of {size} bytes read: the file shrank meanwhile", bytes.len())));
    }
    Ok(bytes)
}

fn check_length(length: u64) -> Result<(), Error> {
    match length {
        0 => Err(Error::bad_model("the file is empty: expected a safetensors file".into())),
        1..=FILE_MAX => Ok(()),
        _ => Err(Error::bad_model(format!("{length} bytes: a model file has at most {FILE_MAX}"))),
    }
}
