//! The loop over the slices of a call.

use std::time::{Duration, Instant};

use super::cut::{Cut, Standing};
use super::options::{Stage, Timings};
use super::progress::Progress;
use super::run::{Run, State};
use super::tally::Tally;
use super::tiles::Piece;
use crate::engine::{Call, Pieces};
use crate::error::{Check, Error};
use crate::lattice::Selection;
use crate::mask::Grids;
use crate::plan::PlannedPiece;

/// A call on its way.
pub(super) struct Slices<'a> {
    run: &'a Run<'a>,
    call: Call<'a>,
    progress: &'a Progress,
    /// Without a ROI all slices are cut alike.
    cut: Option<Cut>,
    pub timings: Timings,
    pub tally: Tally,
    pub nonfinite_voxels: u64,
}

impl<'a> Slices<'a> {
    pub fn new(run: &'a Run<'a>, call: Call<'a>, progress: &'a Progress) -> Self {
        Self {
            run,
            call,
            progress,
            cut: None,
            timings: Timings::default(),
            tally: Tally::default(),
            nonfinite_voxels: 0,
        }
    }

    /// Submits every slice and writes it as soon as it is done.
    pub fn all(&mut self, state: &mut State, grids: &mut Grids<'_>) -> Result<(), Error> {
        let depth = self.call.geometry.extents.depth;
        let lag = state.engine.lag();
        state.engine.begin(&self.call)?;
        for step in 0..depth + lag {
            if step < depth {
                self.submit(state, step)?;
            }
            if let Some(z) = step.checked_sub(lag) {
                self.write(state, z, grids)?;
                self.run.finished(z);
            }
        }
        Ok(())
    }

    fn submit(&mut self, state: &mut State, z: usize) -> Result<(), Error> {
        let call = self.call;
        call.control.check()?;
        self.progress.enter(Stage::Intensity, self.fraction(z, 0.0));
        timed(&mut self.timings.intensity, || state.engine.intensity(&call, z))?;
        self.progress.enter(Stage::Plan, self.fraction(z, 0.0));
        let began = Instant::now();
        let selection = self.run.selection(z)?;
        let cut = match self.cut.take() {
            Some(cut) => cut,
            None => self.cut(state, &selection)?,
        };
        self.timings.plan += began.elapsed();
        match &cut {
            Cut::Standing(Standing { pieces, bytes }) => {
                self.network(state, z, (Pieces::Standing(pieces), *bytes), 0.0..1.0)?;
            }
            Cut::Pieces(pieces) => {
                let patches: usize = pieces.iter().map(Piece::patches).sum();
                let mut done = 0;
                for piece in pieces {
                    let began = Instant::now();
                    let planned = self.plan(state, piece)?;
                    self.timings.plan += began.elapsed();
                    let part = |patches_done: usize| patches_done as f64 / patches as f64;
                    let span = part(done)..part(done + piece.patches());
                    let held = planned.bytes();
                    self.network(state, z, (Pieces::One(&planned), held), span)?;
                    done += piece.patches();
                }
            }
        }
        if !call.geometry.roi {
            self.cut = Some(cut);
        }
        timed(&mut self.timings.network, || state.engine.submit(&call, selection))
    }

    /// Hands pieces to the engine; they are the part `span` of slice `z`, and take `held` bytes.
    fn network(
        &mut self,
        state: &mut State,
        z: usize,
        (pieces, held): (Pieces<'_>, u64),
        span: std::ops::Range<f64>,
    ) -> Result<(), Error> {
        let call = self.call;
        call.control.check()?;
        let State { engine, plans } = state;
        let together = (pieces.as_slice(), held);
        let macs = (self.tally).add(self.run, engine.as_ref(), together, plans);
        let share = (span.end - span.start) / call.geometry.extents.depth as f64;
        let begin = self.fraction(z, span.start);
        self.progress.pieces(begin, share, macs, call.control);
        timed(&mut self.timings.network, || engine.network(&call, pieces))
    }

    fn write(&mut self, state: &mut State, z: usize, grids: &mut Grids<'_>) -> Result<(), Error> {
        let call = self.call;
        self.nonfinite_voxels += timed(&mut self.timings.network, || state.engine.wait(&call))?;
        call.control.check()?;
        self.progress.enter(Stage::Mask, self.fraction(z, 1.0));
        timed(&mut self.timings.mask, || state.engine.mask(&call, z, grids))
    }

    /// Cuts a slice, into smaller pieces where the device has less memory than the budget says.
    fn cut(&mut self, state: &mut State, selection: &Selection) -> Result<Cut, Error> {
        let Call { control, geometry, .. } = self.call;
        let check: Check<'_> = &|| control.check();
        // Bytes that the device did not have.
        let mut refused: Option<u64> = None;
        loop {
            check()?;
            let State { engine, plans } = &mut *state;
            let mut cutter = self.run.cutter(engine.as_ref(), plans, check);
            let budget = cutter.budget;
            if let Some(bytes) = refused {
                cutter.budget.device = budget.device.min(bytes - 1);
            }
            let (pieces, largest) = cutter.cut(selection, plans).map_err(|error| match (error, refused) {
                (Error::DeviceOutOfMemory(_), Some(bytes)) => full(bytes, budget.device),
                (error, _) => error,
            })?;
            if pieces.is_empty() {
                return Ok(Cut::Pieces(pieces));
            }
            let room = engine.room(geometry.extents.depth, largest, budget);
            engine.release(room, control)?;
            match engine.reserve(room) {
                Err(Error::DeviceOutOfMemory(_)) if largest.device > 0 => {
                    refused = Some(largest.device);
                }
                outcome => {
                    outcome?;
                    self.tally.reserve(room.wanted);
                    let cutter = self.run.cutter(engine.as_ref(), plans, check);
                    return Cut::new(&cutter, pieces, largest, plans);
                }
            }
        }
    }

    fn plan(&self, state: &mut State, piece: &Piece) -> Result<PlannedPiece, Error> {
        let check: Check<'_> = &|| self.call.control.check();
        let State { engine, plans } = state;
        self.run.cutter(engine.as_ref(), plans, check).plan(piece, plans)
    }

    /// How far the call is when `part` of slice `z` is done.
    fn fraction(&self, z: usize, part: f64) -> f64 {
        (z as f64 + part) / self.call.geometry.extents.depth as f64
    }
}

/// Runs `stage` and adds its time to `total`.
fn timed<T>(total: &mut Duration, stage: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = stage();
    *total += began.elapsed();
    outcome
}

/// The error where the smallest tile is refused by the device, not by the budget.
fn full(needed: u64, budget: u64) -> Error {
    Error::DeviceOutOfMemory(format!(
        "the device is full: the smallest tile needs {needed} bytes for its activations, which the memory budget \
         allows (it leaves {budget}) and the device does not have: close other programs that use it, or use \
         smaller patches"
    ))
}
