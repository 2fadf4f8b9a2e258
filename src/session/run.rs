//! One call: all slices, or the dry run over them.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering;

use super::Session;
use super::cut::{Cut, Standing};
use super::options::{Estimate, Options, Outputs, Report};
use super::progress::Progress;
use super::slices::Slices;
use super::tally::Tally;
use super::tiles::Cutter;
use crate::engine::{Bytes, Call, Device, Engine, Geometry};
use crate::error::{Check, Error};
use crate::lattice::{Lattice, Selection};
use crate::mask::{Fill, Grids};
use crate::network::{CONVOLUTIONS, POOL_AFTER};
use crate::plan::AxisPlans;
use crate::volume::{Extents, Memory, Volume};

/// What a session keeps between calls.
pub(super) struct State {
    pub engine: Box<dyn Engine>,
    pub plans: AxisPlans,
}

impl State {
    /// `budget`: for everything.
    pub fn new(engine: Box<dyn Engine>, budget: Bytes) -> Self {
        const MOST_PLANS: u64 = 64 << 20;
        let most_plans = (budget.host / 16).min(MOST_PLANS) as usize;
        Self { plans: AxisPlans::new(engine.most_chain(), most_plans), engine }
    }

    /// Gives back what can be had again when it is needed.
    pub fn trim(&mut self) {
        self.engine.trim();
        self.plans.forget();
    }
}

/// A call with its volume's geometry checked.
pub(super) struct Run<'a> {
    session: &'a Session,
    geometry: Geometry,
    roi: Option<&'a Volume<'a>>,
}

impl<'a> Run<'a> {
    pub fn new(session: &'a Session, extents: Extents, roi: Option<&'a Volume<'a>>) -> Result<Self, Error> {
        if let Some(roi) = roi
            && roi.extents() != extents
        {
            let r = roi.extents();
            return Err(Error::invalid(format!(
                "roi of {} x {} x {} voxels: must have the volume's extents, {} x {} x {}",
                r.width, r.height, r.depth, extents.width, extents.height, extents.depth
            )));
        }
        if roi.is_some_and(|roi| roi.memory() != Memory::Host) {
            return Err(Error::invalid("roi in device memory: copy it to host memory".into()));
        }
        let Options { patch_size, stride, crop, .. } = session.options;
        let geometry = Geometry {
            extents,
            lattice: Lattice::new(extents, patch_size, stride, crop)?,
            roi: roi.is_some(),
            classes: session.classes,
        };
        Ok(Self { session, geometry, roi })
    }

    /// The caller's buffers, checked against the shapes and against each other.
    pub fn grids<'o>(&self, volume: &Volume<'_>, outputs: &'o mut Outputs<'_>) -> Result<Grids<'o>, Error> {
        let Extents { width, height, depth } = self.geometry.extents;
        let voxels = [1, width, height, depth];
        let Lattice { x, y } = self.geometry.lattice;
        let points = [self.session.classes, x.count(), y.count(), depth];
        let grids = Grids {
            mask: (outputs.mask.as_mut().map(|o| o.grid(voxels, "mask"))).transpose()?,
            probability: (outputs.probability.as_mut()).map(|o| o.grid(voxels, "probability")).transpose()?,
            coverage: (outputs.coverage.as_mut()).map(|o| o.grid(voxels, "coverage")).transpose()?,
            logits: (outputs.logits.as_mut().map(|o| o.grid(points, "logits"))).transpose()?,
        };
        let written: Vec<_> = [
            grids.mask.as_ref().map(|g| ("mask", g.footprint())),
            grids.probability.as_ref().map(|g| ("probability", g.footprint())),
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

    /// Multiply-accumulates of one patch by itself.
    pub fn patch_macs(&self) -> u64 {
        self.session.patch_macs
    }

    /// Slice `z`, and all before it, are in the caller's buffers.
    pub fn finished(&self, z: usize) {
        let slices = &self.session.slices_done;
        slices.store(z as u64 + 1, Ordering::Release);
    }

    /// Which lattice points of slice `z` are wanted.
    pub fn selection(&self, z: usize) -> Result<Selection, Error> {
        match self.roi {
            Some(roi) => {
                let interpolated = self.session.options.fill == Fill::Linear;
                let check = || self.session.control.check();
                Selection::from_roi(roi, z, &self.geometry.lattice, interpolated, &check)
            }
            None => Ok(Selection::everything()),
        }
    }

    /// Bytes held for the whole call, besides what pieces and plans take.
    fn held(&self, engine: &dyn Engine) -> Bytes {
        let points = self.geometry.lattice.points() as u64;
        let selection = match self.roi {
            Some(_) => self.geometry.extents.pixels() as u64 + points,
            None => 0,
        };
        engine.fixed_bytes() + engine.call_bytes(&self.geometry) + Bytes::host(selection)
    }

    pub fn cutter<'e>(&self, engine: &'e dyn Engine, plans: &AxisPlans, check: Check<'e>) -> Cutter<'e> {
        let held = self.held(engine) + Bytes::host(plans.limit() as u64);
        Cutter {
            lattice: self.geometry.lattice,
            padding: self.session.options.padding,
            sharing: self.session.options.sharing,
            lists: self.roi.is_some(),
            budget: self.session.budget.less(held),
            engine,
            check,
        }
    }

    /// The dry run: cuts and plans every slice, evaluates nothing.
    pub fn estimate(&self, state: &mut State) -> Result<Estimate, Error> {
        let State { engine, plans } = state;
        let engine = engine.as_ref();
        engine.check(&self.geometry)?;
        let check = || self.session.control.check();
        let cutter = self.cutter(engine, plans, &check);
        let mut tally = Tally::default();
        let depth = self.geometry.extents.depth;
        for z in 0..if self.roi.is_some() { depth } else { 1 } {
            check()?;
            let selection = self.selection(z)?;
            let (pieces, largest) = cutter.cut(&selection, plans)?;
            tally.reserve(engine.room(depth, largest, cutter.budget).wanted);
            match Cut::new(&cutter, pieces, largest, plans)? {
                Cut::Standing(Standing { pieces, bytes }) => {
                    tally.add(self, engine, (&pieces, bytes), plans);
                }
                Cut::Pieces(pieces) => {
                    for piece in &pieces {
                        let planned = cutter.plan(piece, plans)?;
                        let held = (std::slice::from_ref(&planned), planned.bytes());
                        tally.add(self, engine, held, plans);
                    }
                }
            }
        }
        if self.roi.is_none() {
            tally.work = tally.work.times(depth as u64);
        }
        let Lattice { x, y } = self.geometry.lattice;
        Ok(Estimate {
            lattice_width: x.count() as u64,
            lattice_height: y.count() as u64,
            classes: self.session.classes as u64,
            work: tally.work,
            peak: tally.peak(self.held(engine)),
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
        let call = Call {
            geometry: self.geometry,
            volume,
            wanted: grids.wanted(),
            planes: grids.on_device()?,
            intensity: self.session.intensity,
            fill: self.session.options.fill,
            lesion_class: self.session.options.lesion_class as usize,
            control: &self.session.control,
        };
        let in_device_memory = [("volume", volume.memory() != Memory::Host), ("outputs", call.planes.is_some())];
        for (name, on_device) in in_device_memory {
            if on_device && state.engine.device() == Device::Cpu {
                return Err(Error::invalid(format!(
                    "{name} in device memory: this session runs on the CPU; copy to host memory, or make the \
                     session with the device cuda"
                )));
            }
        }
        state.engine.check(&self.geometry)?;
        let mut slices = Slices::new(self, call, progress);
        // Also after a panic: a device may still be at work on the caller's buffers.
        let outcome = catch_unwind(AssertUnwindSafe(|| slices.all(state, grids)));
        state.engine.end();
        outcome.unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(Report {
            work: slices.tally.work,
            peak: slices.tally.peak(self.held(state.engine.as_ref())),
            nonfinite_voxels: slices.nonfinite_voxels,
            device: state.engine.device(),
            timings: slices.timings,
        })
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
