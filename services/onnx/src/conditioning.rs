//! What the denoising model is told beside sample and timestep.

use ndarray::{Array2, ArrayD, Axis, Slice, concatenate};

use crate::denoiser::Denoiser;
use crate::packing;
use crate::prompt_encoder::PromptStates;

/// The largest period of the guidance embedding's sinusoids, as in the reference.
const EMBEDDING_PERIOD: f32 = 10_000.0;
/// Factor on the guidance scale before it is embedded.
const EMBEDDING_SCALE: f32 = 1000.0;
/// What the refiner of Stable Diffusion XL is told about wanted and unwanted pictures.
const AESTHETIC_SCORE: f32 = 6.0;
const NEGATIVE_AESTHETIC_SCORE: f32 = 2.5;

/// Named inputs with one row for each image (inputs that all rows share excepted).
pub(crate) type Inputs = Vec<(&'static str, ArrayD<f32>)>;

/// The inputs of the images of one batch; [`Conditions::conditioning`] makes those of one image.
#[derive(Debug, Clone)]
pub(crate) struct Conditioning {
    /// With the prompt.
    pub(crate) inputs: Inputs,
    /// With and without the prompt, for classifier-free guidance.
    pub(crate) guided: Option<Guided>,
}

/// Both branches of classifier-free guidance: first the rows without the prompt, then those with
/// it.
#[derive(Debug, Clone)]
pub(crate) struct Guided {
    pub(crate) inputs: Inputs,
    /// The guidance scale of each image.
    pub(crate) scales: Vec<f32>,
}

impl Conditioning {
    /// Whether the inputs of two images have the same names and shapes, and can go in together.
    pub(crate) fn fits(&self, other: &Self) -> bool {
        let guided = match (&self.guided, &other.guided) {
            (Some(own), Some(others)) => fit(&own.inputs, &others.inputs),
            (own, others) => own.is_none() && others.is_none(),
        };
        guided && fit(&self.inputs, &other.inputs)
    }

    /// The inputs of several images that fit one another, in this order.
    pub(crate) fn stacked(images: &[&Self]) -> Self {
        let inputs: Vec<&Inputs> = images.iter().map(|image| &image.inputs).collect();
        let guided: Option<Vec<&Guided>> =
            images.iter().map(|image| image.guided.as_ref()).collect();
        let guided = guided.map(|guided| {
            let inputs: Vec<&Inputs> = guided.iter().map(|guided| &guided.inputs).collect();
            let scales = guided.iter().flat_map(|guided| &guided.scales);
            Guided {
                inputs: stack(&inputs, 2),
                scales: scales.copied().collect(),
            }
        });
        Self {
            inputs: stack(&inputs, 1),
            guided,
        }
    }
}

fn fit(left: &Inputs, right: &Inputs) -> bool {
    let mut inputs = left.iter().zip(right);
    left.len() == right.len()
        && inputs.all(|(left, right)| left.0 == right.0 && left.1.shape() == right.1.shape())
}

/// Each input's rows of all images: the first branch of each, then the second of each.
fn stack(images: &[&Inputs], branches: usize) -> Inputs {
    let names = images.first().into_iter().flat_map(|inputs| inputs.iter());
    let stacked = names.enumerate().map(|(place, (name, first))| {
        if is_shared(name) {
            return (*name, first.clone());
        }
        let rows: Vec<_> = (0..branches)
            .flat_map(|branch| {
                let row = Slice::from(branch..=branch);
                images
                    .iter()
                    .map(move |inputs| inputs[place].1.slice_axis(Axis(0), row))
            })
            .collect();
        let values = concatenate(Axis(0), &rows).expect("the images fit one another");
        (*name, values)
    });
    stacked.collect()
}

/// What one image is conditioned on.
#[derive(Debug, Clone)]
pub(crate) struct Conditions {
    pub(crate) prompt: Option<PromptStates>,
    /// Set when guidance runs both branches.
    pub(crate) negative: Option<PromptStates>,
    pub(crate) class_label: Option<u32>,
    pub(crate) guidance_scale: f32,
    /// Height and width of the picture.
    pub(crate) picture_sides: (u32, u32),
    /// Height and width of the sample.
    pub(crate) sample_sides: (usize, usize),
    pub(crate) wants_aesthetic_score: bool,
}

impl Conditions {
    /// The inputs of one image.
    pub(crate) fn conditioning(&self, denoiser: &Denoiser) -> Conditioning {
        let inputs = self.branch(denoiser, self.prompt.as_ref(), AESTHETIC_SCORE);
        let guided = self.negative.as_ref().map(|negative| {
            let without = self.branch(denoiser, Some(negative), NEGATIVE_AESTHETIC_SCORE);
            let both = without.iter().zip(&inputs);
            let both = both.map(|((name, first), (_, second))| {
                let values = if is_shared(name) {
                    first.clone()
                } else {
                    concatenate(Axis(0), &[first.view(), second.view()])
                        .expect("both branches come from the same encoders")
                };
                (*name, values)
            });
            Guided {
                inputs: both.collect(),
                scales: vec![self.guidance_scale],
            }
        });
        Conditioning { inputs, guided }
    }

    /// One row of every input that the model takes.
    fn branch(
        &self,
        denoiser: &Denoiser,
        prompt: Option<&PromptStates>,
        aesthetic_score: f32,
    ) -> Inputs {
        let mut inputs = Inputs::new();
        let mut put = |name: &'static str, values: ArrayD<f32>| {
            if denoiser.takes(name) {
                inputs.push((name, values));
            }
        };
        if let Some(prompt) = prompt {
            put("encoder_hidden_states", prompt.states.clone().into_dyn());
            if let Some(pooled) = &prompt.pooled {
                put("text_embeds", pooled.clone().into_dyn());
                put("pooled_projections", pooled.clone().into_dyn());
            }
            let tokens = prompt.states.dim().1;
            put("txt_ids", Array2::zeros((tokens, 3)).into_dyn());
        }
        put("time_ids", self.time_ids(aesthetic_score));
        let (height, width) = self.sample_sides;
        put("img_ids", packing::places(height, width).into_dyn());
        put(
            "guidance",
            one_row(&[self.guidance_scale]).remove_axis_one(),
        );
        if let Some(width) = denoiser.config().time_cond_proj_dim {
            put(
                "timestep_cond",
                guidance_embedding(self.guidance_scale, width),
            );
        }
        if let Some(label) = self.class_label {
            put("class_labels", one_row(&[label as f32]).remove_axis_one());
        }
        inputs
    }

    /// Original size, left upper corner of the crop, and then either the wanted size or the
    /// aesthetic score (Podell et al. 2023, arXiv 2307.01952, section 2.2).
    fn time_ids(&self, aesthetic_score: f32) -> ArrayD<f32> {
        let (height, width) = (self.picture_sides.0 as f32, self.picture_sides.1 as f32);
        if self.wants_aesthetic_score {
            one_row(&[height, width, 0.0, 0.0, aesthetic_score])
        } else {
            one_row(&[height, width, 0.0, 0.0, height, width])
        }
    }
}

/// Whether all rows share an input: the places of the tokens.
fn is_shared(name: &str) -> bool {
    matches!(name, "img_ids" | "txt_ids")
}

fn one_row(values: &[f32]) -> ArrayD<f32> {
    Array2::from_shape_fn((1, values.len()), |(_, place)| values[place]).into_dyn()
}

/// From shape (1, 1) to (1).
trait RemoveAxisOne {
    fn remove_axis_one(self) -> ArrayD<f32>;
}

impl RemoveAxisOne for ArrayD<f32> {
    fn remove_axis_one(self) -> ArrayD<f32> {
        self.index_axis_move(Axis(1), 0)
    }
}

/// The embedding of `guidance_scale - 1` that latent consistency models take (Luo et al. 2023, arXiv
/// 2310.04378, section 4.2): sines, then cosines, a zero at the end of an odd width.
fn guidance_embedding(guidance_scale: f32, width: usize) -> ArrayD<f32> {
    let half = width / 2;
    let scaled = (guidance_scale - 1.0) * EMBEDDING_SCALE;
    let step = EMBEDDING_PERIOD.ln() / (half.max(2) - 1) as f32;
    let angle = |place: usize| scaled * (-(place as f32) * step).exp();
    let sines = (0..half).map(|place| angle(place).sin());
    let cosines = (0..half).map(|place| angle(place).cos());
    let mut values: Vec<f32> = sines.chain(cosines).collect();
    values.resize(width, 0.0);
    one_row(&values)
}
