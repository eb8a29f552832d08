//! What the crate refuses, and why.

use media::MediaError;

/// Every way in which a fit or its inputs can be refused.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A fit needs pictures of both classes.
    #[error("a fit needs rows of both classes: {positive} generated and {negative} others came")]
    OneClass {
        /// Rows of the positive class.
        positive: usize,
        /// Rows of the other one.
        negative: usize,
    },
    /// Rows, labels and weights differ in number, or a row names none.
    #[error("rows, labels and weights do not fit together: {reason}")]
    Shape {
        /// What differs.
        reason: &'static str,
    },
    /// A number that is not finite came in or out.
    #[error("{what} is not finite")]
    NotFinite {
        /// What it would have been.
        what: &'static str,
    },
    /// The normal equations of a ridge regression have no solution.
    #[error("the quality measurement cannot be fitted: its equations have no solution")]
    Singular,
    /// Measurements in a file of an earlier run cannot be read.
    #[error("measurements cannot be read: {reason}")]
    Measurements {
        /// Why not.
        reason: String,
    },
    /// A copy could not be made.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A document could not be written as JSON.
    #[error("{what} cannot be written as JSON")]
    Json {
        /// Which one.
        what: &'static str,
        /// What the writer said.
        source: serde_json::Error,
    },
}
