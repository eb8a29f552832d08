//! The photo prior: a noise predictor in pixel space.

use std::path::Path;

use diffusion::NoisePredictor;
use ndarray::{Array1, Array4, ArrayView4, Ix4};

use crate::error::OnnxError;
use crate::part::{Feed, Part};
use crate::runtime::Runtime;

/// A small network that predicts the noise in photographs. Inputs `sample` (batch, 3, height,
/// width) in [-1, 1] with even sides and `noise_level` (batch); output `noise_pred` of the
/// sample's shape. `sample = sqrt(1 - noise_level^2) * picture + noise_level * noise`.
pub struct PhotoPrior {
    part: Part,
}

impl PhotoPrior {
    /// Opens the model file.
    ///
    /// # Errors
    /// [`OnnxError::FileMissing`], [`OnnxError::Session`], [`OnnxError::PortMissing`].
    pub fn open(runtime: &Runtime, path: &Path) -> Result<Self, OnnxError> {
        let part = Part::open(runtime, "photo prior", path)?;
        part.input("sample")?;
        part.input("noise_level")?;
        part.output(&["noise_pred"])?;
        part.refuse_inputs_beyond(&["sample", "noise_level"])?;
        Ok(Self { part })
    }
}

impl std::fmt::Debug for PhotoPrior {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PhotoPrior").finish_non_exhaustive()
    }
}

impl NoisePredictor for PhotoPrior {
    type Error = OnnxError;

    /// `noise_level` takes the place of the timestep.
    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        noise_level: f64,
    ) -> Result<Array4<f32>, OnnxError> {
        let levels = Array1::from_elem(sample.dim().0, noise_level as f32);
        let feeds = [
            ("sample", Feed::Real(sample.into_dyn())),
            ("noise_level", Feed::Real(levels.view().into_dyn())),
        ];
        let noise_pred = self.part.run(&feeds, "noise_pred")?;
        noise_pred
            .into_dimensionality::<Ix4>()
            .map_err(|error| OnnxError::Run {
                part: "photo prior".to_owned(),
                reason: error.to_string(),
            })
    }
}
