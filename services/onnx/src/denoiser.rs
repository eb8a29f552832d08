//! The denoising model: a U-Net or a transformer.

use std::collections::HashMap;
use std::time::Duration;

use diffusion::NoisePredictor;
use ndarray::{Array4, ArrayD, ArrayView4, Axis, Ix4, IxDyn, concatenate};

use crate::conditioning::Conditioning;
use crate::error::OnnxError;
use crate::family::Family;
use crate::folder::ModelFolder;
use crate::packing;
use crate::part::{Feed, Part};
use crate::part_config::DenoiserConfig;
use crate::runtime::Runtime;

/// Height and width of the latents of a Flux model that names none: 1024 pixels.
const FLUX_SIDE: usize = 128;
/// Values of one token of a Flux model for each channel of the latents: patches of two by two.
const FLUX_PATCH: usize = 4;
/// Flux takes its timestep from 0 to 1.
const FLUX_TIMESTEP_DIVISOR: f64 = 1000.0;
/// Forms of batches that are remembered; a few for each size of picture.
const EXACT_FORMS_MAX: usize = 1_024;
/// Inputs beside sample and timestep that a pipeline can make.
const CONDITIONS: [&str; 9] = [
    "encoder_hidden_states",
    "text_embeds",
    "time_ids",
    "timestep_cond",
    "class_labels",
    "pooled_projections",
    "guidance",
    "img_ids",
    "txt_ids",
];

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

/// The denoising model with the shape of its sample.
pub(crate) struct Denoiser {
    part: Part,
    name: &'static str,
    family: Family,
    input: &'static str,
    output: String,
    timestep: TimestepShape,
    config: DenoiserConfig,
    /// Channels, height and width of the sample that the scheduler works on.
    shape: diffusion::seed::SampleShape,
    /// Height and width where the graph admits no other.
    fixed_sides: Option<(usize, usize)>,
    /// Whether mask and masked picture go in beside the sample.
    is_inpainting: bool,
    /// Whether batches of these forms gave each row the bits that it has alone.
    exact_forms: HashMap<BatchForm, bool>,
}

/// What may change which kernels run for a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BatchForm {
    /// Images of the batch.
    pub(crate) images: usize,
    /// Whether both branches of guidance run.
    pub(crate) is_guided: bool,
    /// Height and width of the sample.
    pub(crate) sides: (usize, usize),
}

impl Denoiser {
    /// Opens the model. `latent_channels` are those of the autoencoder, if there is one.
    pub(crate) fn open(
        runtime: &Runtime,
        folder: &ModelFolder,
        latent_channels: Option<usize>,
    ) -> Result<Self, OnnxError> {
        let family = folder.family();
        let name = family.denoiser_part();
        let config: DenoiserConfig = folder.part_config(name)?;
        let part = Part::open(runtime, name, &folder.model_path(name))?;
        let input = if family.is_flow() {
            "hidden_states"
        } else {
            "sample"
        };
        part.refuse_inputs_beyond(&[&[input, "timestep"], CONDITIONS.as_slice()].concat())?;
        let timestep = timestep_shape(&part, input, name)?;
        let (shape, fixed_sides) =
            sample_shape(&part, input, &config, family).ok_or_else(|| {
                OnnxError::folder(
                    &folder.root().join(name).join("config.json"),
                    "in_channels or sample_size is missing",
                )
            })?;
        let is_inpainting = latent_channels
            .is_some_and(|channels| shape.0 == 2 * channels + 1 && !family.is_flow());
        let channels = match latent_channels {
            Some(channels) if is_inpainting => channels,
            _ => shape.0,
        };
        Ok(Self {
            output: part
                .output(&["out_sample", "out_hidden_states", "sample"])?
                .name
                .clone(),
            part,
            name,
            family,
            input,
            timestep,
            config,
            shape: (channels, shape.1, shape.2),
            fixed_sides,
            is_inpainting,
            exact_forms: HashMap::new(),
        })
    }

    /// Whether the model has an input of that name.
    pub(crate) fn takes(&self, input: &str) -> bool {
        self.part.inputs().iter().any(|port| port.name == input)
    }

    /// The model's configuration.
    pub(crate) fn config(&self) -> &DenoiserConfig {
        &self.config
    }

    /// Channels, height and width of the sample.
    pub(crate) fn sample_shape(&self) -> diffusion::seed::SampleShape {
        self.shape
    }

    /// Height and width of the sample where the graph admits no other.
    pub(crate) fn fixed_sides(&self) -> Option<(usize, usize)> {
        self.fixed_sides
    }

    /// Whether mask and masked picture go in beside the sample.
    pub(crate) fn is_inpainting(&self) -> bool {
        self.is_inpainting
    }

    /// What the sides of the sample must be multiples of.
    pub(crate) fn factor(&self) -> usize {
        match self.family {
            Family::Flux => 2,
            _ => self.config.factor(),
        }
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.part.take_session_time()
    }

    /// Whether the rows of a batch have the bits that they have alone; `None` before the first one.
    pub(crate) fn is_exact(&self, form: BatchForm) -> Option<bool> {
        self.exact_forms.get(&form).copied()
    }

    pub(crate) fn note_exact(&mut self, form: BatchForm, is_exact: bool) {
        // Sizes come from requests: what was learned about too many of them is learned again.
        if self.exact_forms.len() >= EXACT_FORMS_MAX {
            self.exact_forms.clear();
        }
        self.exact_forms.insert(form, is_exact);
    }

    /// The model's prediction for rows of samples, guided where that is asked for and possible.
    pub(crate) fn predict(
        &mut self,
        (sample, timestep): (ArrayView4<'_, f32>, f64),
        conditioning: &Conditioning,
        is_guided: bool,
    ) -> Result<Array4<f32>, OnnxError> {
        match &conditioning.guided {
            Some(guided) if is_guided => {
                let pair = concatenate(Axis(0), &[sample, sample])
                    .expect("two equal views always have matching shapes");
                let output = self.run(pair.view(), timestep, &guided.inputs)?;
                Ok(guide(output.view(), &guided.scales))
            }
            _ => self.run(sample, timestep, &conditioning.inputs),
        }
    }

    /// Runs the model on rows of samples with the inputs of their conditions.
    fn run(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
        conditions: &[(&'static str, ArrayD<f32>)],
    ) -> Result<Array4<f32>, OnnxError> {
        let (rows, _, height, width) = sample.dim();
        let shape: &[usize] = match self.timestep {
            TimestepShape::Scalar => &[],
            TimestepShape::One => &[1],
            TimestepShape::PerRow => &[rows],
        };
        let is_packed = self.family == Family::Flux;
        let timestep = if is_packed {
            timestep / FLUX_TIMESTEP_DIVISOR
        } else {
            timestep
        };
        let timestep = ArrayD::from_elem(IxDyn(shape), timestep as f32);
        let packed = is_packed.then(|| packing::pack(sample));
        let sample_feed = match &packed {
            Some(packed) => packed.view().into_dyn(),
            None => sample.into_dyn(),
        };
        let mut feeds = Vec::with_capacity(2 + conditions.len());
        feeds.push((self.input, Feed::Real(sample_feed)));
        feeds.push(("timestep", Feed::Real(timestep.view())));
        for (name, values) in conditions {
            feeds.push((name, Feed::Real(values.view())));
        }
        let output = self.part.run(&feeds, &self.output)?;
        let expected = (rows, self.shape.0, height, width);
        let unpacked = if is_packed {
            packing::unpack(output, expected)
        } else {
            output
                .into_dimensionality::<Ix4>()
                .map_err(|_| "not of four axes".to_owned())
        };
        let refuse = |found: String| OnnxError::PortKind {
            part: self.name.to_owned(),
            port: format!("output {:?}", self.output),
            found,
            expected: format!("of shape {expected:?}"),
        };
        let output = unpacked.map_err(refuse)?;
        let (found_rows, channels, found_height, found_width) = output.dim();
        // Learned variances follow the prediction; the scheduler reads or drops them.
        let fits = channels == expected.1 || channels == 2 * expected.1;
        if (found_rows, found_height, found_width) != (rows, height, width) || !fits {
            return Err(refuse(format!("of shape {:?}", output.dim())));
        }
        Ok(output)
    }
}

fn timestep_shape(
    part: &Part,
    input: &str,
    name: &'static str,
) -> Result<TimestepShape, OnnxError> {
    let sample = part.input(input)?;
    let timestep = part.input("timestep")?;
    match timestep.shape.as_slice() {
        [] => Ok(TimestepShape::Scalar),
        [1] => Ok(TimestepShape::One),
        // Transformers take one for each row, as their reference pipelines feed them.
        [_] if input == "hidden_states" => Ok(TimestepShape::PerRow),
        [_] if !timestep.symbols[0].is_empty()
            && timestep.symbols.first() == sample.symbols.first() =>
        {
            Ok(TimestepShape::PerRow)
        }
        [_] => Ok(TimestepShape::One),
        shape => Err(OnnxError::PortKind {
            part: name.to_owned(),
            port: "input \"timestep\"".to_owned(),
            found: format!("of shape {shape:?}"),
            expected: "a scalar or a list".to_owned(),
        }),
    }
}

/// Height and width.
type Sides = (usize, usize);

/// Shape of the sample, from the configuration or else from the graph, and the sides that the
/// graph fixes.
fn sample_shape(
    part: &Part,
    input: &str,
    config: &DenoiserConfig,
    family: Family,
) -> Option<(diffusion::seed::SampleShape, Option<Sides>)> {
    if family == Family::Flux {
        let (height, width) = config.sides().unwrap_or((FLUX_SIDE, FLUX_SIDE));
        return Some(((config.in_channels? / FLUX_PATCH, height, width), None));
    }
    let sample = part.input(input).ok()?;
    let declared = |axis: usize| {
        let size = sample.shape.get(axis).copied().unwrap_or(-1);
        usize::try_from(size).ok().filter(|&size| size > 0)
    };
    let fixed = declared(2).zip(declared(3));
    let (height, width) = config.sides().or(fixed)?;
    let channels = config.in_channels.or(declared(1))?;
    Some(((channels, height, width), fixed))
}

/// The denoising model under unchanging conditions and without guidance.
pub(crate) struct UnguidedDenoiser<'a> {
    denoiser: &'a mut Denoiser,
    conditioning: &'a Conditioning,
}

impl<'a> UnguidedDenoiser<'a> {
    pub(crate) fn new(denoiser: &'a mut Denoiser, conditioning: &'a Conditioning) -> Self {
        Self {
            denoiser,
            conditioning,
        }
    }
}

impl NoisePredictor for UnguidedDenoiser<'_> {
    type Error = OnnxError;

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timestep: f64,
    ) -> Result<Array4<f32>, OnnxError> {
        self.denoiser
            .predict((sample, timestep), self.conditioning, false)
    }
}

/// Folds the rows without condition and those with it, one after the other, into one prediction:
/// `unconditional + scale * (conditional - unconditional)`, each row with its own scale.
fn guide(output: ArrayView4<'_, f32>, scales: &[f32]) -> Array4<f32> {
    let (unconditional, conditional) = output.split_at(Axis(0), scales.len());
    let mut guided = unconditional.to_owned();
    let rows = guided
        .axis_iter_mut(Axis(0))
        .zip(conditional.axis_iter(Axis(0)));
    for ((mut row, conditional), &scale) in rows.zip(scales) {
        row.zip_mut_with(&conditional, |value, &conditional| {
            *value += scale * (conditional - *value);
        });
    }
    guided
}
