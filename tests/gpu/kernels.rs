//! Every kernel in one short run: what compute-sanitizer looks at (tests/gpu/run.sh).

use patchmask::Interpolation;

use crate::cases::{discs, network};
use crate::support::{Agreement, Random};
use crate::{driver, on_gpu};

/// Inputs that chunks of 64, of 32 and only of 16 channels divide, each with outputs for a block of 64 and of 128: every
/// convolution kernel that the engine would choose on this GPU for any layer.
const WIDTHS: [usize; 13] = [16, 64, 128, 64, 96, 128, 32, 64, 48, 128, 32, 48, 64];

#[test]
fn every_kernel() {
    let Some(_gpu) = driver::take() else { return };
    let mut random = Random(77);
    let model = network(&mut random, &WIDTHS, 33);
    let mut case = discs(&mut random, (33, 16), (35, 20, 3));
    case.options.equalize = true;
    case.options.interpolation = Interpolation::Linear;
    case.roi = Some((0..35 * 20 * 3).map(|i| u8::from(i % 35 < 30)).collect());
    let mut agreement = Agreement::default();
    agreement.compare(&case, &model, on_gpu(&case));
    println!("every kernel: {agreement}");
}
