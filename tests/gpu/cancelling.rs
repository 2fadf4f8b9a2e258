//! A cancelled call returns within 20 ms, whatever the GPU is at, and the session goes on.

use std::time::{Duration, Instant};

use patchmask::error::Error;
use patchmask::session::Session;

use crate::builder::Random;
use crate::cases::{FULL, discs, network, size, small};
use crate::{driver, on_gpu};

const LIMIT: Duration = Duration::from_millis(20);

#[test]
fn cancelled_within_20_ms() {
    let Some(_gpu) = driver::take() else {
        return;
    };
    let mut random = Random(41);
    let patch_size = size(257, 65) as u32;
    let model = network(&mut random, &FULL, patch_size);
    let extents = (size(512, 40), size(512, 30), size(12, 3));
    let case = discs(&mut random, (patch_size, 8), extents);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    let expected = case.mask_in(&session).unwrap();
    let began = Instant::now();
    assert!(case.mask_in(&session).unwrap() == expected);
    let whole = began.elapsed();

    // (from cancel to return, how far the call was)
    let mut latencies = Vec::new();
    for trial in 0..size(25, 4) as u32 {
        if trial % 5 == 4 {
            session.trim().unwrap(); // planning and allocating are cancelled too
        }
        let delay = whole.mul_f64((random.symmetric() + 1.0) / 2.0 * 0.95);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| (case.mask_in(&session), Instant::now()));
            std::thread::sleep(delay);
            let asked = Instant::now();
            session.cancel();
            let (outcome, returned) = call.join().unwrap();
            match outcome {
                Err(Error::Cancelled) => latencies.push((returned - asked, delay)),
                // It was quicker; the wish stays for the next call.
                Ok(_) => assert_eq!(case.mask_in(&session), Err(Error::Cancelled)),
                Err(other) => panic!("{other:?}"),
            }
        });
    }
    assert!(
        case.mask_in(&session).unwrap() == expected,
        "and it goes on"
    );
    latencies.sort();
    assert!(
        latencies.len() >= size(10, 1),
        "calls end before they are cancelled"
    );
    println!(
        "cancelled {} times in a call of {whole:.0?}: median {:.1?}, slowest {:.1?} (after {:.0?})",
        latencies.len(),
        latencies[latencies.len() / 2].0,
        latencies[latencies.len() - 1].0,
        latencies[latencies.len() - 1].1,
    );
    if !small() {
        assert!(latencies[latencies.len() - 1].0 <= LIMIT, "{latencies:.1?}");
    }
}
