//! Random geometries and tiny networks.

use patchmask::Options;
use patchmask::Padding;

use crate::cases::size;
use crate::support::{Agreement, Case, Random, network};
use crate::{driver, on_gpu};

#[test]
fn random_geometries_agree_with_the_cpu() {
    let Some(gpu) = driver::take() else { return };
    println!("{}", gpu.name);
    for (padding, sharing) in [(Padding::Patch, true), (Padding::Image, true), (Padding::Patch, false)] {
        let mut agreement = Agreement::default();
        for number in 0..size(12, 2) as u64 {
            let mut random = Random(1000 + number);
            let case = Case::random(&mut random, padding);
            let model = network(&mut random, case.options.patch_size);
            let options = Options { sharing, ..on_gpu(&case) };
            agreement.compare(&case, &model, options);
        }
        println!("{padding:?}, sharing {sharing}: {agreement}");
    }
}
