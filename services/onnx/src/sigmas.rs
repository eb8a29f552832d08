//! How a request spreads the sigmas, whatever the model's configuration says.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use diffusion::SchedulerConfig;
use serde::{Deserialize, Serialize};

use crate::error::OnnxError;

/// A spread of the sigmas over the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SigmaSpread {
    /// As the timesteps lie.
    Uniform,
    /// Karras et al. 2022 (arXiv 2206.00364, equation 5).
    Karras,
    /// Even in the logarithm.
    Exponential,
    /// The quantiles of a beta distribution (Lee et al. 2024, arXiv 2407.12173).
    Beta,
}

impl SigmaSpread {
    /// All spreads.
    pub const ALL: [Self; 4] = [Self::Uniform, Self::Karras, Self::Exponential, Self::Beta];

    /// The name in entries and interfaces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Karras => "karras",
            Self::Exponential => "exponential",
            Self::Beta => "beta",
        }
    }

    /// The configuration with this spread in place of its own; unchanged for none.
    pub(crate) fn applied(
        spread: Option<Self>,
        config: &SchedulerConfig,
    ) -> Cow<'_, SchedulerConfig> {
        let Some(spread) = spread else {
            return Cow::Borrowed(config);
        };
        Cow::Owned(SchedulerConfig {
            use_karras_sigmas: Some(spread == Self::Karras),
            use_exponential_sigmas: Some(spread == Self::Exponential),
            use_beta_sigmas: Some(spread == Self::Beta),
            use_lu_lambdas: Some(false),
            ..config.clone()
        })
    }
}

impl fmt::Display for SigmaSpread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for SigmaSpread {
    type Err = OnnxError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|spread| spread.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            OnnxError::request(format!(
                "no spread of sigmas is called {name:?}; there are {names}"
            ))
        })
    }
}
