//! One call: all slices, or the dry run over them.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::options::{Estimate, Outputs, Report, Stage, Timings, Work};
use super::tiles::{Cutter, Piece, PlannedPiece};
use super::{Session, options::Options};
use crate::engine::{Control, Engine};
use crate::error::{Check, Error};
use crate::lattice::{Lattice, Selection};
use crate::mask::{Fill, Grids, Painter, Scores};
use crate::memory::try_filled;
use crate::network::{CONVOLUTIONS, POOL_AFTER};
use crate::plan::AxisPlans;
use crate::volume::{Extents, Volume};

/// What a session keeps between calls.
pub(super) struct State {
    engine: Box<dyn Engine>,
    plans: AxisPlans,
    /// Input image of a tile.
    input: Vec<f32>,
}

impl State {
    /// `budget`: bytes for everything.
    pub fn new(engine: Box<dyn Engine>, budget: u64) -> Self {
        const MOST_PLANS: u64 = 64 << 20;
        Self {
            engine,
            plans: AxisPlans::new((budget / 16).min(MOST_PLANS) as usize),
            input: Vec::new(),
        }
    }
}

/// How far the workers are, for the thread that waits.
#[derive(Default)]
pub(super) struct Progress {
    stage: AtomicU8,
    /// Bits of the fraction at which the current piece begins, and of its share.
    base: AtomicU64,
    share: AtomicU64,
    /// Multiply-accumulates of the current piece.
    macs: AtomicU64,
}

impl Progress {
    /// Fraction and stage.
    pub fn now(&self, control: &Control) -> (f64, Stage) {
        let number = |bits: &AtomicU64| f64::from_bits(bits.load(Ordering::Relaxed));
        let macs = self.macs.load(Ordering::Relaxed);
        let done = if macs == 0 {
            0.0
        } else {
            (control.macs() as f64 / macs as f64).min(1.0)
        };
        let stage = match self.stage.load(Ordering::Relaxed) {
            2 => Stage::Intensity,
            3 => Stage::Network,
            4 => Stage::Mask,
            _ => Stage::Plan,
        };
        (number(&self.base) + number(&self.share) * done, stage)
    }

    fn enter(&self, stage: Stage, fraction: f64) {
        self.share.store(0, Ordering::Relaxed);
        self.base.store(fraction.to_bits(), Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    fn piece(&self, fraction: f64, share: f64, macs: u64, control: &Control) {
        self.enter(Stage::Network, fraction);
        control.reset_macs();
        self.macs.store(macs, Ordering::Relaxed);
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }
}

/// A call with its volume's geometry checked.
pub(super) struct Run<'a> {
    session: &'a Session,
    extents: Extents,
    lattice: Lattice,
    roi: Option<&'a Volume<'a>>,
}

impl<'a> Run<'a> {
    pub fn new(
        session: &'a Session,
        extents: Extents,
        roi: Option<&'a Volume<'a>>,
    ) -> Result<Self, Error> {
        if let Some(roi) = roi
            && roi.extents() != extents
        {
            let r = roi.extents();
            return Err(Error::invalid(format!(
                "roi of {} x {} x {} voxels: must have the volume's extents, {} x {} x {}",
                r.width, r.height, r.depth, extents.width, extents.height, extents.depth
            )));
        }
        let Options {
            patch_size,
            stride,
            crop,
            ..
        } = session.options;
        Ok(Self {
            session,
            extents,
            lattice: Lattice::new(extents, patch_size, stride, crop)?,
            roi,
        })
    }

    /// The caller's buffers, checked against the shapes and against each other.
    pub fn grids<'o>(
        &self,
        volume: &Volume<'_>,
        outputs: &'o mut Outputs<'_>,
    ) -> Result<Grids<'o>, Error> {
        let Extents {
            width,
            height,
            depth,
        } = self.extents;
        let voxels = [1, width, height, depth];
        let Lattice { x, y } = self.lattice;
        let points = [self.session.classes, x.count(), y.count(), depth];
        let grids = Grids {
            mask: (outputs.mask.as_mut().map(|o| o.grid(voxels, "mask"))).transpose()?,
            probability: (outputs.probability.as_mut())
                .map(|o| o.grid(voxels, "probability"))
                .transpose()?,
            coverage: (outputs.coverage.as_mut())
                .map(|o| o.grid(voxels, "coverage"))
                .transpose()?,
            logits: (outputs.logits.as_mut().map(|o| o.grid(points, "logits"))).transpose()?,
        };
        let written: Vec<_> = [
            grids.mask.as_ref().map(|g| ("mask", g.footprint())),
            grids
                .probability
                .as_ref()
                .map(|g| ("probability", g.footprint())),
            grids.coverage.as_ref().map(|g| ("coverage", g.footprint())),
            grids.logits.as_ref().map(|g| ("logits", g.footprint())),
        ]
        .into_iter()
        .flatten()
        .collect();
        if written.is_empty() {
            return Err(Error::invalid(
                "outputs: no buffer is given, set at least one of mask, probability, coverage and \
                 logits"
                    .into(),
            ));
        }
        let mut others = vec![("volume", volume.footprint())];
        others.extend(self.roi.map(|roi| ("roi", roi.footprint())));
        for (index, (name, footprint)) in written.iter().enumerate() {
            for (other, theirs) in others.iter().chain(&written[..index]) {
                if footprint.overlaps(theirs) {
                    return Err(Error::invalid(format!(
                        "{name} overlaps {other}: every buffer needs memory of its own"
                    )));
                }
            }
        }
        Ok(grids)
    }

    /// Which lattice points of slice `z` are wanted.
    fn selection(&self, z: usize) -> Result<Selection, Error> {
        match self.roi {
            Some(roi) => {
                let interpolated = self.session.options.fill == Fill::Linear;
                let check = || self.session.control.check();
                Selection::from_roi(roi, z, &self.lattice, interpolated, &check)
            }
            None => Ok(Selection::everything()),
        }
    }

    /// Bytes held for the whole call, besides what a tile takes.
    fn fixed_bytes(&self, engine: &dyn Engine) -> u64 {
        let pixels = self.extents.pixels() as u64;
        let points = self.lattice.points();
        let selection = match self.roi {
            Some(_) => pixels + points as u64,
            None => 0,
        };
        engine.fixed_bytes()
            + 4 * pixels
            + 8 * self.extents.width as u64
            + Scores::bytes(points, self.session.classes)
            + selection
    }

    fn cutter<'e>(
        &self,
        engine: &'e dyn Engine,
        plans: &AxisPlans,
        check: Check<'e>,
    ) -> Cutter<'e> {
        let held = self.fixed_bytes(engine) + plans.limit() as u64;
        Cutter {
            lattice: self.lattice,
            padding: self.session.options.padding,
            sharing: self.session.options.sharing,
            lists: self.roi.is_some(),
            budget: self.session.budget.saturating_sub(held),
            engine,
            check,
        }
    }

    /// The dry run: cuts and plans every slice, evaluates nothing.
    pub fn estimate(&self, state: &mut State) -> Result<Estimate, Error> {
        let State { engine, plans, .. } = state;
        let engine = engine.as_ref();
        let check = || self.session.control.check();
        let cutter = self.cutter(engine, plans, &check);
        let mut tally = Tally::default();
        let slices = if self.roi.is_some() {
            self.extents.depth
        } else {
            1
        };
        for z in 0..slices {
            check()?;
            let selection = self.selection(z)?;
            for piece in cutter.cut(&selection, plans)? {
                let planned = cutter.plan(&piece, plans)?;
                tally.add(self, engine, &planned, plans);
            }
        }
        if self.roi.is_none() {
            tally.work = tally.work.times(self.extents.depth as u64);
        }
        Ok(Estimate {
            lattice_width: self.lattice.x.count() as u64,
            lattice_height: self.lattice.y.count() as u64,
            classes: self.session.classes as u64,
            work: tally.work,
            peak_bytes: self.fixed_bytes(engine) + tally.piece_bytes + tally.plans_bytes,
        })
    }

    /// Segments all slices. Runs on the workers.
    pub fn segment(
        &self,
        state: &mut State,
        volume: &Volume<'_>,
        grids: &mut Grids<'_>,
        progress: &Progress,
    ) -> Result<Report, Error> {
        let Extents {
            width,
            height,
            depth,
        } = self.extents;
        let session = self.session;
        let control = &session.control;
        let check = || control.check();
        let mut timings = Timings::default();
        let mut tally = Tally::default();
        let mut nonfinite_voxels = 0;
        // What earlier calls needed may be more than this one may hold.
        let tile_budget = self
            .cutter(state.engine.as_ref(), &state.plans, &check)
            .budget;
        state.engine.trim(tile_budget);
        state.input = Vec::new();
        let mut image = try_filled(self.extents.pixels(), 0.0, "one slice")?;
        let mut row = try_filled(width, 0.0, "one row")?;
        let mut scores = Scores::new(self.lattice.points(), session.classes)?;
        let painter = Painter {
            lattice: self.lattice,
            width,
            height,
            fill: session.options.fill,
            lesion_class: session.options.lesion_class as usize,
        };
        // Without a ROI all slices are cut alike.
        let mut whole_slice: Option<Vec<Piece>> = None;
        for z in 0..depth {
            check()?;
            let at = |part: f64| (z as f64 + part) / depth as f64;
            progress.enter(Stage::Intensity, at(0.0));
            nonfinite_voxels += timed(&mut timings.intensity, || {
                session
                    .intensity
                    .slice(volume, z, &mut row, &mut image, &check)
            })?;

            progress.enter(Stage::Plan, at(0.0));
            let (selection, pieces) = timed(&mut timings.plan, || {
                let selection = self.selection(z)?;
                let pieces = match (self.roi, whole_slice.take()) {
                    (None, Some(pieces)) => pieces,
                    _ => self
                        .cutter(state.engine.as_ref(), &state.plans, &check)
                        .cut(&selection, &mut state.plans)?,
                };
                Ok::<_, Error>((selection, pieces))
            })?;

            scores.clear();
            let patches: usize = pieces.iter().map(Piece::patches).sum();
            let mut done = 0;
            for piece in &pieces {
                check()?;
                let planned = timed(&mut timings.plan, || {
                    self.cutter(state.engine.as_ref(), &state.plans, &check)
                        .plan(piece, &mut state.plans)
                })?;
                timed(&mut timings.intensity, || {
                    planned.fill_input(&self.lattice, &image, width, &mut state.input)
                })?;
                let macs = tally.add(self, state.engine.as_ref(), &planned, &state.plans);
                let part = |patches: usize, of: usize| patches as f64 / of as f64;
                let share = part(piece.patches(), patches) / depth as f64;
                progress.piece(at(part(done, patches)), share, macs, control);
                timed(&mut timings.network, || {
                    let mut logits = try_filled(
                        planned.points.len() * session.classes,
                        0.0,
                        "logits of a tile",
                    )?;
                    state
                        .engine
                        .run(&planned.plan, &state.input, &mut logits, control)?;
                    for (&point, logits) in planned
                        .points
                        .iter()
                        .zip(logits.chunks_exact(session.classes))
                    {
                        scores.set(point, logits);
                    }
                    Ok::<_, Error>(())
                })?;
                done += piece.patches();
            }

            check()?;
            progress.enter(Stage::Mask, at(1.0));
            timed(&mut timings.mask, || {
                scores.softmax(&check)?;
                painter.slice(grids, z, &selection, &scores, &check)
            })?;
            session.slices_done.store(z as u64 + 1, Ordering::Release);
            whole_slice = Some(pieces);
        }
        Ok(Report {
            work: tally.work,
            peak_bytes: self.fixed_bytes(state.engine.as_ref())
                + tally.piece_bytes
                + tally.plans_bytes,
            nonfinite_voxels,
            device: state.engine.device(),
            timings,
        })
    }
}

/// Runs `stage` and adds its time to `total`.
fn timed<T>(total: &mut Duration, stage: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let outcome = stage();
    *total += began.elapsed();
    outcome
}

/// Work and memory of the pieces so far.
#[derive(Default)]
struct Tally {
    work: Work,
    /// Most bytes that a piece took.
    piece_bytes: u64,
    /// Most bytes of the plans kept for reuse.
    plans_bytes: u64,
}

impl Tally {
    /// Counts a piece; returns its multiply-accumulates.
    fn add(
        &mut self,
        run: &Run<'_>,
        engine: &dyn Engine,
        piece: &PlannedPiece,
        plans: &AxisPlans,
    ) -> u64 {
        let (convolutions, head) = engine.unit_macs();
        let macs = piece.plan.macs(convolutions, head);
        let patches = piece.points.len() as u64;
        self.work.patches += patches;
        self.work.macs += macs;
        self.work.macs_unshared += patches * run.session.patch_macs;
        self.work.tiles += 1;
        let bytes = engine.plan_bytes(&piece.plan) + piece.bytes();
        self.piece_bytes = self.piece_bytes.max(bytes);
        self.plans_bytes = self.plans_bytes.max(plans.bytes() as u64);
        macs
    }
}

impl Work {
    fn times(self, slices: u64) -> Self {
        Self {
            patches: self.patches * slices,
            macs: self.macs.saturating_mul(slices),
            macs_unshared: self.macs_unshared.saturating_mul(slices),
            tiles: self.tiles * slices,
        }
    }
}

/// Multiply-accumulates of one patch evaluated by itself, every output of every layer.
pub(super) fn patch_macs(engine: &dyn Engine, patch_size: usize) -> u64 {
    let (convolutions, head) = engine.unit_macs();
    let mut side = patch_size as u64;
    let mut macs = head;
    for (index, convolution) in convolutions.iter().enumerate().take(CONVOLUTIONS) {
        macs += side * side * convolution;
        if POOL_AFTER.contains(&(index + 1)) {
            side /= 2;
        }
    }
    macs
}
