//! Where the time of a slice goes, layer by layer, and how far each is from the machine's limits.
//!
//! ```text
//! cargo bench --bench layers -- [PATCH/STRIDE] [THREADS]      default 257/8 2
//! ```
//! Full-width VGG16, one 512 x 512 slice. The limits are measured in the same run: multiply-accumulates of f32
//! that never leave the registers, and bytes of a copy. A layer is limited by the one that it needs longer of.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use patchmask::{DeviceChoice, LayerWork, Options, Outputs, Session, Volume, VolumeMut};
use support::{Random, Vgg};

/// Best of a few runs of `work` on each of `threads` threads: units a second, all together.
fn rate(threads: usize, work: fn() -> f64) -> f64 {
    let run = || {
        let began = Instant::now();
        let done: f64 = thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        done / began.elapsed().as_secs_f64()
    };
    (0..5).map(|_| run()).fold(0.0, f64::max)
}

/// Multiply-accumulates in registers, how many.
fn multiply() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has it.
            return unsafe { x86::multiply_avx512() };
        }
        if is_x86_feature_detected!("fma") {
            // SAFETY: the machine has it.
            return unsafe { x86::multiply_fma() };
        }
    }
    let mut sums = [1.0_f32; 64];
    let (a, b) = (black_box(1.0001_f32), black_box(1e-9_f32));
    let turns = 2_000_000;
    for _ in 0..turns {
        for sum in &mut sums {
            *sum = *sum * a + b;
        }
    }
    black_box(sums);
    f64::from(turns) * sums.len() as f64
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    const TURNS: u32 = 10_000_000;

    #[target_feature(enable = "avx512f")]
    pub unsafe fn multiply_avx512() -> f64 {
        let mut sums = [_mm512_set1_ps(1.0); 16];
        let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(1e-9)));
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        f64::from(TURNS) * 16.0 * 16.0
    }

    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn multiply_fma() -> f64 {
        let mut sums = [_mm256_set1_ps(1.0); 12];
        let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(1e-9)));
        for _ in 0..TURNS {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, a, b);
            }
        }
        black_box(sums);
        f64::from(TURNS) * 12.0 * 8.0
    }
}

/// Bytes read and written by copies of memory that no cache holds, how many.
fn copy() -> f64 {
    let from = vec![1.0_f32; 32 << 20];
    let mut into = vec![0.0_f32; 32 << 20];
    for _ in 0..4 {
        into.copy_from_slice(black_box(&from));
        black_box(&mut into);
    }
    // The two arrays were also written once each.
    10.0 * 4.0 * from.len() as f64
}

fn main() {
    // cargo itself adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let setting = arguments.next().unwrap_or_else(|| "257/8".into());
    let threads = arguments.next().map_or(2, |threads| threads.parse().expect("THREADS"));
    let (patch_size, stride) = setting.split_once('/').expect("PATCH/STRIDE");
    let patch_size: u32 = patch_size.parse().expect("PATCH");

    let mut random = Random(1);
    let widths = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];
    let side = patch_size as usize / 32;
    let vgg16 = Vgg { channels: 3, widths: &widths, side, dense: &[256, 256, 2], ..Vgg::GREY };
    let model = vgg16.model(&mut random);
    let options = Options {
        patch_size,
        stride: stride.parse().expect("STRIDE"),
        threads: threads as u32,
        device: DeviceChoice::Cpu,
        ..Options::for_model(None)
    };
    let session = Session::new(&model, options, &mut |_, text| println!("{text}")).expect("a session");
    let voxels: Vec<i16> = (0..512 * 512).map(|_| (random.symmetric() * 300.0) as i16).collect();
    let volume = Volume::from_slice(&voxels, 512, 512, 1).expect("a volume");
    let mut mask = vec![0_u8; 512 * 512];
    let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
    let (flops, bytes) = (rate(threads, multiply), rate(threads, copy));
    println!(
        "limits on {threads} threads: {:.1} G multiply-accumulates a second in f32, {:.1} GB/s copied",
        flops / 1e9,
        bytes / 1e9
    );
    let mut run = || {
        let report = session.segment(&volume, None, &mut outputs, &mut |_, _| true);
        report.expect("it runs");
        session.layers().expect("an idle session")
    };
    // The first slice also touches memory for the first time.
    let (first, both) = (run(), run());

    println!("| layer | GMAC, each output once | GMAC done | s | GMAC/s | GB/s | % of limit |");
    println!("|---|---|---|---|---|---|---|");
    let (mut seconds, mut limits) = (0.0, 0.0);
    // Pools are a part of the convolutions before them.
    for (before, both) in first.iter().zip(both).filter(|(layer, _)| layer.bytes > 0) {
        let layer = LayerWork { seconds: both.seconds - before.seconds, ..before.clone() };
        let limit = (layer.products as f64 / flops).max(layer.bytes as f64 / bytes);
        println!(
            "| {} | {:.1} | {:.1} | {:.3} | {:.1} | {:.1} | {:.0} |",
            layer.name,
            layer.macs as f64 / 1e9,
            layer.products as f64 / 1e9,
            layer.seconds,
            layer.products as f64 / layer.seconds / 1e9,
            layer.bytes as f64 / layer.seconds / 1e9,
            100.0 * limit / layer.seconds
        );
        seconds += layer.seconds;
        limits += limit;
    }
    let touching: f64 = first.iter().map(|layer| layer.seconds).sum();
    println!(
        "all layers: {seconds:.2} s, {:.0} % of the limit; the first slice took {touching:.2} s",
        100.0 * limits / seconds
    );
}
