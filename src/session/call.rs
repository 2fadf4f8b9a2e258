//! One call with its volume's geometry checked: the dry run, and what segmenting begins with.

use super::options::{Centres, Estimate, Options, Outputs};
use super::slice_tiles::SliceTiles;
use super::tally::Tally;
use super::tiling::Tiling;
use crate::body::{bytes_for_body, find_body};
use crate::engine::{Bytes, Control, DeviceKind, EngineInfo, Geometry, Request};
use crate::error::Error;
use crate::intensity::Intensity;
use crate::mask::{Decision, Interpolation, OutputViews};
use crate::patch_grid::{Axis, PatchGrid, Selection};
use crate::plan::{AxisPlans, strip_limits};
use crate::resampling::Scale;
use crate::volume::{Extents, Memory, Spacing, Volume};

pub(super) struct Call<'a> {
    pub options: &'a Options,
    pub info: &'a EngineInfo,
    pub control: &'a Control,
    pub geometry: Geometry,
    spacing: Option<Spacing>,
    roi: Option<&'a Volume<'a>>,
    /// For everything.
    budget: Bytes,
    /// Held for the whole call, besides tiles and plans.
    pub held: Bytes,
}

impl<'a> Call<'a> {
    /// `classes`: the model's; `budget`: the session's.
    pub fn new(
        options: &'a Options,
        info: &'a EngineInfo,
        control: &'a Control,
        (classes, budget): (usize, Bytes),
        (extents, spacing): (Extents, Option<Spacing>),
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
        if roi.is_some_and(|roi| roi.memory() != Memory::Host) {
            return Err(Error::invalid("roi in device memory: copy it to host memory".into()));
        }
        let scale = options.scale(extents, spacing)?;
        let grid = PatchGrid::new(scale, options.patch_size, options.stride, options.crop)?;
        let geometry = Geometry { extents, grid, roi: roi.is_some() || options.body, classes };
        let selection = Selection::bytes(extents, &grid, usize::from(roi.is_some()) + usize::from(options.body));
        let body = if options.body { bytes_for_body(extents)? } else { 0 };
        let held = info.fixed + info.memory.call(&geometry)? + Bytes::host(selection + body);
        Ok(Self { options, info, control, geometry, spacing, roi, budget, held })
    }

    /// The caller's buffers, checked against the shapes and against each other.
    pub fn outputs<'o>(&self, volume: &Volume<'_>, outputs: &'o mut Outputs<'_>) -> Result<OutputViews<'o>, Error> {
        let Extents { width, height, depth } = self.geometry.extents;
        let voxels = [1, width, height, depth];
        let PatchGrid { x, y, .. } = self.geometry.grid;
        let patches = [self.geometry.classes, x.count(), y.count(), depth];
        let views = OutputViews {
            mask: outputs.mask.as_mut().map(|o| o.view(voxels, "mask")).transpose()?,
            probability: outputs.probability.as_mut().map(|o| o.view(voxels, "probability")).transpose()?,
            coverage: outputs.coverage.as_mut().map(|o| o.view(voxels, "coverage")).transpose()?,
            logits: outputs.logits.as_mut().map(|o| o.view(patches, "logits")).transpose()?,
        };
        let written: Vec<_> =
            views.arrays().named().into_iter().filter_map(|(name, array)| Some((name, array?))).collect();
        if written.is_empty() {
            return Err(Error::invalid(
                "outputs: no buffer is given, set at least one of mask, probability, coverage and \
                 logits"
                    .into(),
            ));
        }
        let mut read = vec![("volume", volume.array())];
        read.extend(self.roi.map(|roi| ("roi", roi.array())));
        for (index, (name, array)) in written.iter().enumerate() {
            for (other, theirs) in read.iter().chain(&written[..index]) {
                if array.overlaps(theirs) {
                    return Err(Error::invalid(format!(
                        "{name} overlaps {other}: every buffer needs memory of its own"
                    )));
                }
            }
        }
        Ok(views)
    }

    /// True where all slices are cut into the same tiles.
    pub fn is_cut_once(&self) -> bool {
        self.roi.is_none()
    }

    pub fn request(&self, volume: &'a Volume<'a>, outputs: &OutputViews<'_>) -> Result<Request<'a>, Error> {
        let request = Request {
            geometry: self.geometry,
            volume,
            outputs: outputs.arrays(),
            outputs_memory: outputs.memory()?,
            intensity: Intensity::new(self.options.window, self.options.equalize)?,
            decision: Decision {
                interpolation: self.options.interpolation,
                lesion_class: self.options.lesion_class as usize,
                threshold: self.options.threshold.map(|threshold| threshold as f32),
            },
            control: self.control,
        };
        if let Some(name) = request.on_device()
            && self.info.device == DeviceKind::Cpu
        {
            return Err(Error::invalid(format!(
                "{name} in device memory: this session runs on the CPU; copy to host memory, or make the \
                 session with the device cuda"
            )));
        }
        if self.options.body && volume.memory() != Memory::Host {
            return Err(Error::invalid(
                "body of a volume in device memory: it is looked for in host memory; copy the volume there, or set body to 0".into(),
            ));
        }
        Ok(request)
    }

    /// The voxels and patches of slice `z` that are wanted, whatever lies in the body.
    pub fn selection(&self, z: usize) -> Result<Selection, Error> {
        let Some(roi) = self.roi else { return Ok(Selection::everything()) };
        Selection::from_roi(roi, z, &self.geometry.grid, self.interpolated(), &self.control.cancel)
    }

    /// What of that lies in the body where one is asked for, and the voxels of the body.
    pub fn within_body(&self, selection: Selection, volume: &Volume<'_>, z: usize) -> Result<(Selection, u64), Error> {
        if !self.options.body {
            return Ok((selection, volume.extents().pixels() as u64));
        }
        let cancel = &self.control.cancel;
        let (body, voxels) = find_body(volume, z, cancel)?;
        Ok((selection.within(body, &self.geometry.grid, self.interpolated(), cancel)?, voxels))
    }

    fn interpolated(&self) -> bool {
        self.options.interpolation == Interpolation::Linear
    }

    pub fn tiling(&self, plans: &AxisPlans) -> Tiling<'_> {
        let axes = self.geometry.grid.axes().zip(self.info.max_runs);
        Tiling {
            grid: self.geometry.grid,
            padding: self.options.padding,
            sharing: self.options.sharing,
            lists: self.geometry.roi,
            budget: self.budget.less(self.held + Bytes::host(plans.limit() as u64)),
            info: self.info,
            limits: axes.map(|(axis, max_runs)| strip_limits(&axis, max_runs.as_ref())),
            cancel: &self.control.cancel,
        }
    }

    /// See [`Centres`].
    fn centres(&self) -> Centres {
        let PatchGrid { x, y, voxels } = self.geometry.grid;
        let of = |axis: Axis, scale: Scale, spacing: f64| {
            let pixel = if scale.is_same() { spacing } else { spacing * scale.voxels as f64 / scale.pixels as f64 };
            (spacing * scale.in_voxels(axis.origin), axis.stride as f64 * pixel, pixel)
        };
        let Spacing { x: across, y: down } = self.spacing.unwrap_or(Spacing { x: 1.0, y: 1.0 });
        let (x, y) = (of(x, voxels.columns.scale, across), of(y, voxels.rows.scale, down));
        Centres { origin: [x.0, y.0], spacing: [x.1, y.1], pixel: [x.2, y.2] }
    }

    /// The dry run: cuts and plans every slice, evaluates nothing. A body, which is not known, may be all of a slice, or any part.
    pub fn estimate(&self, plans: &mut AxisPlans) -> Result<Estimate, Error> {
        let tiling = self.tiling(plans);
        let mut tally = Tally::new(self.info, self.options.patch_size);
        let depth = self.geometry.extents.depth;
        for z in 0..if self.roi.is_some() { depth } else { 1 } {
            self.control.cancel.check()?;
            let selection = self.selection(z)?;
            let Some(cut) = tiling.cut(&selection, plans)? else { continue };
            tally.reserve(self.info.memory.reservation(depth, cut.largest, tiling.budget).wanted);
            if self.options.body {
                tally.reserve_any_part(cut.largest, plans);
            }
            match SliceTiles::new(&tiling, cut, &selection, plans)? {
                SliceTiles::Cached { tiles, bytes } => {
                    tally.add(&tiles, bytes, plans);
                }
                SliceTiles::OneByOne(cut) => {
                    for tile in tiling.tiles(&cut, &selection) {
                        self.control.cancel.check()?;
                        let planned = tiling.plan(&tile?, plans)?;
                        tally.add(std::slice::from_ref(&planned), planned.bytes(), plans);
                    }
                }
            }
        }
        if self.roi.is_none() {
            tally.work = tally.work.times(depth as u64);
        }
        let PatchGrid { x, y, .. } = self.geometry.grid;
        Ok(Estimate {
            grid_width: x.count() as u64,
            grid_height: y.count() as u64,
            classes: self.geometry.classes as u64,
            centres: self.centres(),
            work: tally.work,
            peak: tally.peak(self.held),
        })
    }
}
