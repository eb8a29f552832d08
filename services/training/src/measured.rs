//! What was measured of a picture's copies, and the file that keeps it between runs.
//!
//! The file: a line that names the format, the length of the next part (u32, little-endian), that part as JSON (what each
//! copy is and how many rows it has), all numbers as 32-bit floats, little-endian, and the SHA-256 of everything before
//! it. A file that was cut or changed is not believed.

use ndarray::Array2;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::TrainingError;
use crate::recipe::{CONTAINER_COLUMNS, THUMBNAIL_SIDE, Tier};

const FORMAT: &[u8] = b"retrace/measurements/v1\n";
const DIGEST_BYTES: usize = 32;
const FLOAT_BYTES: usize = 4;
/// Grey levels of a thumbnail.
const THUMBNAIL_PIXELS: usize = (THUMBNAIL_SIDE * THUMBNAIL_SIDE) as usize;

/// One copy of a picture, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasuredCopy {
    /// How it was delivered.
    pub tier: Tier,
    /// Quality of its last compression, 0 to 100; 100 without loss.
    pub quality: f64,
    /// What can be told about its file without looking at the picture, [`CONTAINER_COLUMNS`] numbers.
    pub container: Vec<f32>,
    /// A tiny grey picture of it.
    pub thumbnail: Vec<f32>,
    /// Rows of the trace's patches, shape (patches, features).
    pub patches: Array2<f32>,
    /// Rows of the semantic expert's views, shape (views, features), where it looked.
    pub views: Option<Array2<f32>>,
}

#[derive(Serialize, Deserialize)]
struct Head {
    tier: Tier,
    quality: f64,
    patches: (usize, usize),
    views: Option<(usize, usize)>,
}

/// The file's bytes.
#[must_use]
pub fn write_measurements(copies: &[MeasuredCopy]) -> Vec<u8> {
    let heads: Vec<Head> = copies
        .iter()
        .map(|copy| Head {
            tier: copy.tier,
            quality: copy.quality,
            patches: copy.patches.dim(),
            views: copy.views.as_ref().map(Array2::dim),
        })
        .collect();
    let heads = serde_json::to_vec(&heads).expect("heads are plain numbers");
    let mut out = FORMAT.to_vec();
    out.extend((heads.len() as u32).to_le_bytes());
    out.extend(heads);
    for copy in copies {
        let numbers = copy
            .container
            .iter()
            .chain(&copy.thumbnail)
            .chain(&copy.patches);
        out.extend(
            numbers
                .chain(copy.views.iter().flatten())
                .flat_map(|value| value.to_le_bytes()),
        );
    }
    let digest = Sha256::digest(&out);
    out.extend(digest);
    out
}

/// Reads what [`write_measurements`] wrote.
///
/// # Errors
/// [`TrainingError::Measurements`] for a file that is cut, changed or of another format.
pub fn read_measurements(bytes: &[u8]) -> Result<Vec<MeasuredCopy>, TrainingError> {
    let refused = |reason: &str| TrainingError::Measurements {
        reason: reason.to_owned(),
    };
    let length = bytes
        .len()
        .checked_sub(DIGEST_BYTES)
        .ok_or(refused("the file is cut"))?;
    let (contents, digest) = bytes.split_at(length);
    if Sha256::digest(contents)[..] != *digest {
        return Err(refused("the file is cut or was changed"));
    }
    let rest = contents
        .strip_prefix(FORMAT)
        .ok_or(refused("the file is of another format"))?;
    let (size, rest) = rest.split_first_chunk().ok_or(refused("the file is cut"))?;
    let (heads, numbers) = rest
        .split_at_checked(u32::from_le_bytes(*size) as usize)
        .ok_or(refused("the file is cut"))?;
    let heads: Vec<Head> =
        serde_json::from_slice(heads).map_err(|error| refused(&error.to_string()))?;
    let mut numbers = numbers
        .chunks_exact(FLOAT_BYTES)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("chunks are of four bytes")));
    let mut take = |count: usize| -> Result<Vec<f32>, TrainingError> {
        let taken: Vec<f32> = numbers.by_ref().take(count).collect();
        if taken.len() == count {
            Ok(taken)
        } else {
            Err(refused("there are too few numbers"))
        }
    };
    let mut out = Vec::with_capacity(heads.len());
    for head in heads {
        let (container, thumbnail) = (take(CONTAINER_COLUMNS)?, take(THUMBNAIL_PIXELS)?);
        let mut table = |(rows, columns): (usize, usize)| {
            let count = rows
                .checked_mul(columns)
                .ok_or(refused("a table is too large"))?;
            Array2::from_shape_vec((rows, columns), take(count)?)
                .map_err(|error| refused(&error.to_string()))
        };
        out.push(MeasuredCopy {
            tier: head.tier,
            quality: head.quality,
            container,
            thumbnail,
            patches: table(head.patches)?,
            views: head.views.map(&mut table).transpose()?,
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copies() -> Vec<MeasuredCopy> {
        let copy = |tier, views: Option<Array2<f32>>| MeasuredCopy {
            tier,
            quality: 61.5,
            container: vec![0.5; CONTAINER_COLUMNS],
            thumbnail: vec![0.25; THUMBNAIL_PIXELS],
            patches: Array2::from_shape_fn((3, 4), |(row, column)| (row * 10 + column) as f32),
            views,
        };
        vec![
            copy(Tier::Web, None),
            copy(Tier::Hard, Some(Array2::ones((2, 5)))),
        ]
    }

    #[test]
    fn measurements_come_back_as_they_were() {
        assert_eq!(
            read_measurements(&write_measurements(&copies())).unwrap(),
            copies()
        );
        assert_eq!(read_measurements(&write_measurements(&[])).unwrap(), []);
    }

    #[test]
    fn a_file_that_was_cut_or_changed_is_not_believed() {
        let file = write_measurements(&copies());
        for length in [0, 10, file.len() - 1] {
            assert!(
                read_measurements(&file[..length]).is_err(),
                "{length} bytes"
            );
        }
        let mut changed = file.clone();
        changed[file.len() / 2] ^= 1;
        assert!(read_measurements(&changed).is_err());
    }
}
