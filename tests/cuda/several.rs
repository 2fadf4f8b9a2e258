//! Two GPUs: a session on each, and a session on both.

use patchmask::Error;
use patchmask::Model;
use patchmask::VolumeMut;
use patchmask::{DeviceChoice, DeviceKind};
use patchmask::{Options, Outputs, Session};

use crate::host::{seven_slices, small_case};
use crate::support::{Case, Random};
use crate::{bits, fake_driver, on_gpu};

fn session(model: &Model, case: &Case, gpus: &[u32]) -> Result<Session, Error> {
    let options = Options { device: DeviceChoice::Cuda(gpus.to_vec()), ..on_gpu(case) };
    Session::new(model, options, &mut |_, _| ())
}

#[test]
fn a_session_on_each() {
    let Some(gpu) = fake_driver::take() else { return };
    gpu.devices(2, 1 << 30);
    let (case, model) = small_case(3);
    let first = session(&model, &case, &[0]).unwrap();
    let second = session(&model, &case, &[1]).unwrap();
    assert!(first.engine_name().starts_with("cuda:0"));
    assert!(second.engine_name().starts_with("cuda:1"));
    let bits_of = |session| bits(&case.run_in(session, &model));
    assert!(bits_of(&first) == bits_of(&second));
    match session(&model, &case, &[0, 2]) {
        Err(Error::NoDevice(text)) => assert!(text.contains("there are 2"), "{text}"),
        _ => panic!("there is no third device"),
    }
    // One is lost; the other goes on.
    gpu.lose(0, 3);
    let lost = case.mask_in(&first);
    assert!(matches!(lost, Err(Error::DeviceFailed(_))), "{lost:?}");
    bits_of(&second);
}

#[test]
fn both_give_the_bits_of_one_in_any_order() {
    let Some(gpu) = fake_driver::take() else { return };
    let (mut case, model) = seven_slices(51);
    let mut random = Random(51);
    let roi: Vec<u8> = (0..case.voxels.len()).map(|_| (random.below(90) == 0) as u8).collect();
    for roi in [None, Some(roi)] {
        case.roi = roi;
        gpu.devices(1, 1 << 30);
        let one = case.run_in(&session(&model, &case, &[0]).unwrap(), &model);
        gpu.devices(3, 1 << 30);
        for (gpus, seed) in [(&[0, 1][..], 1), (&[0, 1], 2), (&[0, 1, 2], 3), (&[1, 2], 4)] {
            gpu.completion(2, seed);
            let session = session(&model, &case, gpus).unwrap();
            let outcome = case.run_in(&session, &model);
            assert!(bits(&outcome) == bits(&one), "{gpus:?}");
            assert_eq!(outcome.report.work, one.report.work);
            assert_eq!(outcome.report.device, DeviceKind::Cuda);
            // A second call, in the memory that the first one left.
            assert!(bits(&case.run_in(&session, &model)) == bits(&one), "{gpus:?} again");
            for number in gpus {
                let name = format!("cuda:{number} (");
                assert!(session.engine_name().contains(&name), "{name}");
            }
        }
        assert_eq!(gpu.error(), "");
        assert_eq!(gpu.live(""), 0);
    }
}

#[test]
fn memory_is_as_estimated_and_within_the_budget() {
    let Some(gpu) = fake_driver::take() else { return };
    gpu.devices(2, 1 << 30);
    let (case, model) = seven_slices(52);
    let peak_of = |options: &Options| {
        let new = || Session::new(&model, options.clone(), &mut |_, _| ()).unwrap();
        let estimated = new().estimate(case.extents(), None, None).unwrap().peak;
        let held = case.run_in(&new(), &model).report.peak;
        assert_eq!(held, estimated);
        held
    };
    let options = |gpus: &[u32], memory_budget| Options {
        device: DeviceChoice::Cuda(gpus.to_vec()),
        memory_budget,
        ..on_gpu(&case)
    };
    let one = peak_of(&options(&[0], 0));
    let both = peak_of(&options(&[0, 1], 0));
    assert_eq!(both.device, one.device, "of each device");
    assert!(both.host > one.host && both.host <= 2 * one.host, "{one:?} {both:?}");
    let budget = both.device * 3 / 4;
    assert!(peak_of(&options(&[0, 1], budget)).device <= budget);
}

#[test]
fn one_of_both_is_lost() {
    let Some(gpu) = fake_driver::take() else { return };
    gpu.devices(2, 1 << 30);
    let (case, model) = seven_slices(53);
    let both = session(&model, &case, &[0, 1]).unwrap();
    gpu.lose(1, 40);
    let lost = case.mask_in(&both);
    assert!(matches!(lost, Err(Error::DeviceFailed(_))), "{lost:?}");
    // Slice 0 was the other's, and it is written first.
    assert!(both.slices_done() < 7);
    drop(both);
    let first = session(&model, &case, &[0]).unwrap();
    case.run_in(&first, &model);
}

#[test]
fn a_cancelled_call_leaves_both_usable() {
    let Some(gpu) = fake_driver::take() else { return };
    gpu.devices(2, 1 << 30);
    let (case, model) = seven_slices(54);
    let case = case.with_depth(24); // Many more than are on their way at a time.
    let both = session(&model, &case, &[0, 1]).unwrap();
    let whole = bits(&case.run_in(&both, &model));
    both.cancel();
    assert_eq!(case.mask_in(&both), Err(Error::Cancelled));
    let mut mask = vec![0; case.voxels.len()];
    let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
    let outcome = both.segment(&case.volume(), None, &mut outputs, &mut |_, _| both.slices_done() < 1);
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    let done = both.slices_done() as usize * case.width * case.height;
    assert!(done < mask.len() && mask[..done] == whole.0[..done]);
    assert!(bits(&case.run_in(&both, &model)) == whole);
}

/// Every slice goes up, is computed and comes back, in this order and on one device.
#[test]
fn a_trace_has_every_slice_once_on_each_lane() {
    let Some(gpu) = fake_driver::take() else { return };
    gpu.devices(2, 1 << 30);
    let (case, model) = seven_slices(55);
    for gpus in [&[0][..], &[0, 1]] {
        let session = session(&model, &case, gpus).unwrap();
        case.run_in(&session, &model);
        assert_eq!(session.trace(true).unwrap(), [], "nothing was asked for");
        for _ in 0..2 {
            case.run_in(&session, &model);
            let spans = session.trace(true).unwrap();
            assert_eq!(spans.len(), 3 * 7);
            for (slice, spans) in spans.chunks(3).enumerate() {
                // Those of one device come one after the other.
                let per_gpu = 7_usize.div_ceil(gpus.len());
                let (gpu, slice) = (slice / per_gpu, slice % per_gpu * gpus.len() + slice / per_gpu);
                // Small slices: each is in a part of its own.
                let part = slice / gpus.len() % 4;
                let lanes = ["upload".into(), format!("compute {part}"), "download".into()]
                    .map(|lane| format!("cuda:{gpu} {lane}"));
                assert!(spans.iter().map(|span| &span.lane).eq(&lanes), "{spans:?}");
                assert!(spans.iter().all(|span| span.slice == slice), "{spans:?}");
                assert!(spans.iter().all(|span| span.begin <= span.end), "{spans:?}");
                let [up, compute, down] = spans else { panic!() };
                assert!(up.end <= compute.end && compute.end <= down.end, "{spans:?}");
            }
        }
        session.trace(false).unwrap();
        case.run_in(&session, &model);
        assert_eq!(session.trace(false).unwrap(), []);
    }
}
