//! Axes cut into sections of values, whose products are the subtiles that a block of threads evaluates.

use super::params::{AxisSection, SECTION_ZERO, SUBTILE_COLUMNS, SUBTILE_ROWS, Subtile};
use crate::axes::Axes;
use crate::cancel::Cancel;
use crate::error::Error;
use crate::memory::{try_filled, try_with_capacity};
use crate::plan::{Image, TapTable};

/// Maximum sections of `values` values: all but the last are full, and each value has 3 taps at most.
pub(super) fn max_sections(values: usize, inputs: usize) -> usize {
    values.div_ceil(inputs / 3)
}

/// Cuts an axis into sections of consecutive values, each as long as it may be.
pub(super) fn sections<const VALUES: usize, const INPUTS: usize>(taps: &TapTable) -> Vec<AxisSection<VALUES, INPUTS>> {
    let mut sections = Vec::new();
    let mut section = empty(0);
    for value in 0..taps.len() {
        if !push(&mut section, taps.taps_of(value)) {
            sections.push(section);
            section = empty(value);
            // A single value has at most 3 inputs.
            push(&mut section, taps.taps_of(value));
        }
    }
    sections.push(section);
    sections
}

fn empty<const VALUES: usize, const INPUTS: usize>(first: usize) -> AxisSection<VALUES, INPUTS> {
    AxisSection { first: first as i32, count: 0, inputs: 0, input: [0; INPUTS], tap: [[SECTION_ZERO; 4]; VALUES] }
}

/// Adds a value with these taps, unless it does not fit.
fn push<const VALUES: usize, const INPUTS: usize>(section: &mut AxisSection<VALUES, INPUTS>, taps: &[i32]) -> bool {
    if section.count as usize == VALUES {
        return false;
    }
    let mut inputs = section.inputs as usize;
    let mut local = [SECTION_ZERO; 4];
    for (tap, &input) in taps.iter().enumerate().filter(|&(_, &input)| input >= 0) {
        let known = section.input[..inputs].iter().rposition(|&known| known == input);
        let index = known.unwrap_or(inputs);
        if index == INPUTS {
            return false;
        }
        if index == inputs {
            // Counts only if the value fits.
            section.input[index] = input;
            inputs += 1;
        }
        local[tap] = index as u8;
    }
    section.tap[section.count as usize] = local;
    section.inputs = inputs as i32;
    section.count += 1;
    true
}

/// For each value its section, and its index in it.
pub(super) fn section_of_values<const VALUES: usize, const INPUTS: usize>(
    sections: &[AxisSection<VALUES, INPUTS>],
) -> Vec<(usize, usize)> {
    let of_section = |(number, section): (usize, &AxisSection<VALUES, INPUTS>)| {
        (0..section.count as usize).map(move |index| (number, index))
    };
    sections.iter().enumerate().flat_map(of_section).collect()
}

/// The same where all sections are full.
pub(super) fn even_sections<const VALUES: usize>(values: usize) -> Vec<(usize, usize)> {
    (0..values).map(|value| (value / VALUES, value % VALUES)).collect()
}

/// The subtiles with at least one pixel that is stored; `None` where all pixels are. `values`: the section of each
/// value, and its index in it.
pub(super) fn wanted_subtiles(
    image: &Image,
    values: Axes<&[(usize, usize)]>,
    cancel: &Cancel,
) -> Result<Option<Vec<Subtile>>, Error> {
    const WHAT: &str = "subtiles of a ROI";
    let Axes { rows, columns } = values;
    let Some(stored) = image.listed() else {
        return Ok(None);
    };
    let row_sections = rows.last().map_or(0, |last| last.0 + 1);
    let column_sections = columns.last().map_or(0, |last| last.0 + 1);
    // For each set of columns a bit for each column of each section.
    let mut masks = try_filled(stored.sets() * column_sections, 0_u32, WHAT)?;
    for (set, masks) in masks.chunks_exact_mut(column_sections).enumerate() {
        cancel.check()?;
        for &column in stored.columns_of(set) {
            let (section, index) = columns[column as usize];
            masks[section] |= 1 << index;
        }
    }
    const NOTHING: [u32; SUBTILE_ROWS * SUBTILE_COLUMNS / 32] = [0; SUBTILE_ROWS * SUBTILE_COLUMNS / 32];
    let mut subtiles = try_with_capacity(row_sections * column_sections, WHAT)?;
    let mut wanted = try_filled(column_sections, NOTHING, WHAT)?;
    let mut values = rows.iter().enumerate().peekable();
    for row_section in 0..row_sections {
        cancel.check()?;
        wanted.fill(NOTHING);
        while let Some((row, (_, index))) = values.next_if(|(_, (section, _))| *section == row_section) {
            let bit = index * SUBTILE_COLUMNS;
            let masks = &masks[stored.set_of_row(row) * column_sections..];
            for (wanted, mask) in wanted.iter_mut().zip(masks) {
                wanted[bit / 32] |= mask << (bit % 32);
            }
        }
        let some = wanted.iter().enumerate();
        let some = some.filter(|&(_, &wanted)| wanted != NOTHING);
        subtiles.extend(some.map(|(column_section, &wanted)| Subtile {
            row_section: row_section as i32,
            column_section: column_section as i32,
            wanted,
        }));
    }
    Ok(Some(subtiles))
}

/// The stored pixels (row * columns + column); `None` where all are.
pub(super) fn listed_pixels(image: &Image) -> Result<Option<Vec<u32>>, Error> {
    let Some(stored) = image.listed() else {
        return Ok(None);
    };
    let mut pixels = try_with_capacity(stored.len(), "patches of a ROI")?;
    for row in 0..image.rows {
        let first = (row * image.columns) as u32;
        let columns = stored.columns_of(stored.set_of_row(row));
        pixels.extend(columns.iter().map(|column| first + column));
    }
    Ok(Some(pixels))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::cuda::params::{RowSection, SUBTILE_INPUT_COLUMNS, SUBTILE_INPUT_ROWS};
    use crate::patch_grid::{Padding, PatchGrid};
    use crate::plan::{AxisPlan, AxisPlans, STEPS, Step, TilePlan};
    use crate::resampling::Scale;
    use crate::volume::Extents;

    /// All patches of an axis of `side` pixels.
    pub fn axis(patch_size: u32, stride: u32, side: u64, padding: Padding) -> Arc<AxisPlan> {
        let extents = Extents::new(side, side, 1, "volume").unwrap();
        let grid = PatchGrid::new(Scale::same_axes(extents), patch_size, stride, None).unwrap();
        AxisPlans::new(0).whole(&grid.x, None, padding, &Cancel::default()).unwrap()
    }

    /// Sections say of every value's taps what the tap table says.
    #[test]
    fn sections_are_the_tap_table() {
        for (patch_size, stride) in [(32, 1), (33, 7), (65, 4), (48, 48), (257, 7)] {
            let axis = axis(patch_size, stride, 300, Padding::Patch);
            for (index, _) in STEPS.iter().enumerate().filter(|(_, step)| matches!(step, Step::Convolution(_))) {
                let taps = axis.layer(index);
                let sections: Vec<RowSection> = sections(taps);
                let mut value = 0;
                for section in &sections {
                    assert_eq!(section.first as usize, value);
                    assert!((1..=SUBTILE_ROWS as i32).contains(&section.count));
                    for local in &section.tap[..section.count as usize] {
                        let expected = taps.taps_of(value);
                        for (&local, &tap) in local[..3].iter().zip(expected) {
                            match local {
                                SECTION_ZERO => assert_eq!(tap, -1),
                                local => assert_eq!(section.input[local as usize], tap),
                            }
                        }
                        value += 1;
                    }
                }
                assert_eq!(value, taps.len());
            }
        }
    }

    /// Each stored pixel is a bit of one subtile, no other is, and no subtile is empty.
    #[test]
    fn wanted_subtiles_are_the_stored_pixels() {
        let axis = axis(65, 9, 120, Padding::Patch);
        let wanted: Vec<bool> = (0..14 * 14).map(|k| k % 14 + k / 14 == 12).collect();
        let plan = TilePlan::new(Axes { rows: axis.clone(), columns: axis.clone() }, Some(&wanted), &Cancel::default())
            .unwrap();
        for (index, step) in STEPS[..STEPS.len() - 1].iter().enumerate() {
            let (taps, image) = (axis.layer(index), plan.output_of(index));
            let (rows, columns) = match step {
                Step::Convolution(1..) => (
                    section_of_values(&sections::<SUBTILE_ROWS, SUBTILE_INPUT_ROWS>(taps)),
                    section_of_values(&sections::<SUBTILE_COLUMNS, SUBTILE_INPUT_COLUMNS>(taps)),
                ),
                _ => (even_sections::<SUBTILE_ROWS>(taps.len()), even_sections::<SUBTILE_COLUMNS>(taps.len())),
            };
            let subtiles = wanted_subtiles(image, Axes { rows: &rows[..], columns: &columns[..] }, &Cancel::default())
                .unwrap()
                .unwrap();
            let at = |section: usize, index: usize, values: &[(usize, usize)]| {
                values.iter().position(|&value| value == (section, index))
            };
            let mut bits = 0;
            for subtile in &subtiles {
                assert_ne!(subtile.wanted, [0; 4], "step {index}");
                for bit in (0..128).filter(|bit| subtile.wanted[bit / 32] >> (bit % 32) & 1 == 1) {
                    let row = at(subtile.row_section as usize, bit / SUBTILE_COLUMNS, &rows);
                    let column = at(subtile.column_section as usize, bit % SUBTILE_COLUMNS, &columns);
                    assert!(image.stores(row.unwrap(), column.unwrap()), "step {index}");
                    bits += 1;
                }
            }
            assert_eq!(bits, image.len(), "step {index}");
            let listed = listed_pixels(image).unwrap().unwrap();
            assert!((0..image.len()).all(|pixel| {
                let (row, column) = image.position(pixel);
                listed[pixel] as usize == row * image.columns + column
            }));
        }
    }

    /// The share of a subtile's pixels that is wasted on full-width settings, by sections that end early because their inputs
    /// do not fit, and the pixels of its halo for each of its own: 1.4 where all values are neighbours. Values in the
    /// order of their first patch, position by position, are nearly that; or the convolutions would be slower than they
    /// are meant to be.
    #[test]
    fn subtiles_are_nearly_full_and_their_halos_compact() {
        for (patch_size, stride, padding, most, max_halo) in [
            (257, 8, Padding::Patch, 1.05, 2.0),
            (257, 7, Padding::Patch, 1.05, 2.0),
            (225, 8, Padding::Patch, 1.05, 2.0),
            (65, 4, Padding::Patch, 1.2, 2.2),
            (257, 8, Padding::Image, 1.3, 1.7),
        ] {
            let axis = axis(patch_size, stride, 512, padding);
            for (index, step) in STEPS.iter().enumerate() {
                if let Step::Convolution(i @ 1..) = step {
                    let taps = axis.layer(index);
                    let rows = sections::<SUBTILE_ROWS, SUBTILE_INPUT_ROWS>(taps);
                    let columns = sections::<SUBTILE_COLUMNS, SUBTILE_INPUT_COLUMNS>(taps);
                    let made = rows.len() * SUBTILE_ROWS * columns.len() * SUBTILE_COLUMNS;
                    let pixels = (taps.len() * taps.len()) as f64;
                    let waste = made as f64 / pixels;
                    let inputs = |row: i32, column: i32| f64::from(row) * f64::from(column);
                    let halo = inputs(
                        rows.iter().map(|section| section.inputs).sum(),
                        columns.iter().map(|section| section.inputs).sum(),
                    ) / pixels;
                    let layer = format!("{patch_size}/{stride} {padding:?} convolution {i}");
                    println!("{layer}: {waste:.3} pixels made for one, {halo:.2} read");
                    assert!(waste <= most && halo <= max_halo, "{layer}: {waste} {halo}");
                }
            }
        }
    }
}
