//! Features cut into few bins, so that a split is one of few thresholds.

use crate::logistic::Samples;

/// The rows' bins, column by column.
#[derive(Debug)]
pub(super) struct Bins {
    /// For each column, the largest value of each bin but the last.
    pub(super) thresholds: Vec<Vec<f32>>,
    /// For each column, the bin of each chosen row.
    pub(super) columns: Vec<Vec<u8>>,
}

impl Bins {
    /// Cuts every column where about as many rows lie in each bin; few distinct values get a bin each.
    pub(super) fn of(samples: &Samples<'_>, bins_max: usize) -> Self {
        let bins_max = bins_max.clamp(2, 255);
        let mut out = Self {
            thresholds: Vec::new(),
            columns: Vec::new(),
        };
        for column in samples.rows.columns() {
            let values: Vec<f32> = samples.chosen.iter().map(|row| column[*row]).collect();
            let thresholds = thresholds(&values, bins_max);
            let bin = |value: &f32| {
                let bin = thresholds.partition_point(|threshold| threshold < value);
                u8::try_from(bin).expect("there are at most 255 bins")
            };
            out.columns.push(values.iter().map(bin).collect());
            out.thresholds.push(thresholds);
        }
        out
    }

    /// Bins of a column.
    pub(super) fn count(&self, column: usize) -> usize {
        self.thresholds[column].len() + 1
    }
}

fn thresholds(values: &[f32], bins_max: usize) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let mut distinct: Vec<(f32, usize)> = Vec::new();
    for value in sorted {
        match distinct.last_mut() {
            #[expect(clippy::float_cmp, reason = "equal values share a bin")]
            Some((last, count)) if *last == value => *count += 1,
            _ => distinct.push((value, 1)),
        }
    }
    let mut out = Vec::new();
    let (mut left, mut bins_left, mut inside) = (values.len(), bins_max, 0);
    for pair in distinct.windows(2) {
        inside += pair[0].1;
        // A bin is full with its even share of what is left; with few values every value fills one.
        let full = distinct.len() <= bins_max || inside * bins_left >= left;
        if full && bins_left > 1 {
            out.push(between(pair[0].0, pair[1].0));
            left -= inside;
            bins_left -= 1;
            inside = 0;
        }
    }
    out
}

/// A value in the middle of two: not below the first and below the second.
fn between(low: f32, high: f32) -> f32 {
    let middle = low.midpoint(high);
    if middle >= low && middle < high {
        middle
    } else {
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_get_a_bin_each_and_many_get_even_ones() {
        assert_eq!(thresholds(&[1.0, 1.0, 3.0, 2.0], 10), [1.5, 2.5]);
        let many: Vec<f32> = (0..1000).map(|value| value as f32).collect();
        let cuts = thresholds(&many, 10);
        assert_eq!(cuts.len(), 9);
        for (index, cut) in cuts.iter().enumerate() {
            assert!(
                (cut - (index as f32 + 1.0) * 100.0).abs() <= 1.0,
                "{cuts:?}"
            );
        }
        assert!(thresholds(&[4.0; 9], 10).is_empty());
    }

    #[test]
    fn a_threshold_lies_below_the_value_above_it() {
        let next = f32::from_bits(1.0_f32.to_bits() + 1);
        assert!(between(1.0, next) < next && between(1.0, next) >= 1.0);
        assert!(between(f32::MIN, f32::MAX).is_finite());
    }
}
