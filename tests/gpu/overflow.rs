//! Activations beyond fp16 are an error that names the layer, not a mask made of infinities.

use patchmask::Error;
use patchmask::Session;
use safetensors::Dtype;

use crate::cases::discs;
use crate::support::{File, Random};
use crate::{driver, on_gpu};

#[test]
fn overflow_names_the_layer() {
    let Some(_gpu) = driver::take() else { return };
    let case = discs(&mut Random(12), (32, 16), (33, 20, 3));
    for (position, name) in [(0, "convolution 1 of 13"), (7, "convolution 4 of 13")] {
        let mut file = File::new(Dtype::F32, false, 1, 1, &[2]);
        for (tensor, values) in &mut file.tensors {
            let large = tensor.starts_with(&format!("features.{position}."));
            let value: f32 = if large { 30000.0 } else { 0.5 };
            let floats = values.bytes.len() / 4;
            values.bytes = (0..floats).flat_map(|_| value.to_le_bytes()).collect();
        }
        let model = file.load().unwrap();
        let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
        match case.mask_in(&session) {
            Err(Error::BadModel(text)) => assert!(text.contains(name), "{text}"),
            other => panic!("{other:?}"),
        }
    }
}
