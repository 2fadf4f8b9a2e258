//! A GPU of capability 9.0, which has convolution kernels of its own.

use patchmask::lattice::Padding;
use patchmask::session::Session;

use crate::fake_driver::{self, FakeDriver};
use crate::parity::random_cases;
use crate::support::{Agreement, Case, Random, TestModel, Vgg};
use crate::{bits, on_gpu};

const KERNELS: [&str; 2] = ["conv3_wgmma_128", "conv3_wgmma_64"];
/// Without these, all that takes the place of the others adds up 64 channels at a time as they do.
const IN_ANOTHER_ORDER: [&str; 2] = ["conv3_32_128", "conv3_32_64"];

/// A Hopper on which these kernels compute something else.
fn hopper(gpu: &FakeDriver, spoiled: &[&str]) {
    gpu.reset();
    gpu.hopper();
    for kernel in spoiled {
        gpu.spoil(kernel);
    }
}

/// With layers of one and two chunks of 64 channels, and of one block of outputs and more.
fn wide_model(random: &mut Random, patch_size: u32) -> TestModel {
    let widths = [4, 4, 4, 4, 64, 64, 128, 160, 64, 128, 128, 16, 16];
    Vgg { widths: &widths, side: patch_size as usize / 32, bias: 0.1, ..Vgg::GREY }.model(random)
}

#[test]
fn random_cases_agree_with_the_cpu() {
    let Some(gpu) = fake_driver::take() else { return };
    let prepare = |number: u64| {
        hopper(&gpu, &[]);
        gpu.completion(number as i32 % 3, number);
    };
    random_cases(300..303, prepare, wide_model, || {
        assert_eq!(gpu.error(), "");
        assert_eq!(gpu.live(""), 0);
    });
}

/// The same sums in the same order: on the host, where products are added up alike, the same bits as everywhere else,
/// in one tile or in many.
#[test]
fn same_bits_as_the_other_kernels() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(310);
    let case = Case::whole(&mut random, Padding::Patch, (33, 8), (45, 33, 1));
    let model = wide_model(&mut random, 33);
    hopper(&gpu, &[KERNELS, IN_ANOTHER_ORDER].concat());
    let expected = bits(&case.run(&model, on_gpu(&case)));
    hopper(&gpu, &IN_ANOTHER_ORDER);
    let session = Session::new(&model, on_gpu(&case), &mut |_, text| {
        assert!(!text.contains("wgmma"), "{text}");
    });
    let session = session.unwrap();
    assert!(session.engine_name().contains("sm_90"));
    let at_rest = gpu.live("bytes");
    let whole = case.run_in(&session, &model);
    assert!(bits(&whole) == expected);
    drop(session);
    let options = patchmask::session::Options {
        memory_budget: at_rest + (whole.report.peak.device - at_rest) * 4 / 10,
        ..on_gpu(&case)
    };
    let cut = case.run(&model, options);
    assert!(cut.report.work.tiles > 1);
    assert!(bits(&cut) == expected);
    assert_eq!(gpu.error(), "");
    assert_eq!(gpu.live(""), 0);
}

/// A kernel that fails its test at the start, or that cannot be loaded, is left out and said so; so are those for which
/// there is too little shared memory, which nobody needs to hear of. On any other GPU they are not even looked at.
#[test]
fn left_out() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(320);
    let case = Case::whole(&mut random, Padding::Patch, (32, 16), (33, 20, 1));
    let model = wide_model(&mut random, 32);
    let run = || {
        let mut said = String::new();
        let session = Session::new(&model, on_gpu(&case), &mut |_, text| said += text).unwrap();
        (bits(&case.run_in(&session, &model)), said)
    };
    hopper(&gpu, &[]);
    let (_, said) = run();
    assert!(!said.contains("left out"), "{said}");
    hopper(&gpu, &IN_ANOTHER_ORDER);
    let (expected, said) = run();
    assert!(!said.contains("wgmma"), "{said}");
    for kernels in [&KERNELS[..1], &KERNELS[1..], &KERNELS[..]] {
        hopper(&gpu, &[kernels, &IN_ANOTHER_ORDER].concat());
        let (outcome, said) = run();
        assert!(outcome == expected, "{kernels:?}");
        for kernel in KERNELS {
            let wrong = format!("{kernel} gave a wrong result");
            assert_eq!(said.contains(&wrong), kernels.contains(&kernel), "{said}");
        }
    }
    hopper(&gpu, &KERNELS);
    let (expected, _) = run();
    // The seventh module.
    hopper(&gpu, &[]);
    gpu.fail("cuModuleLoadData", 7, 218);
    let (outcome, said) = run();
    assert!(said.contains("Hopper") && said.contains("218"), "{said}");
    assert!(outcome == expected);
    for (capability, shared_bytes) in [((9, 0), 163 << 10), ((10, 0), 227 << 10), ((8, 9), 227 << 10)] {
        gpu.reset();
        gpu.machine_of(capability, 1, 1 << 30, shared_bytes);
        for kernel in KERNELS {
            gpu.spoil(kernel);
        }
        let (_, said) = run();
        assert!(!said.contains("left out"), "{capability:?}: {said}");
        Agreement::default().compare(&case, &model, on_gpu(&case));
    }
    assert_eq!(gpu.live(""), 0);
}
