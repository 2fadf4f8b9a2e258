//! One GPU for several threads of the host, each with a session of its own.

use patchmask::Session;

use crate::cases::{FULL, discs, network, size};
use crate::support::Random;
use crate::{bits, driver, on_gpu};

#[test]
fn two_threads_share_the_gpu() {
    let Some(gpu) = driver::take() else { return };
    let context = gpu.current_context();
    let mut random = Random(21);
    let model = network(&mut random, &FULL, 65);
    let extents = (size(130, 33), size(90, 20), size(8, 2));
    // Different work, so that a mix-up shows.
    let cases = [8, 11].map(|stride| discs(&mut random, (65, stride), extents));
    let alone = cases.each_ref().map(|case| bits(&case.run(&model, on_gpu(case))));
    std::thread::scope(|scope| {
        for (case, alone) in cases.iter().zip(&alone) {
            let model = &model;
            scope.spawn(move || {
                for repeat in 0..size(10, 2) {
                    let session = Session::new(model, on_gpu(case), &mut |_, _| ()).unwrap();
                    for _ in 0..2 {
                        assert!(bits(&case.run_in(&session, model)) == *alone, "{repeat}");
                    }
                }
            });
        }
    });
    assert_eq!(gpu.current_context(), context, "the host's context is current");
}
