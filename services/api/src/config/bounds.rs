//! Limits that must lie within bounds.

use super::Config;

/// Name, value, least and most of a limit.
pub(super) type Bound = (&'static str, u64, u64, u64);

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("limit {name} is {value}, it must lie between {min} and {max}")]
pub struct LimitRefused {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) min: String,
    pub(super) max: String,
}

/// Refuses the first value out of its bounds.
pub(super) fn check_bounds(bounds: &[Bound]) -> Result<(), LimitRefused> {
    for (name, value, min, max) in bounds {
        if !(min..=max).contains(&value) {
            return Err(LimitRefused {
                name,
                value: value.to_string(),
                min: min.to_string(),
                max: max.to_string(),
            });
        }
    }
    Ok(())
}

impl Config {
    /// Refuses limits of zero and limits that the machine cannot hold.
    ///
    /// # Errors
    /// The first limit out of bounds.
    pub fn check(&self) -> Result<(), LimitRefused> {
        self.limits.check()?;
        check_bounds(&self.witnesses.bounds())?;
        check_bounds(&self.time_stamps.bounds())
    }
}
