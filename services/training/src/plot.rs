//! Plots as SVG, to stand inside a page.

use std::fmt::Write as _;

use crate::page::escaped;

/// Size of a plot and the room below and left of its axes, in pixels.
const SIDE: f64 = 320.0;
const MARGIN: f64 = 44.0;
const LEFT: f64 = 62.0;
/// Colours that stay apart in grey and without colour vision (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];
/// Height of a bar with its gap, and width of the names beside bars.
const BAR_HEIGHT: f64 = 22.0;
const NAME_WIDTH: f64 = 250.0;
const BAR_WIDTH: f64 = 330.0;
/// Longer names are cut.
const NAME_CHARS_MAX: usize = 36;

/// One line of a plot, points in [0, 1].
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What stands along the axes, and the largest value upwards.
pub(crate) struct Axes<'a> {
    pub(crate) across: &'a str,
    pub(crate) up: &'a str,
    pub(crate) up_max: f64,
    /// Whether a dashed line shows where both are equal.
    pub(crate) diagonal: bool,
    /// Whether points are marked.
    pub(crate) marked: bool,
}

/// Where a value lies across, in pixels.
fn across(value: f64) -> f64 {
    LEFT + value * (SIDE - LEFT - 12.0)
}

/// Where a share of the largest value lies, in pixels from the top.
fn up(share: f64) -> f64 {
    12.0 + (1.0 - share.clamp(0.0, 1.0)) * (SIDE - MARGIN - 12.0)
}

/// Lines over two axes.
pub(crate) fn lines(lines: &[Line], axes: &Axes<'_>) -> String {
    let height = SIDE + 18.0 * lines.len() as f64;
    let mut out = format!(
        "<svg viewBox=\"0 0 {SIDE} {height}\" width=\"{SIDE}\" height=\"{height}\" role=\"img\" aria-label=\"{} over {}\">",
        escaped(axes.up),
        escaped(axes.across)
    );
    grid(&mut out, axes);
    for (number, (line, colour)) in lines.iter().zip(COLOURS.iter().cycle()).enumerate() {
        let place = |point: &(f64, f64)| (across(point.0), up(point.1 / axes.up_max));
        let points: Vec<(f64, f64)> = line.points.iter().map(place).collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let path = path.join(" ");
        let _ = write!(
            out,
            "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        );
        for (x, y) in points.iter().filter(|_| axes.marked) {
            let _ = write!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        let top = SIDE + 18.0 * number as f64;
        let _ = write!(
            out,
            "<rect x=\"{MARGIN}\" y=\"{top:.1}\" width=\"12\" height=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            MARGIN + 18.0,
            top + 6.0,
            escaped(&line.name)
        );
    }
    out.push_str("</svg>");
    out
}

/// Four steps along both axes, what they are, and where both are equal.
fn grid(out: &mut String, axes: &Axes<'_>) {
    let (left, right, bottom, top) = (across(0.0), across(1.0), up(0.0), up(1.0));
    for step in 0..=4 {
        let share = f64::from(step) / 4.0;
        let (x, y, value) = (across(share), up(share), share * axes.up_max);
        let _ = write!(
            out,
            "<line x1=\"{x:.1}\" y1=\"{bottom:.1}\" x2=\"{x:.1}\" y2=\"{top:.1}\" class=\"grid\"/>\
             <line x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\" class=\"grid\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{share}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            bottom + 14.0,
            left - 5.0,
            y + 4.0
        );
    }
    if axes.diagonal {
        let _ = write!(
            out,
            "<line x1=\"{left:.1}\" y1=\"{bottom:.1}\" x2=\"{right:.1}\" y2=\"{top:.1}\" class=\"even\"/>"
        );
    }
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate(11 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        across(0.5),
        bottom + 30.0,
        escaped(axes.across),
        up(0.5),
        escaped(axes.up)
    );
}

/// Bars from 0 to 1 with a line at one half.
pub(crate) fn bars(values: &[(String, f64)]) -> String {
    let (width, height) = (
        NAME_WIDTH + BAR_WIDTH + 60.0,
        BAR_HEIGHT * values.len() as f64 + 24.0,
    );
    let mut out = format!(
        "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"AUC of each set\">"
    );
    for (number, (name, value)) in values.iter().enumerate() {
        let top = BAR_HEIGHT * number as f64 + 4.0;
        let shown: String = name.chars().take(NAME_CHARS_MAX).collect();
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{NAME_WIDTH}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"14\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\">{value:.3}</text>",
            NAME_WIDTH - 8.0,
            top + 11.0,
            escaped(&shown),
            value.clamp(0.0, 1.0) * BAR_WIDTH,
            COLOURS[0],
            NAME_WIDTH + value.clamp(0.0, 1.0) * BAR_WIDTH + 6.0,
            top + 11.0
        );
    }
    let middle = NAME_WIDTH + BAR_WIDTH / 2.0;
    let _ = write!(
        out,
        "<line x1=\"{middle}\" y1=\"0\" x2=\"{middle}\" y2=\"{:.1}\" class=\"even\"/><text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">0.5: chance</text></svg>",
        height - 18.0,
        height - 4.0
    );
    out
}
