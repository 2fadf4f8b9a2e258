//! Device memory: a trim gives back what a call left, a free gives back everything, and nothing is lost on the way.

use std::time::Instant;

use patchmask::Session;

use crate::cases::{FULL, discs, network, size};
use crate::support::Random;
use crate::{bits, driver, on_gpu};

/// What a driver keeps for itself, e.g. code that it has loaded: more than any allocation of a tiny network, far less
/// than an arena of a real one.
const DRIVERS_OWN: usize = 48 << 20;

#[test]
fn trim_and_free_give_it_back() {
    let Some(gpu) = driver::take() else { return };
    let mut random = Random(51);
    let model = network(&mut random, &FULL, 129);
    let extents = (size(256, 33), size(256, 20), 2);
    let case = discs(&mut random, (129, 8), extents);
    // The first session makes the driver load its code.
    let expected = bits(&case.run(&model, on_gpu(&case)));

    let before = gpu.free_bytes();
    let began = Instant::now();
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let creating = began.elapsed();
    let used = || before.saturating_sub(gpu.free_bytes());
    let at_rest = used();
    let outcome = case.run_in(&session, &model);
    let after_call = used();
    session.trim().unwrap();
    let trimmed = used();
    let again = bits(&case.run_in(&session, &model));
    drop(session);
    let after_free = used();
    println!(
        "device bytes: session {at_rest}, after a call {after_call} (its report: {}), trimmed {trimmed}, \
         freed {after_free}; session made in {creating:.0?}",
        outcome.report.peak.device
    );
    assert!(bits(&outcome) == expected && again == expected);
    let peak = outcome.report.peak.device as usize;
    assert!(after_call <= peak + DRIVERS_OWN, "the report counts everything");
    assert!(trimmed <= at_rest + DRIVERS_OWN, "a trim gives it back");
    assert!(after_free <= DRIVERS_OWN, "a free gives everything back");
    let activations = after_call - at_rest;
    assert!(activations > size(2 * DRIVERS_OWN, 0), "too few to see whether they come back: {activations}");

    for _ in 0..size(20, 3) {
        case.run(&model, on_gpu(&case));
    }
    let lost = used();
    println!("{lost} bytes used after {} more sessions", size(20, 3));
    assert!(lost <= DRIVERS_OWN, "sessions leak");
}
