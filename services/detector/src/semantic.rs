//! What the semantic expert said about a picture, or why it said nothing.

use serde::{Deserialize, Serialize};

use crate::views::View;

/// Why the semantic expert says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// The image encoder that the detector was made with is not installed.
    NotInstalled,
    /// The picture is smaller than what the expert was judged on.
    TooSmall,
}

impl Silence {
    /// A clause for people.
    #[must_use]
    pub fn clause(self) -> &'static str {
        match self {
            Self::NotInstalled => "its image encoder is not installed",
            Self::TooSmall => "the picture is smaller than what it was tested on",
        }
    }
}

/// Raw scores (logits) of a picture's views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SemanticScores {
    /// Where the views lie.
    pub views: Vec<View>,
    /// One raw score for each view; above 0 leans to generated.
    pub raw_scores: Vec<f32>,
}

impl SemanticScores {
    /// Mean over the views, `None` without views or where one is not finite.
    #[must_use]
    pub fn raw_score(&self) -> Option<f64> {
        let sum: f64 = self.raw_scores.iter().map(|score| f64::from(*score)).sum();
        let mean = sum / self.raw_scores.len() as f64;
        (mean.is_finite() && self.views.len() == self.raw_scores.len()).then_some(mean)
    }
}

/// The semantic expert's part in an assessment.
#[derive(Clone, Debug, PartialEq)]
pub enum SemanticAnswer {
    /// The detector has no such expert.
    NoExpert,
    /// It has one, which says nothing about this picture.
    Silent(Silence),
    /// It looked.
    Scores(SemanticScores),
}
