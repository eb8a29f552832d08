//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use crate::figures::Share;
use crate::plot::{Axes, Line, bars, lines};
use crate::report::{
    Figures, LeftOut, Report, SET_COPIES_MIN, StratumFigures, TierFigures, Verdicts,
};
use crate::table::Label;

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}\
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #ccc;text-align:right}\
td:first-child,th:first-child{text-align:left}svg text{font:12px system-ui,sans-serif;fill:#1a1a1a}\
.grid{stroke:#ddd}.even{stroke:#777;stroke-dasharray:4 3}.refused{border:2px solid #b00020;padding:.5rem 1rem}\
.plots{display:flex;flex-wrap:wrap;gap:2rem}figure{margin:0}figcaption{font-weight:600}";
/// Skipped pictures that are listed on the page; the JSON report has all.
const SKIPPED_SHOWN: usize = 50;

/// The page.
pub(crate) fn html(report: &Report) -> String {
    let facts = &report.facts;
    let title = escaped(&format!("Detector {} {}", facts.name, facts.version));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let experts = if facts.has_semantic {
        "trace and semantic expert"
    } else {
        "trace alone: the image encoder was not installed"
    };
    let _ = writeln!(
        out,
        "<p>Trained on {} by {} with seed {}; {experts}; photo prior of {}. Every figure is of copies that were judged by heads \
         which saw neither the picture nor, for generated ones, its set.</p>",
        escaped(&facts.date),
        escaped(&facts.made_with),
        facts.seed,
        escaped(&facts.base)
    );
    refused(&mut out, report);
    pictures(&mut out, report);
    plots(&mut out, report);
    tables(&mut out, report);
    canaries(&mut out, report);
    skipped(&mut out, report);
    out.push_str("</body></html>\n");
    out
}

fn refused(out: &mut String, report: &Report) {
    if report.refused.is_empty() {
        return;
    }
    out.push_str("<div class=\"refused\"><p><strong>This detector must not be used, and the service refuses it:</strong></p><ul>");
    for reason in &report.refused {
        let _ = write!(out, "<li>{}</li>", escaped(reason));
    }
    out.push_str("</ul></div>\n");
}

fn pictures(out: &mut String, report: &Report) {
    let mut rows: Vec<Vec<String>> = report
        .sets
        .iter()
        .map(|set| {
            vec![
                set.set.clone(),
                set.label.name().to_owned(),
                set.pictures.to_string(),
            ]
        })
        .collect();
    rows.push(vec![
        "all".to_owned(),
        String::new(),
        report
            .sets
            .iter()
            .map(|set| set.pictures)
            .sum::<usize>()
            .to_string(),
    ]);
    out.push_str("<h2>Pictures</h2>\n");
    table(out, &["set", "label", "pictures"], &rows);
    let _ = writeln!(
        out,
        "<p>{} copies in three tiers, made by the recipe {}; {} gave nothing to measure.</p>",
        report.copies,
        escaped(&report.facts.recipe),
        report.copies_left_out
    );
}

fn plots(out: &mut String, report: &Report) {
    let figures = &report.figures;
    let curve = |tier: &TierFigures| Line {
        name: format!("{}: AUC {}", tier.tier, number(tier.auc)),
        points: tier
            .roc
            .iter()
            .map(|point| (point.false_positives, point.true_positives))
            .collect(),
    };
    let curves: Vec<Line> = figures.tiers.iter().map(curve).collect();
    let reliability = Line {
        name: "bins; dashed: where probabilities hold".to_owned(),
        points: figures
            .reliability
            .iter()
            .map(|bin| (bin.probability, bin.generated))
            .collect(),
    };
    let risk = Line {
        name: "wrong among the surest".to_owned(),
        points: figures
            .risk
            .iter()
            .map(|point| (point.coverage, point.risk))
            .collect(),
    };
    let unit = |across, up, diagonal| Axes {
        across,
        up,
        up_max: 1.0,
        diagonal,
        marked: false,
    };
    let found = unit(
        "photographs called generated",
        "generated pictures found",
        true,
    );
    let holds = Axes {
        marked: true,
        ..unit("probability", "share that is generated", true)
    };
    let wrong = Axes {
        up_max: 0.5,
        ..unit("share that is decided", "share decided wrongly", false)
    };
    out.push_str("<h2>How good it is</h2>\n<div class=\"plots\">");
    for (caption, plot) in [
        ("Found against false alarms", lines(&curves, &found)),
        ("Reliability", lines(&[reliability], &holds)),
        ("Risk against coverage", lines(&[risk], &wrong)),
    ] {
        let _ = write!(
            out,
            "<figure><figcaption>{caption}</figcaption>{plot}</figure>"
        );
    }
    out.push_str("</div>\n");
    let named = |set: &LeftOut| match set.label {
        Label::Generated => set.set.clone(),
        _ => format!("{} (source)", set.set),
    };
    let value = |set: &LeftOut| set.auc.map(|auc| (named(set), auc));
    let values: Vec<(String, f64)> = figures.left_out.iter().filter_map(value).collect();
    let _ = writeln!(
        out,
        "<h3>AUC of sets that were left out of the fit</h3>\n{}",
        bars(&values)
    );
}

fn tables(out: &mut String, report: &Report) {
    let figures = &report.figures;
    tiers(out, figures);
    left_out(out, figures);
    verdicts(out, figures);
    let row = |row: &StratumFigures| {
        let error = format!("{:.3}", row.calibration_error);
        vec![
            row.stratum.clone(),
            row.copies.to_string(),
            error,
            format!("{:.3}", row.brier),
        ]
    };
    let rows: Vec<Vec<String>> = figures.strata.iter().map(row).collect();
    let heads = [
        "measured quality",
        "copies",
        "calibration error",
        "Brier score (0.25 says nothing)",
    ];
    table(out, &heads, &rows);
}

fn tiers(out: &mut String, figures: &Figures) {
    let row = |tier: &TierFigures| {
        let mut row = vec![tier.tier.clone()];
        row.extend(tier_numbers(tier));
        row
    };
    let rows: Vec<Vec<String>> = figures.tiers.iter().map(row).collect();
    table(out, &TIER_HEADS, &rows);
}

/// Heads of the table of tiers.
pub(crate) const TIER_HEADS: [&str; 7] = [
    "tier",
    "AUC against photographs",
    "trace",
    "semantic",
    "against art",
    "found at 1 % false alarms",
    "at 5 %",
];

/// The numbers of a tier under [`TIER_HEADS`], the first left out.
pub(crate) fn tier_numbers(tier: &TierFigures) -> [String; 6] {
    [
        tier.auc,
        tier.trace_auc,
        tier.semantic_auc,
        tier.art_auc,
        tier.found_at_1_percent,
        tier.found_at_5_percent,
    ]
    .map(number)
}

fn left_out(out: &mut String, figures: &Figures) {
    let row = |set: &LeftOut| {
        let mut row = vec![
            set.set.clone(),
            set.label.name().to_owned(),
            set.copies.to_string(),
        ];
        row.extend([set.auc, set.trace_auc, set.semantic_auc].map(number));
        row.push(percent(set.called_generated.share));
        row
    };
    let rows: Vec<Vec<String>> = figures.left_out.iter().map(row).collect();
    let heads = [
        "left out",
        "label",
        "copies",
        "AUC",
        "trace",
        "semantic",
        "called likely generated",
    ];
    table(out, &heads, &rows);
    let _ = writeln!(
        out,
        "<p>Mean over generated sets of {SET_COPIES_MIN} copies or more: {}, smallest {}. Right among the surest three \
         fifths: {}.</p>",
        number(figures.macro_auc),
        number(figures.minimum_auc),
        number(figures.accuracy_at_60_percent)
    );
}

fn verdicts(out: &mut String, figures: &Figures) {
    let row = |row: &Verdicts| {
        vec![
            row.label.name().to_owned(),
            row.tier.clone(),
            row.generated.of.to_string(),
            interval(&row.generated),
            percent(row.not_generated.share),
            percent(row.inconclusive.share),
        ]
    };
    let rows: Vec<Vec<String>> = figures.verdicts.iter().map(row).collect();
    out.push_str("<h3>Verdicts under thresholds that were fitted on other pictures</h3>\n");
    let heads = [
        "pictures",
        "tier",
        "copies",
        "likely generated",
        "likely not generated",
        "inconclusive",
    ];
    table(out, &heads, &rows);
}

fn canaries(out: &mut String, report: &Report) {
    out.push_str("<h2>Controls</h2>\n<p>AUC of classifiers on what must say nothing about the label; the detector is refused where one does not hold.</p>\n");
    let rows: Vec<Vec<String>> = report
        .canaries
        .iter()
        .map(|canary| {
            let accepted = match (canary.auc_max, canary.auc_min) {
                (Some(most), _) => format!("at most {most:.3}"),
                (_, Some(least)) => format!("at least {least:.3}"),
                _ => "informs only".to_owned(),
            };
            let holds = if canary.holds() { "yes" } else { "no" };
            vec![
                canary.name.clone(),
                format!("{:.3}", canary.auc),
                accepted,
                holds.to_owned(),
            ]
        })
        .collect();
    table(out, &["control", "AUC", "accepted", "holds"], &rows);
}

fn skipped(out: &mut String, report: &Report) {
    let skipped = &report.facts.skipped;
    if skipped.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "<h2>Pictures that were not used: {}</h2>",
        skipped.len()
    );
    let rows: Vec<Vec<String>> = skipped
        .iter()
        .take(SKIPPED_SHOWN)
        .map(|picture| vec![picture.path.clone(), picture.reason.clone()])
        .collect();
    table(out, &["file", "reason"], &rows);
    if skipped.len() > SKIPPED_SHOWN {
        let _ = writeln!(
            out,
            "<p>and {} more, see report.json.</p>",
            skipped.len() - SKIPPED_SHOWN
        );
    }
}

fn table(out: &mut String, heads: &[&str], rows: &[Vec<String>]) {
    out.push_str("<table><tr>");
    for head in heads {
        let _ = write!(out, "<th>{}</th>", escaped(head));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for cell in row {
            let _ = write!(out, "<td>{}</td>", escaped(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.3}"))
}

pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A share with its interval.
pub(crate) fn interval(share: &Share) -> String {
    format!(
        "{} ({} to {})",
        percent(share.share),
        percent(share.low),
        percent(share.high)
    )
}

/// Text that cannot become markup: names of folders and files are anyone's.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ if character.is_control() => out.push(' '),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_text_and_never_markup() {
        let hostile = "<script>\"&'\n";
        assert_eq!(escaped(hostile), "&lt;script&gt;&quot;&amp;&#39; ");
        assert!(!bars(&[(hostile.to_owned(), 0.5)]).contains("<script"));
    }
}
