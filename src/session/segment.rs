//! The loop over the slices of a call. It runs on the session's workers.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::call::Call;
use super::options::{Report, Stage, Timings};
use super::progress::Progress;
use super::slice_tiles::SliceTiles;
use super::tally::Tally;
use crate::engine::{Engine, EngineCall, SliceId, Tiles};
use crate::error::Error;
use crate::mask::OutputViews;
use crate::patch_grid::Selection;
use crate::plan::AxisPlans;
use crate::volume::{Extents, Volume};

/// Segments all slices: submits each and writes it as soon as it is done.
pub(super) fn segment(
    call: &Call<'_>,
    engine: &mut dyn Engine,
    plans: &mut AxisPlans,
    volume: &Volume<'_>,
    outputs: &mut OutputViews<'_>,
    progress: &Progress,
) -> Result<Report, Error> {
    let mut segmentation = Segmentation {
        call,
        engine: engine.begin(call.request(volume, outputs)?)?,
        plans,
        progress,
        in_flight: VecDeque::new(),
        tiles: None,
        timings: Timings::default(),
        tally: Tally::new(call.info, call.options.patch_size),
        nonfinite_voxels: 0,
        body_voxels: 0,
    };
    let Extents { depth, .. } = call.geometry.extents;
    for z in 0..depth {
        segmentation.submit(volume, z)?;
        if segmentation.in_flight.len() > call.info.pipeline_depth {
            segmentation.write_oldest(outputs)?;
        }
    }
    while !segmentation.in_flight.is_empty() {
        segmentation.write_oldest(outputs)?;
    }
    Ok(Report {
        work: segmentation.tally.work,
        peak: segmentation.tally.peak(call.held),
        nonfinite_voxels: segmentation.nonfinite_voxels,
        body_share: segmentation.body_voxels as f64 / (call.geometry.extents.pixels() * depth) as f64,
        device: call.info.device,
        timings: segmentation.timings,
    })
}

struct Segmentation<'a> {
    call: &'a Call<'a>,
    engine: Box<dyn EngineCall + 'a>,
    plans: &'a mut AxisPlans,
    progress: &'a Progress,
    /// The oldest first.
    in_flight: VecDeque<SliceId>,
    /// Without a ROI all slices have the same tiles, or parts of these.
    tiles: Option<SliceTiles>,
    timings: Timings,
    tally: Tally<'a>,
    nonfinite_voxels: u64,
    body_voxels: u64,
}

impl Segmentation<'_> {
    fn submit(&mut self, volume: &Volume<'_>, z: usize) -> Result<(), Error> {
        self.call.control.cancel.check()?;
        self.progress.enter(Stage::Intensity, self.fraction(z, 0.0));
        let slice = timed(&mut self.timings.intensity, || self.engine.slice(z))?;
        self.progress.enter(Stage::Plan, self.fraction(z, 0.0));
        let began = Instant::now();
        let selection = self.call.selection(z)?;
        let tiles = match self.tiles.take() {
            Some(tiles) => Some(tiles),
            None => self.tiles_of(&selection)?,
        };
        // The tiles of what is in the body are parts of these, so that the estimate holds, which does not know the body.
        let (selection, body_voxels) = self.call.within_body(selection, volume, z)?;
        self.body_voxels += body_voxels;
        self.timings.plan += began.elapsed();
        match &tiles {
            None => {}
            Some(SliceTiles::Cached { tiles, bytes }) => {
                self.evaluate(slice, Tiles::Cached(tiles), *bytes, 0.0..1.0)?;
            }
            Some(SliceTiles::OneByOne(cut)) => {
                let tiling = self.call.tiling(self.plans);
                let mut tiles = tiling.tiles(cut, &selection);
                let patches = selection.count(&tiling.grid) as f64;
                let mut done = 0;
                loop {
                    let began = Instant::now();
                    let Some(tile) = tiles.next().transpose()? else { break };
                    let planned = tiling.plan(&tile, self.plans)?;
                    self.timings.plan += began.elapsed();
                    let before = done as f64 / patches;
                    done += tile.patches();
                    let share = before..done as f64 / patches;
                    self.evaluate(slice, Tiles::One(&planned), planned.bytes(), share)?;
                }
            }
        }
        if self.call.is_cut_once() {
            self.tiles = tiles;
        }
        self.in_flight.push_back(slice);
        timed(&mut self.timings.network, || self.engine.submit(slice, selection))
    }

    /// Hands tiles to the engine; they are this share of the slice, and take `held` bytes.
    fn evaluate(&mut self, slice: SliceId, tiles: Tiles<'_>, held: u64, share: Range<f64>) -> Result<(), Error> {
        let control = self.call.control;
        control.cancel.check()?;
        let macs = self.tally.add(tiles.as_slice(), held, self.plans);
        let begin = self.fraction(slice.z, share.start);
        let share = (share.end - share.start) / self.call.geometry.extents.depth as f64;
        self.progress.enter_tiles(begin, share, macs, control);
        timed(&mut self.timings.network, || self.engine.evaluate(slice, tiles))
    }

    fn write_oldest(&mut self, outputs: &mut OutputViews<'_>) -> Result<(), Error> {
        let Some(slice) = self.in_flight.pop_front() else { return Ok(()) };
        self.nonfinite_voxels += timed(&mut self.timings.network, || self.engine.wait(slice))?;
        self.call.control.cancel.check()?;
        self.progress.enter(Stage::Mask, self.fraction(slice.z, 1.0));
        timed(&mut self.timings.mask, || self.engine.write(slice, outputs))?;
        self.progress.finished(slice.z);
        Ok(())
    }

    /// Cuts a slice into tiles, smaller ones where the device has less memory than the budget says.
    fn tiles_of(&mut self, selection: &Selection) -> Result<Option<SliceTiles>, Error> {
        let tiling = self.call.tiling(self.plans);
        let budget = tiling.budget;
        // Bytes that the device did not have.
        let mut refused: Option<u64> = None;
        loop {
            self.call.control.cancel.check()?;
            let mut smaller = self.call.tiling(self.plans);
            if let Some(bytes) = refused {
                smaller.budget.device = budget.device.min(bytes - 1);
            }
            let cut = smaller.cut(selection, self.plans).map_err(|error| match (error, refused) {
                (Error::DeviceOutOfMemory(_), Some(bytes)) => full(bytes, budget.device),
                (error, _) => error,
            })?;
            let Some(cut) = cut else { return Ok(None) };
            let largest = cut.largest;
            let depth = self.call.geometry.extents.depth;
            let reservation = self.call.info.memory.reservation(depth, largest, budget);
            match self.engine.reserve(reservation) {
                Err(Error::DeviceOutOfMemory(_)) if largest.device > 0 => refused = Some(largest.device),
                outcome => {
                    outcome?;
                    self.tally.reserve(reservation.wanted);
                    return SliceTiles::new(&tiling, cut, selection, self.plans).map(Some);
                }
            }
        }
    }

    /// The fraction of the call that is done with `part` of slice `z`.
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
