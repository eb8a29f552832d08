//! An assessment in words: what the verdict rests on, and what each finding can and cannot show.

use detector::calibration::StratumThresholds;
use detector::{Assessment, Evidence, Heatmap, Reason, Verdict, WatermarkStanding};
use media::Orientation;

use super::view::{EvidenceView, HeatCell, HeatmapView, OwnEntryView, ProbabilityView};

/// Colours of the heatmap's scale.
const HEAT_STEPS: f32 = 9.0;

/// The verdict as a heading, and the style class that goes with it.
pub(super) fn verdict(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::LikelyGenerated => ("Likely generated", "generated"),
        Verdict::LikelyNotGenerated => ("Likely not generated", "not-generated"),
        Verdict::Inconclusive => ("Inconclusive", "inconclusive"),
    }
}

/// What the verdict says, and what it does not say, in plain words.
pub(super) fn meaning_of(assessment: &Assessment) -> (&'static str, &'static str) {
    let both = assessment.evidence.iter();
    let both = both.filter(|finding| matches!(finding, Evidence::SemanticViews { .. }));
    let both = both.count() > 0;
    match (assessment.verdict, assessment.reason) {
        (Verdict::LikelyGenerated, _) => (
            if both {
                "The noise in this picture and what it shows look like the work of image generators. At \
                 the threshold, about one photograph or artwork in fifty of the calibration set would be \
                 called this too."
            } else {
                "The noise in this picture looks like what image generators leave. At the threshold, \
                 about one photograph in twenty of the calibration set would be called this too."
            },
            "It does not say which model made it, who did, or that anything it shows is untrue. Strong \
             noise reduction, retouching, upscaling or an unusual style can do the same to a picture \
             that no model made.",
        ),
        (Verdict::LikelyNotGenerated, _) => (
            if both {
                "The noise in this picture and what it shows look like photographs or artwork. At the \
                 threshold, about one generated picture in twenty of the calibration set would be called \
                 this too."
            } else {
                "The noise in this picture looks like that of photographs. At the threshold, about one \
                 generated picture in twenty of the calibration set would be called this too."
            },
            "It does not say that the picture is true, unedited or what its caption claims. A face \
             swap, a painted-out object, a photograph of a screen are outside what is looked for.",
        ),
        (_, Reason::ExpertsDisagree) => (
            "The noise in this picture points one way and what it shows the other. Alone, each would \
             have decided; together they do not.",
            "It is no sign in either direction. A person should look at it.",
        ),
        (_, Reason::EvidenceConflicts) => (
            "The score points one way, and a mark, a credential or a record that was found points the \
             other.",
            "Neither is proof: marks can be forged and scores can be wrong. A person should look at it.",
        ),
        (Verdict::Inconclusive, _) => (
            "The picture does not decide: photographs and generated pictures both get this score.",
            "It is no sign in either direction. Look at the other evidence, at where the picture comes \
             from, and ask for a copy nearer to the original.",
        ),
    }
}

/// A lower-case phrase as a sentence.
pub(super) fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_uppercase().to_string());
    let stop = if phrase.ends_with('.') { "" } else { "." };
    format!("{}{}{stop}", first.unwrap_or_default(), letters.as_str())
}

/// The probability on its scale with the thresholds that decided; none where nothing was measured.
pub(super) fn probability(
    assessment: &Assessment,
    thresholds: Option<&StratumThresholds>,
) -> Option<ProbabilityView> {
    let probability = f64::from(assessment.probability?);
    let low = thresholds.and_then(|thresholds| thresholds.not_generated_max);
    let high = thresholds.and_then(|thresholds| thresholds.generated_min);
    let text = |threshold: Option<f64>, known: &str, verdict: &str| match threshold {
        Some(value) => format!("{known} {}: {verdict}.", percent(value)),
        None => format!("At this quality no score is enough for \"{verdict}\"."),
    };
    Some(ProbabilityView {
        percent: percent(probability),
        meaning: meaning(probability),
        // The marker is one unit wide and stays inside the scale.
        marker: format!("{:.1}", (probability * 100.0 - 0.5).clamp(0.0, 99.0)),
        lower: format!("{:.1}", low.unwrap_or(0.0) * 100.0),
        upper: format!("{:.1}", high.unwrap_or(1.0) * 100.0),
        lower_text: text(low, "Up to", "likely not generated"),
        upper_text: text(high, "From", "likely generated"),
    })
}

/// Percent without decimals, but never a false certainty.
fn percent(probability: f64) -> String {
    match probability * 100.0 {
        value if value < 1.0 => "under 1 %".to_owned(),
        value if value > 99.0 => "over 99 %".to_owned(),
        value => format!("{value:.0} %"),
    }
}

fn meaning(probability: f64) -> String {
    format!(
        "Had as many generated as real pictures been uploaded, and were they like those of the \
         calibration set, {} of the pictures with this score would be generated. Where generated \
         pictures are rarer, fewer are.",
        percent(probability)
    )
}

/// The findings, and the questions to which nothing was found.
pub(super) fn evidence(assessment: &Assessment) -> Vec<EvidenceView> {
    let mut found: Vec<&Evidence> = assessment.evidence.iter().collect();
    found.sort_by_key(|finding| rank(finding));
    let mut items: Vec<EvidenceView> = found.into_iter().map(item).collect();
    let has = |wanted: fn(&Evidence) -> bool| assessment.evidence.iter().any(wanted);
    let recorded = |finding: &Evidence| {
        matches!(
            finding,
            Evidence::OwnEntry { .. }
                | Evidence::NearMatch { .. }
                | Evidence::NoiseWatermark {
                    standing: WatermarkStanding::SameImage { .. },
                    ..
                }
        )
    };
    if !has(recorded) {
        items.push(clear(
            "This ledger",
            "No entry has the digest of this file or of these pixels, or an image that looks like it.",
            "Cropped and strongly edited copies of an image made here are not found.",
        ));
    }
    let marked = |finding: &Evidence| {
        matches!(
            finding,
            Evidence::GeneratorMark { .. } | Evidence::InvisibleWatermark { .. }
        )
    };
    if !has(marked) {
        items.push(clear(
            "Marks of generators",
            "The file's metadata names no generator, and its pixels carry no open watermark that is \
             known here.",
            "Most platforms remove metadata, and resizing removes such watermarks. A missing mark \
             shows nothing.",
        ));
    }
    if !has(|finding| matches!(finding, Evidence::ContentCredentials { .. })) {
        items.push(clear(
            "Content Credentials",
            "The file has none.",
            "Most platforms remove them. Missing ones show nothing.",
        ));
    }
    items
}

/// The order of the list: what the probability rests on, then the harder to forge first.
fn rank(finding: &Evidence) -> u8 {
    match finding {
        Evidence::PriorTrace { .. } => 0,
        Evidence::SemanticViews { .. } | Evidence::SemanticSilent { .. } => 1,
        Evidence::OwnEntry { .. } | Evidence::NearMatch { .. } => 2,
        Evidence::NoiseWatermark { .. } => 3,
        Evidence::ContentCredentials { .. } => 4,
        Evidence::GeneratorInversion { .. } => 5,
        Evidence::GeneratorMark { .. } => 6,
        Evidence::InvisibleWatermark { .. } => 7,
        Evidence::JpegQuality { .. } => 8,
    }
}

/// The first entry of this ledger that states the upload's digest.
pub(super) fn own_entry(assessment: &Assessment) -> Option<OwnEntryView> {
    assessment
        .evidence
        .iter()
        .find_map(|finding| match finding {
            Evidence::OwnEntry { leaf_index, .. } => Some(OwnEntryView {
                finding: sentence(&finding.sentence()),
                link: format!("/ledger/{leaf_index}"),
            }),
            _ => None,
        })
}

fn clear(title: &str, finding: &str, limits: &str) -> EvidenceView {
    EvidenceView {
        title: title.to_owned(),
        finding: finding.to_owned(),
        limits: limits.to_owned(),
        state_class: "clear",
        state: "Not found",
        link: None,
    }
}

fn item(finding: &Evidence) -> EvidenceView {
    let (title, state, limits) = describe(finding);
    let link = match finding {
        Evidence::OwnEntry { leaf_index, .. } | Evidence::NearMatch { leaf_index, .. } => {
            Some(format!("/ledger/{leaf_index}"))
        }
        Evidence::NoiseWatermark { standing, .. } => standing
            .leaf_index()
            .map(|leaf_index| format!("/ledger/{leaf_index}")),
        _ => None,
    };
    EvidenceView {
        title,
        finding: sentence(&finding.sentence()),
        limits: limits.to_owned(),
        state_class: match state {
            "Found" | "Trusted" | "Valid" | "Invalid" | "Not read" | "Suspect" => "found",
            _ => "clear",
        },
        state,
        link,
    }
}

/// Title, state and limits of a finding.
fn describe(finding: &Evidence) -> (String, &'static str, &'static str) {
    match finding {
        Evidence::PriorTrace { .. } => (
            "Trace under the photo prior".to_owned(),
            "Measured",
            "One of the two experts. Where the other one speaks too, the trace counts as much as it \
             added on pictures new to both: at good quality next to nothing. Heavy compression, \
             resizing and noise reduction weaken it.",
        ),
        Evidence::SemanticViews { .. } => (
            "What the picture shows".to_owned(),
            "Measured",
            "The expert on which the probability mostly rests: content and rendering as a general image encoder \
             sees them. Unusual styles, artwork and subjects that it was not fitted on mislead it.",
        ),
        Evidence::SemanticSilent { .. } => (
            "What the picture shows".to_owned(),
            "Not examined",
            "The probability rests on the trace alone, which is weak by itself.",
        ),
        Evidence::OwnEntry { .. } => (
            "This ledger".to_owned(),
            "Found",
            "Says that this service made these pixels, as the signed entry records.",
        ),
        Evidence::NearMatch { .. } => (
            "Similar image in this ledger".to_owned(),
            "Found",
            "Shows likeness, not origin: a re-compressed or reduced copy looks like this, and so do two \
             pictures of one simple motif. Compare with the recorded image.",
        ),
        Evidence::NoiseWatermark { standing, .. } => (
            "Watermark of this service".to_owned(),
            match standing {
                WatermarkStanding::OtherImage { .. } => "Suspect",
                _ => "Found",
            },
            "Read with a secret key. Whoever has one marked picture can start another picture from its \
             noise, so the mark counts as ours only where the recorded image looks alike. A cropped copy \
             looks otherwise too.",
        ),
        Evidence::GeneratorMark { .. } => (
            "Mark of a generator".to_owned(),
            "Found",
            "A claim of whoever wrote the file. It can be put on a photograph and taken off a \
             generated picture.",
        ),
        Evidence::ContentCredentials {
            valid,
            trusted,
            refused,
            ..
        } => {
            let (state, limits) = match (refused, valid, trusted) {
                (true, ..) => (
                    "Not read",
                    "They are over a limit, or break their reader. Such ones are rare in honest files.",
                ),
                (_, false, _) => (
                    "Invalid",
                    "File, signature or certificate is not what it should be. An editing tool that \
                     does not know Content Credentials leaves them like this too.",
                ),
                (_, _, false) => (
                    "Valid",
                    "Nothing was changed since it was signed. Who signed is not known: anybody can \
                     make a certificate with any name.",
                ),
                (_, _, true) => (
                    "Trusted",
                    "Nothing was changed since a trusted signer signed it. That shows who signed, not \
                     that the picture is true.",
                ),
            };
            ("Content Credentials".to_owned(), state, limits)
        }
        Evidence::GeneratorInversion {
            model,
            made_by_model,
            ..
        } => (
            format!("Inversion with {model}"),
            if *made_by_model { "Found" } else { "Not found" },
            "Answers only whether this one model made the picture, at the size at which it makes \
             pictures. An edited or re-compressed copy is missed, and any picture that was passed \
             through the model's autoencoder counts as made by it.",
        ),
        Evidence::InvisibleWatermark { .. } => (
            "Open watermark".to_owned(),
            "Found",
            "The method and its messages are public: programs put the mark on any picture, a \
             photograph included. Resizing and strong compression remove it.",
        ),
        Evidence::JpegQuality { .. } => (
            "Compression".to_owned(),
            "Measured",
            "Read from the file as it is now. What happened to the picture before is measured from \
             its pixels.",
        ),
    }
}

/// The heatmap over `picture`, a reduced and upright copy of the upload, where it is still there.
pub(super) fn heatmap(
    heatmap: &Heatmap,
    orientation: Orientation,
    picture: Option<String>,
) -> HeatmapView {
    let side = heatmap.side as f32;
    let stored = (heatmap.width, heatmap.height);
    let place = |x, y| orientation.upright_square((x, y), heatmap.side, stored);
    let cells: Vec<HeatCell> = heatmap
        .cells
        .iter()
        .map(|cell| {
            let (x, y) = place(cell.x, cell.y);
            HeatCell {
                x: x as f32,
                y: y as f32,
                width: side,
                height: side,
                step: heat_step(cell.raw_score),
                label: format!("raw score {:.2}", cell.raw_score),
            }
        })
        .collect();
    let caption = if cells.is_empty() {
        "No patch could be looked at.".to_owned()
    } else {
        format!(
            "{} patches of {} pixels were looked at, the places between them were not. A patch's \
             colour is its own raw score, much less certain than the picture's, and no outline of \
             an edit.",
            cells.len(),
            heatmap.side
        )
    };
    let highest = heatmap
        .cells
        .iter()
        .max_by(|a, b| a.raw_score.total_cmp(&b.raw_score));
    let alt = highest.map_or("The examined picture.".to_owned(), |cell| {
        let (x, y) = place(cell.x, cell.y);
        format!(
            "The examined picture with {} coloured patches; the one most like diffusion output \
             starts at column {x}, row {y}.",
            heatmap.cells.len()
        )
    });
    let (width, height) = orientation.upright_size(heatmap.width, heatmap.height);
    HeatmapView {
        picture,
        width,
        height,
        cells,
        caption,
        alt,
    }
}

/// Raw scores are log-odds; the logistic curve spreads them over the colours.
fn heat_step(raw_score: f32) -> u8 {
    let share = 1.0 / (1.0 + (-raw_score).exp());
    (share * HEAT_STEPS).clamp(0.0, HEAT_STEPS - 1.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assessment(probability: Option<f32>, evidence: Vec<Evidence>) -> Assessment {
        Assessment {
            verdict: Verdict::Inconclusive,
            reason: detector::Reason::BetweenThresholds,
            probability,
            raw_score: probability,
            thresholds: None,
            detector_version: "test 1".to_owned(),
            calibration_version: "1".to_owned(),
            thresholds_version: "1".to_owned(),
            evidence,
            heatmap: Heatmap {
                width: 1,
                height: 1,
                side: 1,
                cells: Vec::new(),
            },
            scope: String::new(),
        }
    }

    #[test]
    fn a_probability_is_never_shown_as_certain() {
        let shown = |value| probability(&assessment(Some(value), Vec::new()), None).unwrap();
        assert_eq!(shown(1.0).percent, "over 99 %");
        assert_eq!(shown(0.0).percent, "under 1 %");
        assert_eq!(shown(0.937).percent, "94 %");
    }

    #[test]
    fn a_missing_threshold_is_said_and_leaves_no_zone_on_the_scale() {
        let view = probability(&assessment(Some(0.5), Vec::new()), None).unwrap();
        assert_eq!((view.lower.as_str(), view.upper.as_str()), ("0.0", "100.0"));
        assert!(view.upper_text.contains("no score is enough"));
    }

    #[test]
    fn questions_without_a_finding_are_answered_too() {
        let items = evidence(&assessment(None, Vec::new()));
        let states: Vec<_> = items
            .iter()
            .map(|item| (item.title.as_str(), item.state))
            .collect();
        let expected = [
            ("This ledger", "Not found"),
            ("Marks of generators", "Not found"),
            ("Content Credentials", "Not found"),
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn content_credentials_have_one_of_four_states() {
        let state = |valid, trusted, refused| {
            let found = Evidence::ContentCredentials {
                valid,
                trusted,
                signer: None,
                says_generated: None,
                generator: None,
                codes: vec!["assertion.dataHash.mismatch".to_owned()],
                refused,
            };
            evidence(&assessment(None, vec![found]))[0].state
        };
        assert_eq!(state(false, false, true), "Not read");
        assert_eq!(state(false, false, false), "Invalid");
        assert_eq!(state(true, false, false), "Valid");
        assert_eq!(state(true, true, false), "Trusted");
    }

    #[test]
    fn an_own_entry_leads_to_its_page() {
        let found = Evidence::OwnEntry {
            leaf_index: 12,
            exact_file: true,
        };
        let items = evidence(&assessment(None, vec![found]));
        assert_eq!(items[0].link.as_deref(), Some("/ledger/12"));
        assert_eq!(items[0].state, "Found");
    }

    #[test]
    fn heat_colours_cover_the_scale() {
        assert_eq!(
            (heat_step(-20.0), heat_step(0.0), heat_step(20.0)),
            (0, 4, 8)
        );
    }
}
