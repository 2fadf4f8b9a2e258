//! The body in a slice, found by its values: outside of it lie air, the couch, blankets, and whatever else is apart from it.
//!
//! ```text
//! tissue   voxels above -500 HU: half-way from air (-1000) to water (0), where an edge that the scanner blurs still is
//! largest  the component of tissue with the most voxels, the first of equals
//! filled   and all that this encloses: lungs, gas in the bowel
//! ```
//! Neighbours are the four that share a side, in the slice alone. Components are found by union and find (Tarjan, Efficiency of a
//! Good But Not Linear Set Union Algorithm, 1975): no recursion, and memory that is known beforehand.

use crate::cancel::{AT_A_TIME, Cancel};
use crate::error::Error;
use crate::memory::Zeros;
use crate::volume::{Extents, Volume};

/// What lies above it is tissue.
const SURFACE_HU: f64 = -500.0;

const WHAT: &str = "body of a slice";

/// Bytes that are held while a body is looked for, besides it. Fails where a slice is too large for that.
pub(crate) fn bytes_for_body(extents: Extents) -> Result<u64, Error> {
    let pixels = extents.pixels();
    if pixels >= i32::MAX as usize {
        return Err(Error::invalid(format!(
            "body in slices of {} x {} voxels: must be fewer than {}; set body to 0, and give a ROI instead",
            extents.width,
            extents.height,
            i32::MAX
        )));
    }
    Ok(((pixels + 1) * size_of::<i32>()) as u64)
}

/// [height][width] of slice `z`: true in the body; and how many are.
pub(crate) fn find_body(volume: &Volume<'_>, z: usize, cancel: &Cancel) -> Result<(Zeros<bool>, u64), Error> {
    let width = volume.extents().width;
    let mut inside = volume.select(z, |hu| hu > SURFACE_HU && hu.is_finite(), WHAT, cancel)?;
    keep_largest(&mut inside, width, cancel)?;
    let count = fill(&mut inside, width, cancel)?;
    Ok((inside, count))
}

fn keep_largest(inside: &mut [bool], width: usize, cancel: &Cancel) -> Result<(), Error> {
    let mut links = Zeros::new(inside.len() + 1, WHAT)?;
    connect(inside, true, width, &mut links, cancel)?;
    let (mut largest, mut size) = (0, 0);
    cancel.each(inside, |i, inside| {
        if *inside {
            let root = root(&mut links, i);
            if members(links[root]) > size {
                (largest, size) = (root, members(links[root]));
            }
        }
    })?;
    cancel.each(inside, |i, inside| *inside = *inside && root(&mut links, i) == largest)
}

/// Returns how many are inside then.
fn fill(inside: &mut [bool], width: usize, cancel: &Cancel) -> Result<u64, Error> {
    let mut links = Zeros::new(inside.len() + 1, WHAT)?;
    connect(inside, false, width, &mut links, cancel)?;
    let (border, mut count) = (inside.len(), 0);
    cancel.each(inside, |i, inside| {
        *inside = *inside || root(&mut links, i) != root(&mut links, border);
        count += u64::from(*inside);
    })?;
    Ok(count)
}

/// Links all neighbours that are both inside, or (`of` is false) both outside, these with the last link too where they lie at the
/// slice's border.
///
/// A link above 0 leads to another member of its component: to pixel `link - 1`. The others are roots, see [`members`].
fn connect(inside: &[bool], of: bool, width: usize, links: &mut [i32], cancel: &Cancel) -> Result<(), Error> {
    let (pixels, last_row) = (inside.len(), inside.len() - width);
    for row in (0..pixels).step_by(width) {
        for first in (row..row + width).step_by(AT_A_TIME) {
            cancel.check()?;
            for i in (first..(first + AT_A_TIME).min(row + width)).filter(|&i| inside[i] == of) {
                let left = i > row && inside[i - 1] == of;
                let above = row > 0 && inside[i - width] == of;
                if left {
                    join(links, i - 1, i);
                }
                // Else both are linked by the pixel between them.
                if above && !(left && inside[i - width - 1] == of) {
                    join(links, i - width, i);
                }
                if !of && (row == 0 || row == last_row || i == row || i + 1 == row + width) {
                    join(links, pixels, i);
                }
            }
        }
    }
    Ok(())
}

/// How many pixels a root stands for: 1 where its link is 0.
fn members(link: i32) -> i32 {
    1 - link
}

fn root(links: &mut [i32], mut i: usize) -> usize {
    while links[i] > 0 {
        let next = links[i] as usize - 1;
        if links[next] > 0 {
            links[i] = links[next];
        }
        i = next;
    }
    i
}

fn join(links: &mut [i32], a: usize, b: usize) {
    let (a, b) = (root(links, a), root(links, b));
    if a != b {
        let (more, less) = if links[a] <= links[b] { (a, b) } else { (b, a) };
        links[more] -= members(links[less]);
        links[less] = more as i32 + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of a slice, `#` is tissue; the same with `#` for the body.
    fn body(rows: &str) -> Vec<String> {
        let rows: Vec<&str> = rows.split_whitespace().collect();
        let (width, height) = (rows[0].len(), rows.len());
        let voxels: Vec<i16> = rows.concat().bytes().map(|byte| if byte == b'#' { 40 } else { -1000 }).collect();
        let volume = Volume::from_slice(&voxels, width, height, 1).unwrap();
        let (inside, count) = find_body(&volume, 0, &Cancel::default()).unwrap();
        assert_eq!(count, inside.iter().filter(|&&inside| inside).count() as u64);
        let line = |row: &[bool]| row.iter().map(|&inside| if inside { '#' } else { '.' }).collect();
        inside.chunks(width).map(line).collect()
    }

    /// Lungs are filled, with what lies in them; what is open to the border is not. The couch is left out, and what touches by a corner
    /// alone.
    #[test]
    fn the_largest_component_is_filled() {
        let found = body(
            "..........
             ..######..
             ..#.#..#..
             ..#..#.##.
             ..####.#..
             ..#.##.###
             ..#.#####.
             .#.......#
             ##########",
        );
        let want = "..........
                    ..######..
                    ..######..
                    ..#######.
                    ..######..
                    ..#.######
                    ..#.#####.
                    ..........
                    ..........";
        assert_eq!(found, want.split_whitespace().collect::<Vec<_>>(), "{found:#?}");
    }

    #[test]
    fn the_first_of_equals_and_none() {
        assert_eq!(body("##.## ##.##"), ["##...", "##..."]);
        assert_eq!(body(".#. #.#"), [".#.", "..."]);
        assert_eq!(body("... ..."), ["...", "..."]);
        assert_eq!(body("##"), ["##"]);
        assert_eq!(body("# #"), ["#", "#"]);
        assert_eq!(body("."), ["."]);
    }

    #[test]
    fn voxels_are_compared_in_hu() {
        let hu = |hu: &[f64]| {
            let volume = Volume::from_slice(hu, hu.len(), 1, 1).unwrap();
            find_body(&volume, 0, &Cancel::default()).unwrap().0.to_vec()
        };
        assert_eq!(hu(&[-500.0, -499.9, 3000.0, f64::NAN]), [false, true, true, false]);
        assert_eq!(hu(&[f64::INFINITY, f64::NEG_INFINITY, 0.0]), [false, false, true]);
    }
}
