//! A report about an upload as the pages lay it out.

use media::MediaError;

use super::view::{Findings, Strip};
use super::{curve, pictures, present_score};
use crate::work::ScoreReport;

/// Longest side of the examined picture in a page.
const PICTURE_SIDE_MAX: u32 = 720;
/// Longest file name that is repeated.
const FILE_NAME_CHARS_MAX: usize = 120;

/// What can be shown of the upload itself.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The upload, upright; none where it is not kept any more.
    pub(super) picture: Option<media::Picture>,
    /// Pictures of the process.
    pub(super) strips: Vec<Strip>,
}

/// Lays a report out. It draws pictures: for a blocking thread.
pub(super) fn lay_out(
    report: &ScoreReport,
    file_name: Option<&str>,
    shown: Shown,
) -> Result<Findings, MediaError> {
    let assessment = &report.assessment;
    let (verdict, verdict_class) = present_score::verdict(assessment.verdict);
    let (means, means_not) = present_score::meaning_of(assessment);
    let picture = shown.picture.map(|picture| picture.fit(PICTURE_SIDE_MAX));
    let picture = picture.as_ref().map(pictures::inline).transpose()?;
    let orientation = report.picture.orientation;
    let notes = report.picture.notes.iter();
    Ok(Findings {
        file_name: name(file_name),
        verdict,
        verdict_class,
        reason: present_score::sentence(assessment.reason.sentence()),
        means,
        means_not,
        probability: present_score::probability(assessment, report.thresholds.as_ref()),
        own_entry: present_score::own_entry(assessment),
        evidence: present_score::evidence(assessment),
        heatmap: present_score::heatmap(&assessment.heatmap, orientation, picture),
        curve: report.curve.as_ref().map(curve::draw),
        notes: notes.map(|note| present_score::sentence(note)).collect(),
        strips: shown.strips,
    })
}

/// The name that came with the upload, shortened.
fn name(name: Option<&str>) -> String {
    let name = name
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .unwrap_or("the upload");
    name.chars()
        .filter(|letter| !letter.is_control())
        .take(FILE_NAME_CHARS_MAX)
        .collect()
}
