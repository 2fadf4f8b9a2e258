//! The layers of a file, by the names of its tensors.
//!
//! torchvision numbers the modules of `features` with ReLU and pooling counted, so the numbers of
//! the convolutions tell `vgg16` (convolution, ReLU) from `vgg16_bn` (convolution, batch norm,
//! ReLU). Linear layers are `classifier.N`, taken in order of N whatever the numbers are.

use std::collections::{BTreeMap, BTreeSet};

use super::archive::quoted;
use crate::error::Error;
use crate::network::{CONVOLUTIONS, DENSE_LAYERS_MAX};

/// Positions of the convolutions in torchvision's `vgg16().features`.
const PLAIN: [usize; CONVOLUTIONS] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
/// Positions of the convolutions in `vgg16_bn().features`; a batch norm follows each.
const WITH_BATCH_NORM: [usize; CONVOLUTIONS] = [0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40];
/// A counter of training steps that batch norm stores; no part of the network.
const IGNORED: &str = ".num_batches_tracked";

/// The layers of one file, every tensor of which is there.
#[derive(Debug)]
pub(super) struct Layers {
    batch_norm: bool,
    /// `classifier.N` in order of N, 1..=4 of them.
    dense: Vec<String>,
}

/// Module names of one convolution: tensors are these and `.weight`, `.bias` and so on.
#[derive(Debug)]
pub(super) struct ConvolutionNames {
    pub(super) convolution: String,
    pub(super) batch_norm: Option<String>,
}

impl Layers {
    /// Finds the layers; an error names tensors that are missing or unknown.
    pub(super) fn find(mut names: Vec<String>) -> Result<Self, Error> {
        names.retain(|name| !name.ends_with(IGNORED));
        let present: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let batch_norm = WITH_BATCH_NORM.iter().any(|position| {
            let module = format!("features.{}", position + 1);
            present.contains(format!("{module}.running_mean").as_str())
                || present.contains(format!("{module}.running_var").as_str())
        });
        let numbers: BTreeMap<u32, String> = present
            .iter()
            .filter_map(|name| dense_number(name))
            .map(|number| (number, format!("classifier.{number}")))
            .collect();
        let dense = numbers.into_values().collect();
        let layers = Self { batch_norm, dense };

        let expected = layers.tensors();
        let unknown = present.iter().filter(|name| !expected.contains(**name));
        report("unknown", unknown.copied(), &layers.expectation())?;
        if !(1..=DENSE_LAYERS_MAX).contains(&layers.dense.len()) {
            return Err(Error::bad_model(format!(
                "{} dense layers classifier.N: must be 1..={DENSE_LAYERS_MAX}",
                layers.dense.len()
            )));
        }
        let missing = expected.iter().map(String::as_str);
        let missing = missing.filter(|name| !present.contains(name));
        report("missing", missing, &layers.expectation())?;
        Ok(layers)
    }

    /// The 13 convolutions in order.
    pub(super) fn convolutions(&self) -> impl Iterator<Item = ConvolutionNames> {
        let positions = if self.batch_norm { WITH_BATCH_NORM } else { PLAIN };
        positions.into_iter().map(|position| ConvolutionNames {
            convolution: format!("features.{position}"),
            batch_norm: self.batch_norm.then(|| format!("features.{}", position + 1)),
        })
    }

    /// `classifier.N` in order.
    pub(super) fn dense(&self) -> &[String] {
        &self.dense
    }

    /// Every tensor that these layers have.
    fn tensors(&self) -> BTreeSet<String> {
        let mut tensors = BTreeSet::new();
        for names in self.convolutions() {
            let kinds = ["weight", "bias"];
            tensors.extend(kinds.map(|kind| format!("{}.{kind}", names.convolution)));
            if let Some(batch_norm) = names.batch_norm {
                let kinds = ["weight", "bias", "running_mean", "running_var"];
                tensors.extend(kinds.map(|kind| format!("{batch_norm}.{kind}")));
            }
        }
        for name in &self.dense {
            tensors.extend(["weight", "bias"].map(|kind| format!("{name}.{kind}")));
        }
        tensors
    }

    fn expectation(&self) -> String {
        let (model, positions) = match self.batch_norm {
            true => ("vgg16_bn", WITH_BATCH_NORM),
            false => ("vgg16", PLAIN),
        };
        let positions = positions.map(|position| position.to_string()).join(",");
        let batch_norm = match self.batch_norm {
            true => ", a batch norm with weight, bias, running_mean and running_var after each",
            false => "",
        };
        format!(
            "expected the names of torchvision's {model}: features.{{{positions}}}.{{weight,bias}}\
             {batch_norm}; classifier.N.{{weight,bias}}"
        )
    }
}

/// N of `classifier.N.weight` and `classifier.N.bias`, written without leading zeros.
fn dense_number(name: &str) -> Option<u32> {
    let (number, kind) = name.strip_prefix("classifier.")?.split_once('.')?;
    let value: u32 = number.parse().ok()?;
    (matches!(kind, "weight" | "bias") && number == value.to_string()).then_some(value)
}

/// An error that names the first few of `names`, if there are any.
fn report<'a>(what: &str, names: impl Iterator<Item = &'a str>, expectation: &str) -> Result<(), Error> {
    const SHOWN: usize = 4;
    let names: Vec<_> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Error::bad_model(format!("{what} tensor {}{more}: {expectation}", shown.join(", "))))
}
