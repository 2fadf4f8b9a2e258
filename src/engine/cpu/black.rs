//! Activations that depend on black pixels alone: outside of the body much of a slice is exactly black after windowing, and what a
//! layer makes of it is the same over and over.
//!
//! A run pair (elsewhere: a pixel) whose inputs are all black or zero depends on its **kind** on each axis alone: how many values
//! its run has and which kinds of values that reads. Pairs of equal kinds have equal inputs, bit by bit, so that one is computed and
//! the others are copies of it. The kind of a value is that of its run and its place in it, since with Winograd's method a value's
//! bits depend on both.

use std::collections::HashMap;

use super::runs::{MAX_READ, Run, runs};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::engine::first_layer::INPUT_CHANNELS;
use crate::error::Error;
use crate::memory::{try_filled, try_reserve, try_with_capacity};
use crate::plan::{MAX_RUN, TilePlan, ZERO};

const WHAT: &str = "black pixels of a tile";

/// An image of which some pixels are black.
pub(super) struct Black {
    /// [rows][columns]
    pixels: Vec<bool>,
    /// Of the rows' and columns' values.
    kinds: Axes<Vec<i32>>,
}

/// The run pairs of a layer of which some are black.
pub(super) struct BlackPairs {
    /// [row runs][column runs]
    pub pairs: Vec<bool>,
    /// Of the runs.
    pub kinds: Axes<Vec<i32>>,
}

impl Black {
    /// Of a tile's input image; `None`: nothing is, or only some pixels are stored, those of an organ.
    pub fn of_input(plan: &TilePlan, input: &[f32]) -> Result<Option<Self>, Error> {
        let image = plan.input_of(0);
        if plan.patches().listed().is_some() {
            return Ok(None);
        }
        let mut pixels = try_filled(image.len(), false, WHAT)?;
        let intensities = input.chunks_exact(INPUT_CHANNELS).map(|pixel| pixel[0]);
        pixels.iter_mut().zip(intensities).for_each(|(black, intensity)| *black = intensity == 0.0);
        if !pixels.contains(&true) {
            return Ok(None);
        }
        let kinds = Axes { rows: image.rows, columns: image.columns }.try_map(|len| try_filled(len, 0, WHAT))?;
        Ok(Some(Self { pixels, kinds }))
    }

    /// Of the output of step `index`, which has no runs; `None`: nothing is.
    pub fn after(&self, plan: &TilePlan, index: usize, cancel: &Cancel) -> Result<Option<Self>, Error> {
        let runs = plan.axes.layer(index).try_map(runs)?;
        let runs = runs.as_ref().map(|runs| &runs[..]);
        self.pairs(runs, cancel)?.map(|pairs| pairs.output(runs)).transpose()
    }

    /// The pairs of these runs, which read this image; `None`: none is black, or they are too many to be numbered by u32.
    pub fn pairs(&self, runs: Axes<&[Run]>, cancel: &Cancel) -> Result<Option<BlackPairs>, Error> {
        let Axes { rows, columns } = runs;
        if u32::try_from(rows.len() * columns.len()).is_err() {
            return Ok(None);
        }
        let is_black = |line: &[bool], run: &Run| run.taps.iter().all(|&tap| tap == ZERO || line[tap as usize]);
        // Of each row of this image, which column runs read black alone.
        let mut across = try_filled(self.kinds.rows.len() * columns.len(), false, WHAT)?;
        let lines = self.pixels.chunks_exact(self.kinds.columns.len());
        for (across, line) in across.chunks_exact_mut(columns.len()).zip(lines) {
            cancel.check()?;
            across.iter_mut().zip(columns).for_each(|(black, run)| *black = is_black(line, run));
        }
        let mut pairs = try_filled(rows.len() * columns.len(), true, WHAT)?;
        for (pairs, run) in pairs.chunks_exact_mut(columns.len()).zip(rows) {
            cancel.check()?;
            for &tap in run.taps.iter().filter(|&&tap| tap != ZERO) {
                let across = &across[tap as usize * columns.len()..];
                pairs.iter_mut().zip(across).for_each(|(pair, &black)| *pair &= black);
            }
        }
        if !pairs.contains(&true) {
            return Ok(None);
        }
        let kinds = runs.zip(self.kinds.as_ref()).try_map(|(runs, kinds)| kinds_of(runs, kinds))?;
        Ok(Some(BlackPairs { pairs, kinds }))
    }
}

impl BlackPairs {
    /// The image that the pairs of `runs` write.
    pub fn output(&self, runs: Axes<&[Run]>) -> Result<Black, Error> {
        let kinds = runs.zip(self.kinds.as_ref()).try_map(|(runs, kinds)| {
            let mut values = try_with_capacity(length(runs), WHAT)?;
            for (run, kind) in runs.iter().zip(kinds) {
                values.extend((0..run.len as i32).map(|place| kind * MAX_RUN as i32 + place));
            }
            Ok::<_, Error>(values)
        })?;
        let mut pixels = try_with_capacity(kinds.rows.len() * kinds.columns.len(), WHAT)?;
        for (pairs, rows) in self.pairs.chunks_exact(runs.columns.len()).zip(runs.rows) {
            let first = pixels.len();
            for (&black, columns) in pairs.iter().zip(runs.columns) {
                pixels.extend(std::iter::repeat_n(black, columns.len));
            }
            let line = first..pixels.len();
            (1..rows.len).for_each(|_| pixels.extend_from_within(line.clone()));
        }
        Ok(Black { pixels, kinds })
    }
}

/// Values of all runs.
fn length(runs: &[Run]) -> usize {
    runs.last().map_or(0, |run| run.first + run.len)
}

/// The same number for runs that are alike.
fn kinds_of(runs: &[Run], inputs: &[i32]) -> Result<Vec<i32>, Error> {
    let mut known: HashMap<(usize, [i32; MAX_READ]), i32> = HashMap::new();
    let mut kinds = try_with_capacity(runs.len(), WHAT)?;
    for run in runs {
        let read = run.taps.map(|tap| if tap == ZERO { ZERO } else { inputs[tap as usize] });
        let next = known.len() as i32;
        try_reserve(&mut known, 1, WHAT)?;
        kinds.push(*known.entry((run.len, read)).or_insert(next));
    }
    Ok(kinds)
}
