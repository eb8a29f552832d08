//! The trace curve as a drawing: the size of the predicted noise at each level, against the range
//! of photographs.

use super::view::CurveView;
use crate::work::TraceCurve;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
/// Room for the numbers at the left and below.
const LEFT: f64 = 52.0;
const BELOW: f64 = 44.0;
const EDGE: f64 = 16.0;
/// Sizes that get a tick, where they fall into the drawing.
const SIZES: [f64; 9] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5];
/// Half the range of 8-bit pixels: noise levels are measured on pixels from -1 to 1.
const GREY_LEVELS: f64 = 127.5;
/// Free space above and below the curves, in natural logarithms.
const MARGIN: f64 = 0.12;

/// Both axes are logarithmic.
struct Scale {
    x: [f64; 2],
    y: [f64; 2],
}

impl Scale {
    fn x(&self, noise_level: f64) -> f64 {
        let share = (noise_level.ln() - self.x[0]) / (self.x[1] - self.x[0]).max(f64::EPSILON);
        LEFT + EDGE + share * (WIDTH - LEFT - 3.0 * EDGE)
    }

    fn y(&self, log_rms: f64) -> f64 {
        let share = (log_rms - self.y[0]) / (self.y[1] - self.y[0]).max(f64::EPSILON);
        HEIGHT - BELOW - share * (HEIGHT - BELOW - EDGE)
    }
}

/// Draws a curve.
pub(super) fn draw(curve: &TraceCurve) -> CurveView {
    let levels = &curve.noise_levels;
    let (lower, upper, median): (&[f64], &[f64], &[f64]) = match &curve.range {
        Some(range) => (&range.lower, &range.upper, &range.median),
        None => (&[], &[], &[]),
    };
    let drawn = || lower.iter().chain(upper).chain(&curve.log_rms).copied();
    let ends =
        |values: &[f64]| [values.first(), values.last()].map(|end| end.map_or(0.0, |e| e.ln()));
    let scale = Scale {
        x: ends(levels),
        y: [
            drawn().fold(f64::MAX, f64::min) - MARGIN,
            drawn().fold(f64::MIN, f64::max) + MARGIN,
        ],
    };
    let points = |values: &[f64]| -> Vec<(f64, f64)> {
        let pairs = levels.iter().zip(values);
        pairs
            .map(|(level, value)| (scale.x(*level), scale.y(*value)))
            .collect()
    };
    let mut band = points(upper);
    band.extend(points(lower).into_iter().rev());
    let line = points(&curve.log_rms);
    let sizes = SIZES.iter().filter(|size| {
        let size = size.ln();
        (scale.y[0]..=scale.y[1]).contains(&size)
    });
    let (alt, caption) = words(curve);
    CurveView {
        width: WIDTH,
        height: HEIGHT,
        band: corners(&band),
        median: corners(&points(median)),
        dots: line.iter().map(|(x, y)| (number(*x), number(*y))).collect(),
        line: corners(&line),
        levels: levels
            .iter()
            .map(|level| (number(scale.x(*level)), grey_levels(*level)))
            .collect(),
        sizes: sizes
            .map(|size| (number(scale.y(size.ln())), format!("{size}")))
            .collect(),
        alt,
        caption,
    }
}

/// How many of the levels lie outside the range, in words.
fn words(curve: &TraceCurve) -> (String, String) {
    let Some(range) = &curve.range else {
        let alone = "This detector does not say what range photographs have.";
        return (
            "The trace curve of the picture.".to_owned(),
            alone.to_owned(),
        );
    };
    let count = |outside: fn(f64, f64) -> bool, ends: &[f64]| {
        let pairs = curve.log_rms.iter().zip(ends);
        pairs.filter(|(value, end)| outside(**value, **end)).count()
    };
    let below = count(|value, end| value < end, &range.lower);
    let above = count(|value, end| value > end, &range.upper);
    let levels = curve.noise_levels.len();
    let place = match (below, above) {
        (0, 0) => format!("The curve lies inside the range at all {levels} levels."),
        (below, 0) => format!("The curve lies below the range at {below} of {levels} levels."),
        (0, above) => format!("The curve lies above the range at {above} of {levels} levels."),
        (below, above) => {
            format!(
                "The curve lies below the range at {below} and above it at {above} of {levels} levels."
            )
        }
    };
    let caption = format!(
        "{place} The range holds nine tenths of {} copies of photographs of this measured quality \
         (\"{}\") that the detector was not fitted on. Many generated pictures lie inside it too: \
         the verdict weighs more than this one curve.",
        range.copies, range.name
    );
    let alt = format!("The trace curve of the picture and the range of photographs. {place}");
    (alt, caption)
}

fn grey_levels(noise_level: f64) -> String {
    let levels = noise_level * GREY_LEVELS;
    if levels < 10.0 {
        format!("{levels:.1}")
    } else {
        format!("{levels:.0}")
    }
}

fn corners(points: &[(f64, f64)]) -> String {
    let points: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{},{}", number(*x), number(*y)))
        .collect();
    points.join(" ")
}

fn number(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use detector::StratumRange;

    use super::*;

    fn curve(log_rms: [f64; 2]) -> TraceCurve {
        TraceCurve {
            noise_levels: vec![0.01, 0.3],
            log_rms: log_rms.to_vec(),
            range: Some(StratumRange {
                name: "web".to_owned(),
                copies: 150,
                lower: vec![-1.0, -1.0],
                median: vec![-0.5, -0.5],
                upper: vec![0.0, 0.0],
            }),
        }
    }

    #[test]
    fn the_caption_says_where_the_curve_leaves_the_range() {
        for (values, words) in [
            ([-0.5, -0.5], "inside the range at all 2"),
            ([-2.0, -0.5], "below the range at 1 of 2"),
            ([0.5, 0.5], "above the range at 2 of 2"),
            ([0.5, -3.0], "below the range at 1 and above it at 1"),
        ] {
            let view = draw(&curve(values));
            assert!(view.caption.contains(words), "{}", view.caption);
        }
    }

    #[test]
    fn everything_is_drawn_inside_the_drawing() {
        let view = draw(&curve([-6.0, 3.0]));
        let inside = |text: &str| {
            let numbers = text.split([' ', ',']).filter(|part| !part.is_empty());
            numbers
                .map(|part| part.parse::<f64>().unwrap())
                .all(|value| (0.0..=WIDTH).contains(&value))
        };
        for points in [&view.band, &view.median, &view.line] {
            assert!(!points.is_empty() && inside(points), "{points}");
        }
        assert_eq!((view.dots.len(), view.levels.len()), (2, 2));
        assert_eq!(view.levels[0].1, "1.3");
    }

    #[test]
    fn a_detector_without_a_range_draws_the_curve_alone() {
        let alone = TraceCurve {
            range: None,
            ..curve([-0.5, -0.5])
        };
        let view = draw(&alone);
        assert!(view.band.is_empty() && !view.line.is_empty());
    }
}
