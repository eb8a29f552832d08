//! JPEG quantisation tables and the quality that they suggest.

use serde::{Deserialize, Serialize};

/// The example luminance table of T.81, annex K.1, in natural order. The Independent JPEG
/// Group's library scales it by the quality setting, and most encoders follow.
pub(crate) const LUMINANCE: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
];

/// What the quantisation tables say about a JPEG's quality.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualityEstimate {
    /// The quality setting (1 to 100) of the Independent JPEG Group's library whose luminance
    /// table is nearest to the file's; none for formats without such tables.
    pub jpeg_quality: Option<u8>,
    /// Whether that table is equal to the file's, so that the setting is known and not guessed.
    pub jpeg_quality_exact: bool,
    /// The tables by identifier (0 is luminance by convention), 64 values in natural order.
    pub quantisation_tables: Vec<Vec<u16>>,
}

impl QualityEstimate {
    /// Estimates from the tables of a file.
    pub(crate) fn from_tables(tables: &[Option<[u16; 64]>; 4]) -> Self {
        let quantisation_tables = tables
            .iter()
            .flatten()
            .map(|table| table.to_vec())
            .collect();
        let Some(luminance) = tables[0].or_else(|| tables.iter().flatten().next().copied()) else {
            return Self::default();
        };
        let (quality, distance) = (1..=100)
            .map(|quality| (quality, distance(&luminance, &scaled(quality))))
            .min_by_key(|&(quality, distance)| (distance, std::cmp::Reverse(quality)))
            .expect("the range of qualities is not empty");
        Self {
            jpeg_quality: Some(quality),
            jpeg_quality_exact: distance == 0,
            quantisation_tables,
        }
    }
}

/// The luminance table at a quality setting (jcparam.c, `jpeg_quality_scaling` and
/// `jpeg_add_quant_table`, with baseline values forced).
fn scaled(quality: u8) -> [u16; 64] {
    scaled_table(&LUMINANCE, quality)
}

/// A table at a quality setting, in the same way.
pub(crate) fn scaled_table(table: &[u16; 64], quality: u8) -> [u16; 64] {
    let quality = u32::from(quality.clamp(1, 100));
    let scale = if quality < 50 {
        5000 / quality
    } else {
        200 - 2 * quality
    };
    table.map(|value| {
        let value = (u32::from(value) * scale + 50) / 100;
        u16::try_from(value.clamp(1, 255)).expect("clamped to a byte")
    })
}

fn distance(a: &[u16; 64], b: &[u16; 64]) -> u64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| u64::from(a.abs_diff(b)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_quality_setting_is_found_again_from_its_table() {
        for quality in 1..=100 {
            let estimate = QualityEstimate::from_tables(&[Some(scaled(quality)), None, None, None]);
            assert!(estimate.jpeg_quality_exact);
            let found = estimate.jpeg_quality.unwrap();
            assert_eq!(
                scaled(found),
                scaled(quality),
                "quality {quality} came back as {found}"
            );
        }
    }

    #[test]
    fn an_unusual_table_gives_the_nearest_setting_marked_as_a_guess() {
        let mut table = scaled(80);
        table[5] += 1;
        let estimate = QualityEstimate::from_tables(&[Some(table), None, None, None]);
        assert_eq!(estimate.jpeg_quality, Some(80));
        assert!(!estimate.jpeg_quality_exact);
        assert_eq!(QualityEstimate::from_tables(&[None; 4]).jpeg_quality, None);
    }
}
