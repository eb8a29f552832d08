//! All measured copies as one table, and who may judge which picture.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use crate::draws::Draws;
use crate::measured::MeasuredCopy;
use crate::recipe::Tier;

/// Parts into which pictures are divided, so that every picture is judged by heads that did not see it.
pub const FOLDS: usize = 5;

/// What a picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// Photograph.
    Real,
    /// Picture made by people, no photograph.
    Art,
    /// Output of an image generator.
    Generated,
}

impl Label {
    /// All labels.
    pub const ALL: [Self; 3] = [Self::Real, Self::Art, Self::Generated];

    /// Its name, in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::Art => "art",
            Self::Generated => "generated",
        }
    }
}

/// What a photograph or artwork is for. Generated pictures are always for both, since their whole set is held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Fitted on, never judged.
    Train,
    /// Judged, never fitted on.
    Validation,
    /// Fitted on by all heads but the one that judges it.
    Both,
}

/// A picture and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureRow {
    /// Tells it from all others: the digest of its file.
    pub digest: String,
    /// What it is.
    pub label: Label,
    /// Where it comes from: a source of photographs or a generator's publication.
    pub set: String,
    /// What it is for.
    pub role: Role,
}

/// A copy of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CopyRow {
    /// Its picture.
    pub picture: usize,
    /// How it was delivered.
    pub tier: Tier,
    /// Quality of its last compression.
    pub quality: f64,
}

/// Rows and the copy that each belongs to.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Shape (rows, columns).
    pub values: Array2<f32>,
    /// For each row, its copy.
    pub copy: Vec<usize>,
}

/// Everything that is fitted on and judged.
#[derive(Clone, Debug)]
pub struct Table {
    /// Pictures in the order of their digests.
    pub pictures: Vec<PictureRow>,
    /// Part of each picture.
    pub folds: Vec<usize>,
    /// Copies, those of one picture together.
    pub copies: Vec<CopyRow>,
    /// The trace's patches.
    pub patches: Rows,
    /// The semantic expert's views, where it looked at every copy.
    pub views: Option<Rows>,
    /// Numbers about the copies' files, shape (copies, numbers).
    pub containers: Array2<f32>,
    /// Tiny grey pictures, shape (copies, pixels).
    pub thumbnails: Array2<f32>,
    /// Copies that gave no patch or no view and were left out.
    pub left_out: usize,
}

impl Table {
    /// Joins measured pictures. `has_views` says whether the semantic expert looked; copies without a patch, or then
    /// without a view, are left out.
    #[must_use]
    pub fn new(
        mut measured: Vec<(PictureRow, Vec<MeasuredCopy>)>,
        has_views: bool,
        seed: u64,
    ) -> Self {
        measured.sort_by(|a, b| a.0.digest.cmp(&b.0.digest));
        let (mut pictures, mut copies, mut left_out) = (Vec::new(), Vec::new(), 0);
        let (mut patches, mut views) = (Gathered::default(), Gathered::default());
        let (mut containers, mut thumbnails) = (Gathered::default(), Gathered::default());
        for (row, of_picture) in measured {
            for copy in of_picture {
                let seen = copy.views.as_ref().is_some_and(|views| views.nrows() > 0);
                if copy.patches.nrows() == 0 || (has_views && !seen) {
                    left_out += 1;
                    continue;
                }
                let number = copies.len();
                copies.push(CopyRow {
                    picture: pictures.len(),
                    tier: copy.tier,
                    quality: copy.quality,
                });
                patches.add(copy.patches.view(), number);
                if let Some(rows) = copy.views.filter(|_| has_views) {
                    views.add(rows.view(), number);
                }
                containers.add_row(&copy.container, number);
                thumbnails.add_row(&copy.thumbnail, number);
            }
            pictures.push(row);
        }
        let folds = folds(&pictures, seed);
        Self {
            folds,
            pictures,
            copies,
            patches: patches.rows(),
            views: has_views.then(|| views.rows()),
            containers: containers.rows().values,
            thumbnails: thumbnails.rows().values,
            left_out,
        }
    }

    /// The picture of a copy.
    #[must_use]
    pub fn picture(&self, copy: usize) -> &PictureRow {
        &self.pictures[self.copies[copy].picture]
    }

    /// Whether each copy is of a generated picture.
    #[must_use]
    pub fn generated(&self) -> Vec<bool> {
        (0..self.copies.len())
            .map(|copy| self.picture(copy).label == Label::Generated)
            .collect()
    }

    /// Names of the sets with a label, in order.
    #[must_use]
    pub fn sets(&self, label: Label) -> Vec<String> {
        let mut sets: Vec<String> = self
            .pictures
            .iter()
            .filter(|row| row.label == label)
            .map(|row| row.set.clone())
            .collect();
        sets.sort_unstable();
        sets.dedup();
        sets
    }

    /// Pictures with a label.
    #[must_use]
    pub fn count(&self, label: Label) -> usize {
        self.pictures
            .iter()
            .filter(|row| row.label == label)
            .count()
    }

    /// Mean of the patch rows of each copy, shape (copies, features).
    #[must_use]
    pub fn mean_patches(&self) -> Array2<f64> {
        let mut sums = Array2::<f64>::zeros((self.copies.len(), self.patches.values.ncols()));
        let mut counts = vec![0.0; self.copies.len()];
        for (row, copy) in self
            .patches
            .values
            .rows()
            .into_iter()
            .zip(&self.patches.copy)
        {
            sums.row_mut(*copy)
                .zip_mut_with(&row, |sum, value| *sum += f64::from(*value));
            counts[*copy] += 1.0;
        }
        for (mut row, count) in sums.rows_mut().into_iter().zip(counts) {
            row.mapv_inplace(|sum| sum / count);
        }
        sums
    }

    /// Weights of some copies: both classes weigh the same, and so do the square roots of the sets within a class. The
    /// others get none. `generated` says which class each copy counts for.
    #[must_use]
    pub fn weights(&self, wanted: &[bool], generated: &[bool]) -> Vec<f64> {
        let mut sizes: BTreeMap<(bool, Label, &str), f64> = BTreeMap::new();
        let key = |copy: usize| {
            let picture = self.picture(copy);
            (generated[copy], picture.label, picture.set.as_str())
        };
        let inside = || (0..self.copies.len()).filter(|copy| wanted[*copy]);
        for copy in inside() {
            *sizes.entry(key(copy)).or_default() += 1.0;
        }
        let mut out = vec![0.0; self.copies.len()];
        let mut totals = [0.0; 2];
        for copy in inside() {
            out[copy] = 1.0 / sizes[&key(copy)].sqrt();
            totals[usize::from(generated[copy])] += out[copy];
        }
        let count = inside().count() as f64;
        for copy in inside() {
            out[copy] *= count / 2.0 / totals[usize::from(generated[copy])];
        }
        out
    }
}

/// Deals the pictures of each set evenly into parts.
fn folds(pictures: &[PictureRow], seed: u64) -> Vec<usize> {
    let mut sets: BTreeMap<(Label, &str), Vec<usize>> = BTreeMap::new();
    for (number, row) in pictures.iter().enumerate() {
        sets.entry((row.label, &row.set)).or_default().push(number);
    }
    let mut out = vec![0; pictures.len()];
    let mut next = 0;
    for ((label, set), mut members) in sets {
        Draws::new(seed, &["folds", label.name(), set]).shuffle(&mut members);
        for member in members {
            out[member] = next % FOLDS;
            next += 1;
        }
    }
    out
}

/// Rows that are put one below the other.
#[derive(Default)]
struct Gathered {
    columns: usize,
    values: Vec<f32>,
    copy: Vec<usize>,
}

impl Gathered {
    fn add(&mut self, rows: ArrayView2<'_, f32>, copy: usize) {
        self.columns = rows.len_of(Axis(1));
        self.values.extend(rows.iter());
        self.copy.extend(std::iter::repeat_n(copy, rows.nrows()));
    }

    fn add_row(&mut self, row: &[f32], copy: usize) {
        self.columns = row.len();
        self.values.extend(row);
        self.copy.push(copy);
    }

    fn rows(self) -> Rows {
        let shape = (self.copy.len(), self.columns);
        Rows {
            values: Array2::from_shape_vec(shape, self.values)
                .expect("all rows have the same columns"),
            copy: self.copy,
        }
    }
}
