//! A GPU of capability 9.0, which has convolution kernels of its own.

use patchmask::{LogLevel, Padding, Session};

use crate::fake_driver::{self, FakeDriver, Fault};
use crate::parity::random_cases;
use crate::support::{Agreement, Case, Random, TestModel, Vgg};
use crate::{bits, on_gpu};

const KERNELS: [&str; 2] = ["conv3_wgmma_128", "conv3_wgmma_64"];

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

/// The same bits in one tile or in many.
#[test]
fn same_bits_in_any_tiles() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(310);
    let case = Case::whole(&mut random, Padding::Patch, (33, 8), (45, 33, 1));
    let model = wide_model(&mut random, 33);
    hopper(&gpu, &[]);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    assert!(session.engine_name().contains("sm_90"));
    let at_rest = gpu.live("bytes");
    let whole = case.run_in(&session, &model);
    drop(session);
    let options =
        patchmask::Options { memory_budget: at_rest + (whole.report.peak.device - at_rest) * 4 / 10, ..on_gpu(&case) };
    let cut = case.run(&model, options);
    assert!(cut.report.work.tiles > 1);
    assert!(bits(&cut) == bits(&whole));
    assert_eq!(gpu.error(), "");
    assert_eq!(gpu.live(""), 0);
}

/// A kernel that is wrong or cannot be loaded is left out, with a warning that names it and says why; one that traps costs the
/// process the GPU. Those for which there is too little shared memory are not missed. On any other GPU they are not even looked
/// at.
#[test]
fn left_out() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(320);
    let case = Case::whole(&mut random, Padding::Patch, (32, 16), (33, 20, 1));
    let model = wide_model(&mut random, 32);
    let run = || {
        let mut said = String::new();
        let session = Session::new(&model, on_gpu(&case), &mut |level, text| {
            assert_eq!(text.contains("left out"), level == LogLevel::Warning, "{text}");
            said += text;
        });
        (bits(&case.run_in(&session.unwrap(), &model)), said)
    };
    hopper(&gpu, &[]);
    assert!(!run().1.contains("left out"));
    for kernels in [&KERNELS[..1], &KERNELS[1..], &KERNELS[..]] {
        hopper(&gpu, kernels);
        let (_, said) = run();
        for kernel in KERNELS {
            let text = format!("{kernel} is left out: gave a wrong result");
            assert_eq!(said.contains(&text), kernels.contains(&kernel), "{said}");
        }
        // Once for every GPU: the next session does not test again, and says the same.
        gpu.spoil("gather_max_pool");
        Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
        assert_eq!(gpu.error(), "");
    }
    hopper(&gpu, &KERNELS);
    let (expected, _) = run();
    hopper(&gpu, &[]);
    gpu.spoil_with(KERNELS[0], Fault::Unloadable);
    let (outcome, said) = run();
    for kernel in KERNELS {
        assert!(
            said.contains(&format!("{kernel} is left out: loading the CUDA kernels conv3_wgmma [fake ptxas: ")),
            "{said}"
        );
    }
    assert!(said.contains("(218)") && outcome == expected, "{said}");
    hopper(&gpu, &[]);
    gpu.spoil_with(KERNELS[1], Fault::Traps);
    for why in ["conv3_wgmma_64 failed in the self-test: ", "LAUNCH_FAILED (719)"] {
        let error = Session::new(&model, on_gpu(&case), &mut |_, _| ()).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains(why)), "{error:?}");
    }
    for (capability, shared_bytes) in [((9, 0), 163 << 10), ((10, 0), 227 << 10), ((8, 9), 99 << 10)] {
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
