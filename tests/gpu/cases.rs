//! Slices with something in them, and networks of VGG16's real widths.

use patchmask::Padding;

use crate::support::{Case, Random, TestModel, Vgg};

/// VGG16's widths.
pub const FULL: [usize; 13] = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];

/// Whether these tests are only being tried out; see main.rs.
pub fn small() -> bool {
    std::env::var("PATCHMASK_GPU_SMALL").is_ok_and(|value| value == "1")
}

/// `full`, or `small` while these tests are only being tried out.
pub fn size(full: usize, small_size: usize) -> usize {
    if small() { small_size } else { full }
}

/// A case of this patch size, stride and extents (width, height, depth): discs of random HU under noise.
pub fn discs(
    random: &mut Random,
    (patch_size, stride): (u32, u32),
    (width, height, depth): (usize, usize, usize),
) -> Case {
    let extents = (width, height, depth);
    let mut case = Case::whole(random, Padding::Patch, (patch_size, stride), extents);
    case.options.threads = 0;
    let extent = width.max(height) as f64;
    let discs: Vec<[f64; 4]> = (0..12)
        .map(|_| {
            let place = |random: &mut Random| (random.symmetric() + 1.0) / 2.0 * extent;
            let radius = (random.symmetric() + 1.2) * extent / 8.0;
            [place(random), place(random), radius, random.symmetric() * 300.0]
        })
        .collect();
    case.voxels = (0..width * height * depth)
        .map(|index| {
            let (x, y) = (index % width, index / width % height);
            let z = (index / width / height) as f64;
            let inside = |disc: &&[f64; 4]| (x as f64 - disc[0] - z).hypot(y as f64 - disc[1]) < disc[2];
            let hu = discs.iter().rev().find(inside).map_or(-100.0, |disc| disc[3]);
            (hu + random.symmetric() * 25.0) as i16
        })
        .collect();
    case
}

/// A network of these widths for patches of this size, three channels, head 256-256-2.
pub fn network(random: &mut Random, widths: &[usize; 13], patch_size: u32) -> TestModel {
    let divide = size(1, 32);
    let widths = widths.map(|width| (width / divide).max(1));
    let dense = [256 / divide, 256 / divide, 2];
    let side = patch_size as usize / 32;
    Vgg { channels: 3, widths: &widths, side, dense: &dense, bias: 0.02, ..Vgg::GREY }.model(random)
}
