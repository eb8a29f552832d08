//! The denoising model.

use std::time::Duration;

use diffusion::{NoisePredictor, guidance};
use ndarray::{Array3, Array4, ArrayD, ArrayView3, ArrayView4, Axis, Ix4, IxDyn, concatenate};

use crate::error::OnnxError;
use crate::folder::{ModelFolder, UnetConfig};
use crate::part::{Feed, Part};
use crate::runtime::Runtime;

const PART: &str = "unet";

/// How the model wants its timestep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TimestepShape {
    /// A number without a shape.
    Scalar,
    /// One number in a list.
    One,
    /// One number for each row of the sample.
    PerRow,
}

/// The U-Net with the shape of its sample.
pub(crate) struct Unet {
    part: Part,
    output: String,
    timestep: TimestepShape,
    conditional: bool,
    shape: diffusion::seed::SampleShape,
}

impl Unet {
    pub(crate) fn open(runtime: &Runtime, folder: &ModelFolder) -> Result<Self, OnnxError> {
        let config: UnetConfig = folder.part_config(PART)?;
        let part = Part::open(runtime, PART, &folder.model_path(PART))?;
        part.refuse_inputs_beyond(&["sample", "timestep", "encoder_hidden_states"])?;
        let sample = part.input("sample")?;
        let timestep = part.input("timestep")?;
        let timestep_shape = match timestep.shape.as_slice() {
            [] => TimestepShape::Scalar,
            [1] => TimestepShape::One,
            [_] if !timestep.symbols[0].is_empty()
                && timestep.symbols.first() == sample.symbols.first() =>
            {
                TimestepShape::PerRow
            }
            [_] => TimestepShape::One,
            shape => {
                return Err(OnnxError::PortKind {
                    part: PART.to_owned(),
                    port: "input \"timestep\"".to_owned(),
                    found: format!("of shape {shape:?}"),
                    expected: "a scalar or a list".to_owned(),
                });
            }
        };
        let declared = |axis: usize| {
            let size = sample.shape.get(axis).copied().unwrap_or(-1);
            usize::try_from(size).ok().filter(|&size| size > 0)
        };
        let sides = config.sides();
        let shape = (
            config.channels().or(declared(1)),
            sides.map(|sides| sides.0).or(declared(2)),
            sides.map(|sides| sides.1).or(declared(3)),
        );
        let (Some(channels), Some(height), Some(width)) = shape else {
            return Err(OnnxError::folder(
                &folder.root().join(PART).join("config.json"),
                "in_channels or sample_size is missing",
            ));
        };
        Ok(Self {
            output: part.output(&["out_sample", "sample"])?.name.clone(),
            conditional: part
                .inputs()
                .iter()
                .any(|port| port.name == "encoder_hidden_states"),
            part,
            timestep: timestep_shape,
            shape: (channels, height, width),
        })
    }

    /// Whether the model takes the states of a prompt.
    pub(crate) fn is_conditional(&self) -> bool {
        self.conditional
    }

    /// Channels, height and width of the sample.
    pub(crate) fn sample_shape(&self) -> diffusion::seed::SampleShape {
        self.shape
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.part.take_session_time()
    }

    fn run(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
        states: Option<ArrayView3<'_, f32>>,
    ) -> Result<Array4<f32>, OnnxError> {
        let shape: &[usize] = match self.timestep {
            TimestepShape::Scalar => &[],
            TimestepShape::One => &[1],
            TimestepShape::PerRow => &[sample.dim().0],
        };
        let timestep = ArrayD::from_elem(IxDyn(shape), timestep as f32);
        let mut feeds = vec![
            ("sample", Feed::Real(sample.into_dyn())),
            ("timestep", Feed::Real(timestep.view())),
        ];
        if let Some(states) = states {
            feeds.push(("encoder_hidden_states", Feed::Real(states.into_dyn())));
        }
        let output = self.part.run(&feeds, &self.output)?;
        let found = format!("of shape {:?}", output.shape());
        output
            .into_dimensionality::<Ix4>()
            .map_err(|_| OnnxError::PortKind {
                part: PART.to_owned(),
                port: format!("output {:?}", self.output),
                found,
                expected: "(batch, channels, height, width)".to_owned(),
            })
    }
}

/// What the denoising model is told beside the sample.
#[derive(Debug, Clone)]
pub(crate) enum Conditioning {
    /// Nothing: an unconditional model.
    None,
    /// The states of one prompt, shape (1, tokens, width).
    Prompt(Array3<f32>),
    /// Unconditional and conditional states, shape (2, tokens, width), and the guidance scale.
    Guided(Array3<f32>, f32),
}

impl Conditioning {
    /// Puts both branches of guidance into one batch of two.
    pub(crate) fn guided(
        unconditional: &Array3<f32>,
        conditional: &Array3<f32>,
        guidance_scale: f32,
    ) -> Result<Self, OnnxError> {
        let states =
            concatenate(Axis(0), &[unconditional.view(), conditional.view()]).map_err(|_| {
                OnnxError::PortKind {
                    part: "text_encoder".to_owned(),
                    port: "states".to_owned(),
                    found: format!("of shape {:?}", unconditional.shape()),
                    expected: format!("{:?}", conditional.shape()),
                }
            })?;
        Ok(Self::Guided(states, guidance_scale))
    }
}

/// The denoising model with its conditioning: what the schedulers' loop calls.
pub(crate) struct ConditionedUnet<'a> {
    pub(crate) unet: &'a mut Unet,
    pub(crate) conditioning: &'a Conditioning,
}

impl NoisePredictor for ConditionedUnet<'_> {
    type Error = OnnxError;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
    ) -> Result<Array4<f32>, OnnxError> {
        match self.conditioning {
            Conditioning::None => self.unet.run(sample, timestep, None),
            Conditioning::Prompt(states) => self.unet.run(sample, timestep, Some(states.view())),
            Conditioning::Guided(states, guidance_scale) => {
                let pair = guidance::pair(sample);
                let output = self.unet.run(pair.view(), timestep, Some(states.view()))?;
                Ok(guidance::guide(output.view(), *guidance_scale)?)
            }
        }
    }
}
