//! What the host program sees: its own context, several sessions, memory given back, cancelling.

use std::sync::atomic::{AtomicUsize, Ordering};

use patchmask::DeviceChoice;
use patchmask::Error;
use patchmask::Padding;
use patchmask::{Options, Session};

use crate::support::{Case, Random, TestModel, network};
use crate::{bits, fake_driver, on_gpu};

/// 3 x 2 patches on each of 3 slices.
pub fn small_case(seed: u64) -> (Case, TestModel) {
    let mut random = Random(seed);
    let case = Case::whole(&mut random, Padding::Patch, (32, 16), (33, 20, 3));
    let model = network(&mut random, 32);
    (case, model)
}

/// 4 x 3 patches on each of 7 slices.
pub fn seven_slices(seed: u64) -> (Case, TestModel) {
    let mut random = Random(seed);
    let case = Case::whole(&mut random, Padding::Patch, (32, 11), (40, 30, 7));
    let model = network(&mut random, 32);
    (case, model)
}

#[test]
fn the_callers_context_stays_current() {
    let Some(gpu) = fake_driver::take() else { return };
    let own = gpu.make_context();
    let (case, model) = small_case(1);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    assert_eq!(gpu.current_context(), own);
    case.run_in(&session, &model);
    assert_eq!(gpu.current_context(), own);
    session.trim().unwrap();
    assert_eq!(gpu.current_context(), own);
    drop(session);
    assert_eq!(gpu.current_context(), own);
    gpu.destroy_context(own);
}

#[test]
fn sessions_share_weights_and_run_side_by_side() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(2);
    let alone = bits(&case.run(&model, on_gpu(&case)));
    let first = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let with_one = gpu.live("bytes");
    let second = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let more = gpu.live("bytes") - with_one;
    assert!(more < with_one / 10, "{more} bytes more than {with_one}");
    std::thread::scope(|scope| {
        for session in [&first, &second] {
            let (case, model, alone) = (&case, &model, &alone);
            scope.spawn(move || {
                for _ in 0..2 {
                    assert!(&bits(&case.run_in(session, model)) == alone);
                }
            });
        }
    });
    let after_call = gpu.live("bytes");
    first.trim().unwrap();
    assert!(gpu.live("bytes") < after_call, "a trim gives memory back");
    assert!(bits(&case.run_in(&first, &model)) == alone, "and the session goes on");
}

#[test]
fn cancelled_from_the_callback_and_from_another_thread() {
    let Some(gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(4);
    let case = case.with_depth(40);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let heard = AtomicUsize::new(0);
    let run = |go_on: bool| {
        case.mask_while(&session, |_| {
            heard.fetch_add(1, Ordering::SeqCst);
            go_on
        })
    };
    assert_eq!(run(false), Err(Error::Cancelled));
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while heard.load(Ordering::SeqCst) < 3 {
                std::thread::yield_now();
            }
            session.cancel();
        });
        run(true)
    });
    assert_eq!(outcome, Err(Error::Cancelled));
    assert!(session.slices_done() < case.depth as u64);
    assert_eq!(gpu.error(), "");
    case.with_depth(3).run_in(&session, &model);
}

/// However many threads the caller allows: the CPU engine is what they are for.
#[test]
fn one_thread_waits_for_the_gpu() {
    let Some(_gpu) = fake_driver::take() else { return };
    let (case, model) = small_case(5);
    let workers = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        let names = tasks.flatten().filter_map(|task| name(&task).ok());
        names.filter(|name| name.starts_with("patchmask-")).count()
    };
    for device in [DeviceChoice::Cuda(vec![0]), DeviceChoice::Auto] {
        let options = Options { device, threads: 3, ..on_gpu(&case) };
        let session = Session::new(&model, options, &mut |_, _| ()).unwrap();
        assert!(session.engine_name().starts_with("cuda"));
        assert_eq!(workers(), 1);
    }
    assert_eq!(workers(), 0);
}

/// A slice of many tiles is not done at once.
#[test]
fn progress_moves_within_a_slice() {
    let Some(gpu) = fake_driver::take() else { return };
    let mut random = Random(6);
    let case = crate::repeatability::case(&mut random).with_depth(1);
    let model = network(&mut random, 41);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let at_rest = gpu.live("bytes");
    let whole = case.run_in(&session, &model).report.peak.device;
    let options = Options { memory_budget: at_rest + (whole - at_rest) * 4 / 10, ..on_gpu(&case) };
    let session = Session::new(&model, options, &mut |_, _| ()).unwrap();
    let mut heard = Vec::new();
    let mask = case.mask_while(&session, |fraction| {
        heard.push(fraction);
        true
    });
    println!("{heard:.2?}");
    mask.unwrap();
    assert!(heard.is_sorted() && heard.last() == Some(&1.0));
    assert!(heard.iter().any(|&fraction| fraction > 0.0 && fraction < 1.0));
}
