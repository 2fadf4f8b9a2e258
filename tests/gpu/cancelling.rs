//! A cancelled call returns within 20 ms, whatever the GPU is at, and the session goes on.

use std::time::{Duration, Instant};

use patchmask::Error;
use patchmask::Extents;
use patchmask::Model;
use patchmask::{Options, Session};

use crate::cases::{FULL, discs, network, size, small};
use crate::support::{Case, Random};
use crate::{driver, on_gpu};

const LIMIT: Duration = Duration::from_millis(20);

#[test]
fn cancelled_within_20_ms() {
    let Some(_gpu) = driver::take() else { return };
    let mut random = Random(41);
    let patch_size = size(257, 65) as u32;
    let model = network(&mut random, &FULL, patch_size);
    let extents = (size(512, 40), size(512, 30), size(12, 3));
    let mut case = discs(&mut random, (patch_size, 8), extents);
    let session = Session::new(&model, on_gpu(&case), &mut |_, _| ()).unwrap();
    cancel_at_random("one tile a slice", &mut random, &case, &session);
    // Tables of every tile go to the device again for every slice.
    cancel_at_random("several tiles", &mut random, &case, &in_tiles(&case, &model));
    // Every slice is planned anew, and needs another arena now and then.
    let inside = |(index, &hu): (usize, &i16)| {
        let z = index / (case.width * case.height);
        u8::from(i32::from(hu) > 150 - 60 * (z as i32 % 5))
    };
    case.roi = Some(case.voxels.iter().enumerate().map(inside).collect());
    cancel_at_random("a ROI", &mut random, &case, &session);
}

/// A session whose budget makes several tiles of a slice.
fn in_tiles(case: &Case, model: &Model) -> Session {
    let [width, height, depth] = [case.width, case.height, case.depth].map(|n| n as u64);
    let extents = Extents::new(width, height, depth, "volume").unwrap();
    let in_budget = |memory_budget: u64| {
        let options = Options { memory_budget, ..on_gpu(case) };
        let session = Session::new(model, options, &mut |_, _| ()).ok()?;
        let estimate = session.estimate(extents, None, None).ok()?;
        Some((session, estimate))
    };
    let whole = in_budget(0).expect("an automatic budget").1.peak.device;
    let percent = [20, 30, 40, 50, 65, 80, 90, 95];
    let budgets = percent.map(|percent| whole / 100 * percent);
    (budgets.into_iter())
        .filter_map(in_budget)
        .find(|(_, estimate)| estimate.work.tiles > depth)
        .expect("a budget for several tiles")
        .0
}

/// Cancels calls at random times: each returns in time, and the session goes on.
fn cancel_at_random(what: &str, random: &mut Random, case: &Case, session: &Session) {
    let expected = case.mask_in(session).unwrap();
    let began = Instant::now();
    assert!(case.mask_in(session).unwrap() == expected);
    let whole = began.elapsed();

    // (from cancel to return, how far the call was)
    let mut latencies = Vec::new();
    for trial in 0..size(25, 4) as u32 {
        if trial % 5 == 4 {
            session.trim().unwrap(); // planning and allocating are cancelled too
        }
        let delay = whole.mul_f64((random.symmetric() + 1.0) / 2.0 * 0.95);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| (case.mask_in(session), Instant::now()));
            std::thread::sleep(delay);
            let asked = Instant::now();
            session.cancel();
            let (outcome, returned) = call.join().unwrap();
            match outcome {
                Err(Error::Cancelled) => latencies.push((returned - asked, delay)),
                // It was quicker; the wish stays for the next call.
                Ok(_) => assert_eq!(case.mask_in(session), Err(Error::Cancelled)),
                Err(other) => panic!("{what}: {other:?}"),
            }
        });
    }
    assert!(case.mask_in(session).unwrap() == expected, "{what}: and it goes on");
    latencies.sort();
    assert!(latencies.len() >= size(10, 1), "{what}: calls end before they are cancelled");
    println!(
        "{what}: cancelled {} times in a call of {whole:.0?}: median {:.1?}, slowest {:.1?} (after {:.0?})",
        latencies.len(),
        latencies[latencies.len() / 2].0,
        latencies[latencies.len() - 1].0,
        latencies[latencies.len() - 1].1,
    );
    if !small() {
        let slowest = latencies[latencies.len() - 1].0;
        assert!(slowest <= LIMIT, "{what}: {latencies:.1?}");
    }
}
