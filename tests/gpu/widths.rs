//! VGG16's real widths, patches of 64 to 257 pixels.

use patchmask::Padding;

use crate::cases::{FULL, discs, network, size};
use crate::support::{Agreement, Random};
use crate::{driver, on_gpu};

/// Patch size, stride, and the slice's width and height: some tens of patches each.
const SETTINGS: [(u32, u32, usize, usize); 7] = [
    (64, 8, 70, 53),
    (65, 4, 41, 30),
    (65, 7, 65, 40),
    (129, 8, 66, 58),
    (129, 16, 131, 97),
    (257, 7, 50, 36),
    (257, 8, 72, 55),
];

#[test]
fn full_width_agrees_with_the_cpu() {
    let Some(_gpu) = driver::take() else { return };
    for (patch_size, stride, width, height) in &SETTINGS[..size(SETTINGS.len(), 2)] {
        let mut random = Random(u64::from(*patch_size + *stride));
        let model = network(&mut random, &FULL, *patch_size);
        for padding in [Padding::Patch, Padding::Image] {
            let mut agreement = Agreement::default();
            let extents = (size(*width, 20), size(*height, 17), 1);
            let mut case = discs(&mut random, (*patch_size, *stride), extents);
            case.options.padding = padding;
            agreement.compare_with_cpu(&case, &model, on_gpu(&case));
            println!("{patch_size}/{stride} {padding:?}: {agreement}");
            // Logits that hardly depend on the patch would prove little.
            assert!(agreement.worst_of_spread < 0.5, "{agreement}");
        }
    }
}
