//! How a JPEG file was compressed, and compressing others in the same way.

use jpeg_encoder::{
    ChromaSubsamplingMethod, ColorType, Encoder, QuantizationTableType, SamplingFactor,
};

use crate::decode::Decoded;
use crate::error::MediaError;
use crate::quantisation::{LUMINANCE, scaled_table};

/// The example chrominance table of T.81, annex K.2, in natural order.
const CHROMINANCE: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
];
/// Largest value of a baseline table.
const VALUE_MAX: u16 = 255;

/// Quantisation tables and colour sampling of a colour JPEG.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JpegTables {
    luminance: [u16; 64],
    chrominance: [u16; 64],
    sampling: (u8, u8),
}

impl JpegTables {
    /// Those of a decoded file; none for other formats, for grey or four-ink JPEG, for one table alone, and for colours
    /// that are sampled in a way that the encoder does not write.
    #[must_use]
    pub fn of(decoded: &Decoded) -> Option<Self> {
        let table = |index: usize| -> Option<[u16; 64]> {
            let values = decoded.quality.quantisation_tables.get(index)?;
            let table: [u16; 64] = values.as_slice().try_into().ok()?;
            Some(table.map(|value| value.clamp(1, VALUE_MAX)))
        };
        let sampling = decoded.colour_sampling?;
        SamplingFactor::from_factors(sampling.0, sampling.1)?;
        Some(Self {
            luminance: table(0)?,
            chrominance: table(1)?,
            sampling,
        })
    }

    /// From what [`numbers`](Self::numbers) gave; none for other lists.
    #[must_use]
    pub fn from_numbers(numbers: &[u16]) -> Option<Self> {
        let table = |start: usize| -> Option<[u16; 64]> {
            let table: [u16; 64] = numbers.get(start..start + 64)?.try_into().ok()?;
            table
                .iter()
                .all(|value| (1..=VALUE_MAX).contains(value))
                .then_some(table)
        };
        let [across, down] = *numbers.get(128..)? else {
            return None;
        };
        let sampling = (u8::try_from(across).ok()?, u8::try_from(down).ok()?);
        SamplingFactor::from_factors(sampling.0, sampling.1)?;
        Some(Self {
            luminance: table(0)?,
            chrominance: table(64)?,
            sampling,
        })
    }

    /// The tables that the Independent JPEG Group's library makes for a quality from 1 to 100, with its colour sampling
    /// of two by two pixels.
    #[must_use]
    pub fn of_quality(quality: u8) -> Self {
        Self {
            luminance: scaled_table(&LUMINANCE, quality),
            chrominance: scaled_table(&CHROMINANCE, quality),
            sampling: (2, 2),
        }
    }

    /// The quality, 0 to 100, whose scaled standard table has this luminance table's mean.
    #[must_use]
    pub fn luminance_quality(&self) -> f64 {
        let mean = |table: &[u16; 64]| {
            f64::from(table.iter().map(|value| u32::from(*value)).sum::<u32>()) / 64.0
        };
        let scale = mean(&self.luminance) / mean(&LUMINANCE) * 100.0;
        let quality = if scale <= 100.0 {
            100.0 - scale / 2.0
        } else {
            5000.0 / scale
        };
        quality.clamp(0.0, 100.0)
    }

    /// All numbers in one order: luminance, chrominance, pixels across and down that share a colour sample.
    #[must_use]
    pub fn numbers(&self) -> Vec<u16> {
        let sampling = [u16::from(self.sampling.0), u16::from(self.sampling.1)];
        [&self.luminance[..], &self.chrominance[..], &sampling].concat()
    }
}

/// Encodes RGB8 pixels of a size (width, height) as JPEG with these tables, without any metadata. The same input gives
/// the same bytes.
///
/// # Errors
/// `PixelCount` when `rgb` is not `width * height * 3` long, `Encode` for sides over 65,535.
pub fn encode_jpeg_with_tables(
    size: (u32, u32),
    rgb: &[u8],
    tables: &JpegTables,
) -> Result<Vec<u8>, MediaError> {
    crate::encode::check_pixels(size, rgb)?;
    let refused = |cause: String| MediaError::Encode { cause };
    let side =
        |side: u32| u16::try_from(side).map_err(|_| refused("a side is over 65,535".to_owned()));
    let mut bytes = Vec::new();
    // The quality is without effect: both tables are given.
    let mut encoder = Encoder::new(&mut bytes, 100);
    let custom = |table: &[u16; 64]| QuantizationTableType::Custom(Box::new(*table));
    encoder.set_quantization_tables(custom(&tables.luminance), custom(&tables.chrominance));
    let (across, down) = tables.sampling;
    let sampling = SamplingFactor::from_factors(across, down);
    encoder.set_sampling_factor(sampling.expect("other samplings are not made"));
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    encoder
        .encode(rgb, side(size.0)?, side(size.1)?, ColorType::Rgb)
        .map_err(|error| refused(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, decode};

    fn picture() -> Vec<u8> {
        (0..64_u32 * 48)
            .flat_map(|at| [at as u8, (at / 64 * 5) as u8, (at % 64 * 3) as u8])
            .collect()
    }

    #[test]
    fn tables_and_sampling_come_back_from_the_file() {
        for (quality, sampling) in [(92, (1, 1)), (60, (2, 2)), (40, (2, 1)), (75, (1, 2))] {
            let tables = JpegTables {
                sampling,
                ..JpegTables::of_quality(quality)
            };
            let file = encode_jpeg_with_tables((64, 48), &picture(), &tables).unwrap();
            let decoded = decode(&file, &Limits::default()).unwrap();
            assert_eq!(JpegTables::of(&decoded), Some(tables), "quality {quality}");
            let tables = JpegTables::of(&decoded).unwrap();
            assert_eq!(JpegTables::from_numbers(&tables.numbers()), Some(tables));
            assert_eq!(JpegTables::from_numbers(&[1; 129]), None);
            assert_eq!(decoded.quality.jpeg_quality, Some(quality));
            assert!(decoded.is_lossy);
        }
    }

    #[test]
    fn a_high_quality_keeps_the_pixels_nearly() {
        let file =
            encode_jpeg_with_tables((64, 48), &[90; 64 * 48 * 3], &JpegTables::of_quality(95))
                .unwrap();
        let decoded = decode(&file, &Limits::default()).unwrap();
        assert!(decoded.rgb.iter().all(|value| value.abs_diff(90) <= 2));
    }

    #[test]
    fn the_quality_of_a_standard_table_is_found_by_its_mean() {
        for quality in [30, 50, 60, 75, 90] {
            let found = JpegTables::of_quality(quality).luminance_quality();
            assert!(
                (found - f64::from(quality)).abs() < 1.5,
                "{quality}: {found}"
            );
        }
    }

    #[test]
    fn files_without_loss_have_no_tables() {
        let png = crate::encode_png(64, 48, &picture(), &[]).unwrap();
        let decoded = decode(&png, &Limits::default()).unwrap();
        assert_eq!(JpegTables::of(&decoded), None);
        assert!(!decoded.is_lossy);
        assert!(encode_jpeg_with_tables((64, 48), &[0; 9], &JpegTables::of_quality(50)).is_err());
    }
}
