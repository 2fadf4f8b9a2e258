//! Sessions: the loop over slices and tiles, with progress, cancel, timings and a memory budget.
//!
//! ```text
//! for each slice:  intensity -> cut into tiles -> for each tile: plan, input, engine -> mask
//! ```
//! The loop runs on the session's own threads; the caller's thread waits and runs its callback.

mod cut;
mod options;
mod progress;
mod run;
mod slices;
mod tally;
mod tiles;

pub use options::{Estimate, LogLevel, Options, Outputs, Report, Stage, Timings, Work};

use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use crate::engine::{self, Bytes, Control, DeviceChoice, Engine, LayerWork, Note, Settings, Span};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::mask::Grids;
use crate::memory::ensure_headroom;
use crate::network::feature_side;
use crate::volume::{Extents, Volume};
use crate::weights::Model;
use crate::workers::{Workers, worker_threads};
use progress::Progress;
use run::{Run, State};

/// How often the caller hears of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// Threads, packed weights and workspace for one model and one set of options.
pub struct Session {
    options: Options,
    intensity: Intensity,
    classes: usize,
    engine_name: String,
    budget: Bytes,
    /// Multiply-accumulates of one patch by itself.
    patch_macs: u64,
    /// Taken for the time of a call: a second call finds it taken.
    /// Forgotten with the workers: a GPU's driver does not survive a fork either.
    state: ManuallyDrop<Mutex<State>>,
    control: Control,
    slices_done: AtomicU64,
    /// `None` only while a session is dropped after a fork: the pool's locks may be held by threads that
    /// this process does not have.
    workers: Option<Workers>,
    process: u32,
}

impl Session {
    /// Packs the model for the engine. `log` hears what was chosen and why.
    pub fn new(model: &Model, options: Options, log: &mut dyn FnMut(LogLevel, &str)) -> Result<Self, Error> {
        let classes = model.describe().classes;
        options.check(classes)?;
        let intensity = Intensity::new(options.window, options.equalize)?;
        let side = feature_side(options.patch_size as usize);
        model.check_side(side)?;
        let settings = Settings {
            model,
            feature_side: side,
            mean: options.mean,
            std: options.std,
            threads: worker_threads(options.threads)?,
        };
        let mut notes = Vec::new();
        let (engine, workers) = engine_and_workers(&options.device, &settings, &mut notes)?;
        let engine_name = engine.name();
        let fixed = engine.fixed_bytes();
        let budget = match options.memory_budget {
            0 => engine.automatic_budget(),
            bytes => Bytes { host: bytes, device: if fixed.device > 0 { bytes } else { 0 } },
        };
        let too_small = |memory: &str, budget: u64, fixed: u64| {
            (fixed > 0 && fixed >= budget).then(|| {
                format!(
                    "memory_budget {budget} bytes of the {memory}: the packed weights alone take \
                     {fixed}; allow some hundreds of MiB more than that, or 0 for automatic"
                )
            })
        };
        if let Some(text) = too_small("host", budget.host, fixed.host) {
            return Err(Error::OutOfMemory(text));
        }
        if let Some(text) = too_small("device", budget.device, fixed.device) {
            return Err(Error::DeviceOutOfMemory(text));
        }
        for note in notes {
            match note {
                Note::Info(text) => log(LogLevel::Info, &text),
                Note::Warning(text) => log(LogLevel::Warning, &text),
            }
        }
        log(LogLevel::Info, &format!("engine {engine_name}, memory budget {budget}"));
        Ok(Self {
            patch_macs: run::patch_macs(engine.as_ref(), options.patch_size as usize),
            intensity,
            classes: classes as usize,
            engine_name,
            budget,
            state: ManuallyDrop::new(Mutex::new(State::new(engine, budget))),
            control: Control::default(),
            slices_done: AtomicU64::new(0),
            workers: Some(workers),
            process: std::process::id(),
            options,
        })
    }

    /// For people: the engine and how it runs.
    pub fn engine_name(&self) -> &str {
        &self.engine_name
    }

    /// What single layers took so far, for benchmarks: empty on a GPU, where a profiler tells.
    pub fn layers(&self) -> Result<Vec<LayerWork>, Error> {
        Ok(self.enter()?.engine.layers())
    }

    /// Whether later calls note when each slice was where, for benchmarks: on a GPU only. Gives the notes of the last one.
    pub fn trace(&self, on: bool) -> Result<Vec<Span>, Error> {
        self.enter()?.engine.trace(on)
    }

    /// Slices that the current or last [`Session::segment`] has finished.
    pub fn slices_done(&self) -> u64 {
        self.slices_done.load(Ordering::Acquire)
    }

    /// Asks the current or next call to stop. The wish stays until a call has returned
    /// [`Error::Cancelled`].
    pub fn cancel(&self) {
        self.control.cancel();
    }

    /// Whether a call is running.
    pub fn is_busy(&self) -> bool {
        matches!(self.state.try_lock(), Err(TryLockError::WouldBlock))
    }

    /// What segmenting a volume of these extents would take.
    pub fn estimate(&self, extents: Extents, roi: Option<&Volume<'_>>) -> Result<Estimate, Error> {
        let mut state = self.enter()?;
        let outcome = Run::new(self, extents, roi).and_then(|run| run.estimate(&mut state));
        self.leave(outcome)
    }

    /// Gives back the memory that a call leaves behind for the next one: activations, plans.
    pub fn trim(&self) -> Result<(), Error> {
        self.enter()?.trim();
        Ok(())
    }

    /// Segments `volume` into `outputs`. `roi` has the volume's extents. `progress` hears the fraction
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
        self.slices_done.store(0, Ordering::Release);
        let run = Run::new(self, volume.extents(), roi)?;
        let grids = run.grids(volume, outputs)?;
        let outcome = self.work(&run, &mut state, volume, grids, progress);
        let mut report = self.leave(outcome)?;
        report.timings.segment = began.elapsed();
        Ok(report)
    }

    /// Runs the loop on the workers while this thread waits.
    fn work(
        &self,
        run: &Run<'_>,
        state: &mut State,
        volume: &Volume<'_>,
        mut grids: Grids<'_>,
        progress: &mut dyn FnMut(f64, Stage) -> bool,
    ) -> Result<Report, Error> {
        let pool = self.workers.as_ref().ok_or(Error::WrongProcess)?.pool()?;
        let state_of_progress = Progress::default();
        let (done, wait) = mpsc::sync_channel(1);
        let mut heard = 0.0_f64;
        let mut tell = |fraction: f64, stage: Stage| {
            heard = heard.max(fraction).min(1.0);
            if !progress(heard, stage) {
                self.control.cancel();
            }
        };
        let outcome = pool.in_place_scope(|scope| {
            let watched = &state_of_progress;
            scope.spawn(move |_| {
                let outcome = run.segment(state, volume, &mut grids, watched);
                // The receiver waits for this very message.
                let _ = done.send(outcome);
            });
            loop {
                match wait.recv_timeout(PROGRESS_EVERY) {
                    Ok(outcome) => return outcome,
                    Err(RecvTimeoutError::Timeout) => {
                        let (fraction, stage) = watched.now(&self.control);
                        tell(fraction, stage);
                    }
                    // The worker panicked; the scope carries its panic on.
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(Error::Panic("a worker thread panicked".into()));
                    }
                }
            }
        });
        let report = outcome?;
        tell(1.0, Stage::Mask);
        // A wish to stop that the workers no longer heard is this call's, not the next one's.
        self.control.check()?;
        Ok(report)
    }

    /// Begins a call: one at a time, in the process that made the session.
    fn enter(&self) -> Result<MutexGuard<'_, State>, Error> {
        if std::process::id() != self.process {
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

    /// Ends a call: a wish to cancel that was heard is forgotten.
    fn leave<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if matches!(outcome, Err(Error::Cancelled)) {
            self.control.clear_cancel();
        }
        outcome
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
        if let Some(engine) = pool.install(|| engine::on_gpu(choice, settings, notes))? {
            return Ok((engine, workers));
        }
    }
    let workers = Workers::new(settings.threads)?;
    let engine = workers.pool()?.install(|| engine::on_cpu(settings))?;
    Ok((engine, workers))
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::process::id() == self.process {
            // SAFETY: dropped once, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.state) };
        } else {
            std::mem::forget(self.workers.take());
        }
    }
}
