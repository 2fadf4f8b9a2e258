//! Sessions: the loop over slices and tiles, with progress, cancel, timings and a memory budget.
//!
//! ```text
//! for each slice:  intensity -> tiling -> for each tile: plan, evaluate -> mask
//! ```
//! The loop runs on the session's own threads; the caller's thread waits and runs its callback.

mod call;
mod options;
mod progress;
mod requests;
mod segment;
mod slice_tiles;
mod tally;
mod tiling;
mod workers;

pub use options::{Centres, Estimate, Options, Outputs, Report, Stage, Timings, Work};

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::engine::{
    Bytes, Control, DeviceChoice, Engine, EngineInfo, LayerWork, LogLevel, Note, Settings, Span, open,
};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::mask::OutputViews;
use crate::memory::ensure_headroom;
use crate::network::feature_side;
use crate::plan::AxisPlans;
use crate::process::generation;
use crate::volume::{Extents, Spacing, Volume};
use crate::weights::Model;
use call::Call;
use progress::Progress;
use requests::Requests;
use workers::{Workers, worker_threads};

/// Time between calls of the progress callback.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Threads, packed weights and workspace for one model and one set of options.
pub struct Session {
    options: Options,
    classes: usize,
    info: EngineInfo,
    budget: Bytes,
    /// Taken for the time of a call: a second call finds it taken.
    /// Forgotten with the workers: a GPU's driver does not survive a fork either.
    state: ManuallyDrop<Mutex<State>>,
    requests: Requests,
    progress: Progress,
    /// `None` only while a session is dropped after a fork: the pool's locks may be held by threads that
    /// this process does not have.
    workers: Option<Workers>,
    /// Of the process that made it.
    generation: u64,
}

/// Kept between calls.
struct State {
    engine: Box<dyn Engine>,
    plans: AxisPlans,
}

impl Session {
    /// Packs the model for the engine. `log` is told what was chosen and why.
    pub fn new(model: &Model, options: Options, log: &mut dyn FnMut(LogLevel, &str)) -> Result<Self, Error> {
        const MAX_PLANS: u64 = 64 << 20;
        let classes = model.describe().classes;
        options.check(classes)?;
        Intensity::new(options.window, options.equalize)?;
        let patch_size = options.patch_size as usize;
        model.check_side(feature_side(patch_size))?;
        let settings = Settings {
            model,
            patch_size,
            mean: options.mean,
            std: options.std,
            threads: worker_threads(options.threads)?,
        };
        let mut notes = Vec::new();
        let (engine, workers) = engine_and_workers(&options.device, &settings, &mut notes)?;
        let info = engine.info();
        let budget = match options.memory_budget {
            0 => info.automatic_budget,
            bytes => Bytes { host: bytes, device: if info.fixed.device > 0 { bytes } else { 0 } },
        };
        for (memory, budget, fixed, out_of) in [
            ("host", budget.host, info.fixed.host, Error::OutOfMemory as fn(_) -> _),
            ("device", budget.device, info.fixed.device, Error::DeviceOutOfMemory),
        ] {
            if fixed > 0 && fixed >= budget {
                return Err(out_of(format!(
                    "memory_budget {budget} bytes of the {memory}: the packed weights alone take \
                     {fixed}; allow some hundreds of MiB more than that, or 0 for automatic"
                )));
            }
        }
        notes.iter().for_each(|(level, text)| log(*level, text));
        log(LogLevel::Info, &format!("engine {}, memory budget {budget}", info.name));
        let plans = AxisPlans::new((budget.host / 16).min(MAX_PLANS) as usize);
        Ok(Self {
            classes: classes as usize,
            info,
            budget,
            state: ManuallyDrop::new(Mutex::new(State { engine, plans })),
            requests: Requests::default(),
            progress: Progress::default(),
            workers: Some(workers),
            generation: generation(),
            options,
        })
    }

    /// For people: the engine and how it runs.
    pub fn engine_name(&self) -> &str {
        &self.info.name
    }

    /// Work of single layers so far, for benchmarks: empty on a GPU, where a profiler tells.
    pub fn layers(&self) -> Result<Vec<LayerWork>, Error> {
        Ok(self.enter()?.engine.layers())
    }

    /// Turns notes of when each slice was where on or off for later calls, for benchmarks: on a GPU only. Returns those of
    /// the last call.
    pub fn trace(&self, on: bool) -> Result<Vec<Span>, Error> {
        self.enter()?.engine.trace(on)
    }

    /// Slices that the current or last [`Session::segment`] has finished.
    pub fn slices_done(&self) -> u64 {
        self.progress.slices_done()
    }

    /// Requests that the current call stop, or where none is running the next [`Session::segment`]; when that returns, for
    /// whatever reason, the request is gone.
    pub fn cancel(&self) {
        self.requests.request();
    }

    /// Before the session is dropped: no call begins any more. Fails while one is running; those of the parent process run there.
    pub(crate) fn close(&self) -> Result<(), Error> {
        match self.state.try_lock() {
            Err(TryLockError::WouldBlock) if generation() == self.generation => Err(Error::Busy),
            lock => {
                std::mem::forget(lock);
                Ok(())
            }
        }
    }

    /// A sentence where the size of a volume's pixels is not known and the model needs it.
    pub fn warning(&self, spacing: Option<Spacing>) -> Option<String> {
        let pixel_mm = self.options.pixel_mm.filter(|_| self.options.resample && spacing.is_none())?;
        Some(format!(
            "the volume's spacing is not known: its pixels are taken for the model's of {pixel_mm} mm; set spacing_x and spacing_y"
        ))
    }

    /// The work and memory of segmenting a volume of these extents; `spacing` where it is known.
    pub fn estimate(
        &self,
        extents: Extents,
        spacing: Option<Spacing>,
        roi: Option<&Volume<'_>>,
    ) -> Result<Estimate, Error> {
        let mut state = self.enter()?;
        self.requests.begin_estimate();
        let call = self.call((extents, spacing), roi, &self.requests.estimate);
        let outcome = call.and_then(|call| call.estimate(&mut state.plans));
        self.requests.end_estimate(matches!(outcome, Err(Error::Cancelled)));
        outcome
    }

    /// Gives back the memory that a call leaves behind for the next one: activations, plans.
    pub fn trim(&self) -> Result<(), Error> {
        let mut state = self.enter()?;
        state.engine.trim();
        state.plans.forget();
        Ok(())
    }

    /// Segments `volume` into `outputs`. `roi` has the volume's extents. `progress` is told the fraction
    /// done and the stage about every 50 ms on this thread, and stops the call by returning `false`.
    pub fn segment(
        &self,
        volume: &Volume<'_>,
        roi: Option<&Volume<'_>>,
        outputs: &mut Outputs<'_>,
        progress: &mut dyn FnMut(f64, Stage) -> bool,
    ) -> Result<Report, Error> {
        let began = Instant::now();
        let mut state = self.enter()?;
        self.progress.reset();
        let call = self.call((volume.extents(), volume.spacing()), roi, &self.requests.segment);
        let outcome = call.and_then(|call| {
            let outputs = call.outputs(volume, outputs)?;
            self.work(&call, &mut state, volume, outputs, progress)
        });
        self.requests.end_segment();
        let mut report = outcome?;
        report.timings.segment = began.elapsed();
        Ok(report)
    }

    fn call<'a>(
        &'a self,
        grid: (Extents, Option<Spacing>),
        roi: Option<&'a Volume<'a>>,
        control: &'a Control,
    ) -> Result<Call<'a>, Error> {
        Call::new(&self.options, &self.info, control, (self.classes, self.budget), grid, roi)
    }

    /// Runs the loop on the workers while this thread waits.
    fn work(
        &self,
        call: &Call<'_>,
        state: &mut State,
        volume: &Volume<'_>,
        mut outputs: OutputViews<'_>,
        callback: &mut dyn FnMut(f64, Stage) -> bool,
    ) -> Result<Report, Error> {
        let pool = self.workers.as_ref().ok_or(Error::WrongProcess)?.pool()?;
        // Not a channel: waiting for one takes memory that may be missing.
        let (outcome, done) = (Mutex::new(None), Condvar::new());
        let mut told = 0.0_f64;
        let mut tell = |fraction: f64, stage: Stage| {
            told = told.max(fraction).min(1.0);
            if !callback(told, stage) {
                self.requests.segment.cancel.request();
            }
        };
        let (slot, finished) = (&outcome, &done);
        let outcome = pool.in_place_scope(|scope| {
            scope.spawn(move |_| {
                let State { engine, plans } = state;
                let work = || segment::segment(call, engine.as_mut(), plans, volume, &mut outputs, &self.progress);
                let outcome = catch_unwind(AssertUnwindSafe(work));
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                finished.notify_one();
            });
            let mut outcome = slot.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if let Some(outcome) = outcome.take() {
                    return outcome;
                }
                let (guard, timeout) =
                    finished.wait_timeout(outcome, PROGRESS_EVERY).unwrap_or_else(PoisonError::into_inner);
                outcome = guard;
                if timeout.timed_out() && outcome.is_none() {
                    drop(outcome);
                    let (fraction, stage) = self.progress.now(&self.requests.segment);
                    tell(fraction, stage);
                    outcome = slot.lock().unwrap_or_else(PoisonError::into_inner);
                }
            }
        });
        let report = outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        tell(1.0, Stage::Mask);
        // A request that the workers no longer checked is this call's.
        self.requests.segment.cancel.check()?;
        Ok(report)
    }

    /// Begins a call: one at a time, in the process that made the session.
    fn enter(&self) -> Result<MutexGuard<'_, State>, Error> {
        if generation() != self.generation {
            return Err(Error::WrongProcess);
        }
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::WouldBlock) => return Err(Error::Busy),
            Err(TryLockError::Poisoned(poisoned)) => {
                self.state.clear_poison();
                poisoned.into_inner()
            }
        };
        ensure_headroom(0, "a call")?;
        Ok(state)
    }
}

/// The engine that the caller asked for, and the threads that it works on: one where they only wait for a GPU.
fn engine_and_workers(
    choice: &DeviceChoice,
    settings: &Settings<'_>,
    notes: &mut Vec<Note>,
) -> Result<(Box<dyn Engine>, Workers), Error> {
    if *choice != DeviceChoice::Cpu {
        let workers = Workers::new(1)?;
        let pool = workers.pool()?;
        if let Some(engine) = pool.install(|| open::gpu(choice, settings, notes))? {
            return Ok((engine, workers));
        }
    }
    let workers = Workers::new(settings.threads)?;
    let engine = workers.pool()?.install(|| open::cpu(settings))?;
    Ok((engine, workers))
}

impl Drop for Session {
    fn drop(&mut self) {
        if generation() == self.generation {
            // SAFETY: dropped once, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.state) };
        } else {
            std::mem::forget(self.workers.take());
        }
    }
}
