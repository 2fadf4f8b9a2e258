//! A whole scan on GPUs, from voxels in the caller's memory to the mask there: time, energy, and where each slice was when.
//!
//! ```text
//! cargo bench --bench scan -- [ROW...] [--side 512] [--slices 100] [--roi] [--plan] [--in-turn] [--gpus 0,1] [--trace FOLDER]
//!                             [--profile] [--small]
//! ```
//! ROW is PATCH/STRIDE or PATCH/STRIDE/image, default 257/8 257/7 257/8/image, full-width VGG16 on slices of 512 x 512.
//! `--roi`: of each slice an ellipse, another one every time, about as large as a liver, whose patches are planned anew.
//! `--plan` only plans all of it, which needs no kernels: on the fake driver, too, that takes what it takes anywhere.
//! Small slices (`--side`) are evaluated side by side; with `--in-turn` there is memory for one whole slice at a time.
//! Each row is timed three times, after a first call that makes plans, graphs and buffers; the median counts. `--trace`
//! writes a file of trace events for each row (chrome://tracing, Perfetto, benches/timeline.py). `--profile` runs a
//! slice once, and shows a profiler a second time alone (`ncu --profile-from-start off`). `--small` tries the program out on the
//! fake driver. A kernel that is left out without having been asked for (PATCHMASK_WITHOUT) is a failure.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::time::Instant;

use cudarc::driver::{DriverError, result, sys};
use nvml_wrapper::Nvml;
use patchmask::{DeviceChoice, Options, Outputs, Padding, Report, Session, Span, Volume, VolumeMut};
use serde_json::json;
use support::{Random, TestModel, Vgg, in_turn};

const FULL: [usize; 13] = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512];
const RUNS: usize = 3;

struct Given {
    rows: Vec<String>,
    side: usize,
    slices: usize,
    roi: bool,
    plan: bool,
    in_turn: bool,
    gpus: Vec<u32>,
    trace: Option<PathBuf>,
    profile: bool,
    small: bool,
}

/// A timed call.
struct Run {
    seconds: f64,
    joules: Option<f64>,
    report: Report,
    spans: Vec<Span>,
}

fn given() -> Given {
    let mut given = Given {
        rows: Vec::new(),
        side: 512,
        slices: 100,
        roi: false,
        plan: false,
        in_turn: false,
        gpus: vec![0],
        trace: None,
        profile: false,
        small: false,
    };
    // cargo itself adds `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} needs a value"));
        match word.as_str() {
            "--side" => given.side = value().parse().expect("--side N"),
            "--roi" => given.roi = true,
            "--plan" => given.plan = true,
            "--in-turn" => given.in_turn = true,
            "--slices" => given.slices = value().parse().expect("--slices N"),
            "--gpus" => {
                let numbers = value();
                let numbers = numbers.split(',').map(|n| n.parse().expect("--gpus N,N..."));
                given.gpus = numbers.collect();
            }
            "--trace" => given.trace = Some(value().into()),
            "--profile" => (given.profile, given.slices) = (true, 1),
            "--small" => given.small = true,
            row => given.rows.push(row.to_string()),
        }
    }
    if given.small {
        given.side = 40;
        given.slices = given.slices.min(4);
    }
    if given.rows.is_empty() {
        let rows = ["257/8", "257/7", "257/8/image"];
        let small = ["33/16", "32/16", "33/16/image"];
        given.rows = if given.small { small } else { rows }.map(String::from).to_vec();
    }
    given
}

/// Millijoules that the GPUs have used so far, where the driver counts them.
fn energy(nvml: Option<&Nvml>, gpus: &[u32]) -> Option<u64> {
    let used = |&gpu| nvml?.device_by_index(gpu).ok()?.total_energy_consumption().ok();
    gpus.iter().map(used).sum()
}

fn network(random: &mut Random, patch_size: u32, small: bool) -> TestModel {
    let divide = if small { 16 } else { 1 };
    let head = [256 / divide, 256 / divide, 2];
    let widths = FULL.map(|width| width / divide);
    let side = patch_size as usize / 32;
    Vgg { channels: 3, widths: &widths, side, dense: &head, bias: 0.02, ..Vgg::GREY }.model(random)
}

/// Seconds in which some slice was at work on this GPU.
fn busy(spans: &[Span], gpu: u32) -> f64 {
    let lanes = format!("cuda:{gpu} compute ");
    let of_gpu = spans.iter().filter(|span| span.lane.starts_with(&lanes));
    let mut of_gpu: Vec<_> = of_gpu.collect();
    of_gpu.sort_by(|a, b| a.begin.total_cmp(&b.begin));
    let (mut total, mut until) = (0.0, 0.0_f64);
    for span in of_gpu {
        total += (span.end - span.begin.max(until)).max(0.0);
        until = until.max(span.end);
    }
    total
}

/// In each slice an ellipse, which grows and then becomes less: up to a sixth of the slice.
fn ellipses(side: usize, slices: usize) -> Vec<u8> {
    let from_middle = |at: usize, of: usize| (2 * at + 1) as f64 / of as f64 - 1.0;
    let inside = |index: usize| {
        let (x, y) = (index % side, index / side % side);
        let z = from_middle(index / side / side, slices);
        let wide = (from_middle(x, side) + 0.2) / 0.5;
        let high = from_middle(y, side) / 0.42;
        u8::from(wide * wide + high * high + z * z < 1.0)
    };
    (0..side * side * slices).map(inside).collect()
}

/// Maximum number of slices that were evaluated side by side.
fn together(spans: &[Span]) -> usize {
    let gpus = spans.iter().filter_map(|span| span.lane.split_once(" compute "));
    let numbers = gpus.filter_map(|(_, number)| number.parse().ok());
    numbers.max().unwrap_or(0_usize) + 1
}

/// Trace events as browsers' tools read them: microseconds, a thread for each lane.
fn trace_events(spans: &[Span]) -> serde_json::Value {
    let mut lanes: Vec<&str> = spans.iter().map(|span| span.lane.as_str()).collect();
    lanes.sort_unstable();
    lanes.dedup();
    let names = lanes.iter().enumerate().map(
        |(number, lane)| json!({"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": lane}}),
    );
    let events = spans.iter().map(|span| {
        json!({
            "ph": "X", "name": format!("slice {}", span.slice), "pid": 0,
            "tid": lanes.iter().position(|lane| *lane == span.lane),
            "ts": 1e6 * span.begin, "dur": 1e6 * (span.end - span.begin),
        })
    });
    json!({"traceEvents": names.chain(events).collect::<Vec<_>>(), "displayTimeUnit": "ms"})
}

fn measure(given: &Given, row: &str, nvml: Option<&Nvml>) -> Result<(), String> {
    let mut random = Random(1);
    let words: Vec<&str> = row.split('/').collect();
    let [patch_size, stride, ..] = words[..] else {
        return Err(format!("{row}: must be PATCH/STRIDE or PATCH/STRIDE/image"));
    };
    let patch_size: u32 = patch_size.parse().expect("PATCH");
    let side = given.side;
    let model = network(&mut random, patch_size, given.small);
    let mut options = Options {
        patch_size,
        stride: stride.parse().expect("STRIDE"),
        padding: if words.len() > 2 { Padding::Image } else { Padding::Patch },
        device: DeviceChoice::Cuda(given.gpus.clone()),
        ..Options::for_model(None)
    };
    let failed = |error: patchmask::Error| format!("{row}: {error}");
    let mut said = Vec::new();
    let mut new = |options: &Options| Session::new(&model, options.clone(), &mut |_, text| said.push(text.to_owned()));
    let mut session = new(&options).map_err(failed)?;
    if given.in_turn {
        options.memory_budget = in_turn(&session, side, side).0;
        session = new(&options).map_err(failed)?;
    }
    said.retain(|text| text.contains("left out") && !text.contains("PATCHMASK_WITHOUT"));
    if !said.is_empty() {
        return Err(said.join("\n"));
    }
    let voxels: Vec<i16> = (0..side * side * given.slices).map(|_| (random.symmetric() * 300.0) as i16).collect();
    let volume = Volume::from_slice(&voxels, side, side, given.slices).map_err(failed)?;
    let inside = given.roi.then(|| ellipses(side, given.slices));
    let inside = (inside.as_ref()).map(|inside| Volume::from_slice(inside, side, side, given.slices));
    let roi = inside.transpose().map_err(failed)?;
    if given.plan {
        let began = Instant::now();
        let estimate = session.estimate(volume.extents(), volume.spacing(), roi.as_ref());
        let patches = estimate.map_err(failed)?.work.patches;
        let ms = 1e3 * began.elapsed().as_secs_f64();
        // Without a ROI all slices have one plan.
        let plans = if given.roi { given.slices } else { 1 };
        println!("| {row} | {patches} patches, planned in {:.2} ms a slice, {plans} of them |", ms / plans as f64);
        return Ok(());
    }
    let mut mask = vec![0_u8; voxels.len()];
    let mut run = || {
        let mut outputs = Outputs { mask: Some(VolumeMut::from_slice(&mut mask)), ..Outputs::default() };
        let before = energy(nvml, &given.gpus);
        let began = Instant::now();
        let report = session.segment(&volume, roi.as_ref(), &mut outputs, &mut |_, _| true)?;
        let seconds = began.elapsed().as_secs_f64();
        let joules = energy(nvml, &given.gpus).zip(before);
        Ok(Run {
            seconds,
            joules: joules.map(|(after, before)| (after - before) as f64 / 1e3),
            report,
            spans: session.trace(true)?,
        })
    };
    run().map_err(failed)?;
    if given.profile {
        start_profiler(given.gpus[0]).map_err(|error| format!("starting the profiler: {error}"))?;
        run().map_err(failed)?;
        // SAFETY: the driver is loaded.
        return unsafe { sys::cuProfilerStop() }.result().map_err(|error| format!("stopping the profiler: {error}"));
    }
    let mut runs: Vec<Run> = (0..RUNS).map(|_| run()).collect::<Result<_, _>>().map_err(failed)?;
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let median = &runs[RUNS / 2];
    let timings = median.report.timings;
    let computing: f64 = (given.gpus.iter()).map(|&gpu| busy(&median.spans, gpu)).sum();
    let share = computing / (median.seconds * given.gpus.len() as f64);
    println!(
        "| {row} | {} | {} | {:.3} | {:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {} |",
        given.gpus.len(),
        together(&median.spans),
        median.seconds,
        1e3 * median.seconds / given.slices as f64,
        2e-12 * median.report.work.macs as f64 / median.seconds,
        100.0 * (1.0 - share),
        1e3 * timings.plan.as_secs_f64(),
        1e3 * timings.mask.as_secs_f64(),
        median.joules.map_or("-".into(), |joules| format!("{:.2}", joules / given.slices as f64)),
    );
    if let Some(folder) = &given.trace {
        let path = folder.join(format!("{}.json", row.replace('/', "-")));
        let text = trace_events(&median.spans).to_string();
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

/// From here on a profiler looks (`ncu --profile-from-start off`): the driver heeds this in a thread with a current context only.
fn start_profiler(gpu: u32) -> Result<(), DriverError> {
    // SAFETY: the library has loaded the driver; the context is kept until the process ends.
    unsafe {
        let context = result::primary_ctx::retain(result::device::get(gpu as i32)?)?;
        result::ctx::set_current(context)?;
        sys::cuProfilerStart().result()
    }
}

fn main() {
    let given = given();
    let nvml = Nvml::init().ok();
    println!(
        "{} slices of {} x {}, host memory to host memory, median of {RUNS} runs",
        given.slices, given.side, given.side,
    );
    if !given.plan && !given.profile {
        println!(
            "| row | GPUs | at a time | s | ms a slice | TFLOP/s | % of the time without computing | ms planning | ms writing masks | J a slice |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
    }
    for row in &given.rows {
        if let Err(why) = measure(&given, row, nvml.as_ref()) {
            if why.contains("no NVIDIA driver") && std::env::var_os("PATCHMASK_REQUIRE_CUDA").is_none() {
                println!("SKIPPED: {why}");
                return;
            }
            eprintln!("{why}");
            std::process::exit(1);
        }
    }
}
