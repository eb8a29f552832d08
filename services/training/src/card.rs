//! The card of a trained detector (`README.md`).

use std::fmt::Write as _;

use crate::conclude::gives_verdicts;
use crate::decide::Decisions;
use crate::page::{TIER_HEADS, interval, number, percent, tier_numbers};
use crate::report::Report;
use crate::table::Label;

/// The card.
pub(crate) fn markdown(report: &Report, decisions: &Decisions) -> String {
    let facts = &report.facts;
    let mut out = format!(
        "# Detector `{}` {}\n\n",
        plain(&facts.name),
        plain(&facts.version)
    );
    if report.refused.is_empty() {
        let _ = writeln!(
            out,
            "Made by `retrace train` ({}) on {}, seed {}.",
            plain(&facts.made_with),
            plain(&facts.date),
            facts.seed
        );
    } else {
        out.push_str(
            "**Refused: this detector must not be used, and the service does not load it.**\n\n",
        );
        for reason in &report.refused {
            let _ = writeln!(out, "- {}", plain(reason));
        }
    }
    let experts = if facts.has_semantic {
        "The trace (gradient-boosted trees on the photo prior's patches) and a semantic expert (logistic regression on a general \
         image encoder's views), fused by measured quality."
    } else {
        "The trace alone (gradient-boosted trees on the photo prior's patches): the image encoder was not installed when it was made."
    };
    let _ = writeln!(
        out,
        "\n{experts} The photo prior is that of `{}`, unchanged. A convolutional head is not part of it; that needs the training \
         environment.\n",
        plain(&facts.base)
    );
    if !gives_verdicts(decisions) {
        out.push_str("**It gives no verdict:** in no stratum of quality would a threshold decide a tenth of the pictures.\n\n");
    }
    data(&mut out, report);
    tables(&mut out, report);
    limits(&mut out, report);
    out
}

fn data(out: &mut String, report: &Report) {
    out.push_str("## Data\n\n| set | label | pictures |\n|---|---|---|\n");
    for set in &report.sets {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            plain(&set.set),
            set.label.name(),
            set.pictures
        );
    }
    let _ = writeln!(
        out,
        "\n{} copies under one recipe for all labels (`{}`); {} copies gave nothing to measure, {} pictures were not used \
         (`report.json` says why). The licence of these weights is whatever the pictures allow.\n",
        report.copies,
        plain(&report.facts.recipe),
        report.copies_left_out,
        report.facts.skipped.len()
    );
}

fn tables(out: &mut String, report: &Report) {
    let figures = &report.figures;
    out.push_str("## Figures\n\nOf copies judged by heads that saw neither the picture nor, for generated ones, its set.\n\n");
    let _ = writeln!(
        out,
        "| {} |\n|{}",
        TIER_HEADS.join(" | "),
        "---|".repeat(TIER_HEADS.len())
    );
    for tier in &figures.tiers {
        let _ = writeln!(
            out,
            "| {} | {} |",
            tier.tier,
            tier_numbers(tier).join(" | ")
        );
    }
    out.push_str("\n| set left out of the fit | label | copies | AUC | called likely generated |\n|---|---|---|---|---|\n");
    for set in &figures.left_out {
        let (name, label, called) = (
            plain(&set.set),
            set.label.name(),
            percent(set.called_generated.share),
        );
        let _ = writeln!(
            out,
            "| {name} | {label} | {} | {} | {called} |",
            set.copies,
            number(set.auc)
        );
    }
    out.push_str("\n| pictures | copies | likely generated | likely not generated | inconclusive |\n|---|---|---|---|---|\n");
    for row in figures.verdicts.iter().filter(|row| row.tier == "all") {
        let (label, called, copies) =
            (row.label.name(), interval(&row.generated), row.generated.of);
        let (not, open) = (
            percent(row.not_generated.share),
            percent(row.inconclusive.share),
        );
        let _ = writeln!(out, "| {label} | {copies} | {called} | {not} | {open} |");
    }
    for row in figures.strata.iter().filter(|row| row.stratum == "all") {
        let _ = writeln!(
            out,
            "\nCalibration error {:.3}, Brier score {:.3} (0.25 says nothing), right among the surest three fifths {}.",
            row.calibration_error,
            row.brier,
            number(figures.accuracy_at_60_percent)
        );
    }
    out.push_str("\n## Controls\n\n| control | AUC | holds |\n|---|---|---|\n");
    for canary in &report.canaries {
        let holds = if canary.holds() { "yes" } else { "**no**" };
        let _ = writeln!(out, "| {} | {:.3} | {holds} |", canary.name, canary.auc);
    }
}

fn limits(out: &mut String, report: &Report) {
    out.push_str(
        "\n## Limits\n\n- It knows the sources above. Other cameras, other editing and other generators may score differently; \
         the rows of left-out sets say by how much.\n- Copies of one picture are not independent, so true intervals are wider \
         than those given.\n- Out of scope: face swaps, local edits, video, and whether what a picture shows is true.\n",
    );
    if !report.sets.iter().any(|set| set.label == Label::Art) {
        out.push_str("- No art was given: how often drawings and paintings by people are taken for generated is not known.\n");
    }
    if report
        .sets
        .iter()
        .filter(|set| set.label == Label::Generated)
        .count()
        < 2
    {
        out.push_str("- One set of generated pictures was given: nothing is known about generators that it does not hold.\n");
    }
    if report
        .sets
        .iter()
        .filter(|set| set.label == Label::Real)
        .count()
        < 2
    {
        out.push_str(
            "- One source of photographs was given: nothing is known about other sources.\n",
        );
    }
}

/// Text that cannot break a table or become markup.
fn plain(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() || "|<>`[]".contains(character) {
                ' '
            } else {
                character
            }
        })
        .collect()
}
