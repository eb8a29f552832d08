//! Prompt to what the denoising model takes: the text encoders of a family put together.

use std::time::Duration;

use ndarray::{Array2, Array3, Axis, Slice, concatenate};

use crate::error::OnnxError;
use crate::family::Family;
use crate::folder::ModelFolder;
use crate::prompt_weights::WeightedPrompt;
use crate::request::TruncatedPrompt;
use crate::runtime::Runtime;
use crate::text_encoder::{Encoded, EncoderRole, States, TextEncoder};

/// Tokens of the T5 encoder of Stable Diffusion 3 (`max_sequence_length` of the reference).
const SD3_T5_TOKENS: usize = 256;
/// Tokens of the T5 encoder of Flux.
const FLUX_T5_TOKENS: usize = 512;
/// Tokens that stand in for a T5 encoder that is not there.
const NO_T5_TOKENS: usize = 77;

/// The states of one prompt.
#[derive(Debug, Clone)]
pub(crate) struct PromptStates {
    /// Shape (1, tokens, width).
    pub(crate) states: Array3<f32>,
    /// Shape (1, width), for the families that use it.
    pub(crate) pooled: Option<Array2<f32>>,
    /// Tokens that the first encoder read, without padding.
    pub(crate) tokens: usize,
}

impl PromptStates {
    /// Zeros in place of the empty prompt (`force_zeros_for_empty_prompt`).
    pub(crate) fn zeros(&self) -> Self {
        Self {
            states: Array3::zeros(self.states.raw_dim()),
            pooled: self
                .pooled
                .as_ref()
                .map(|pooled| Array2::zeros(pooled.raw_dim())),
            tokens: 0,
        }
    }
}

/// The text encoders of a pipeline.
pub(crate) struct PromptEncoder {
    family: Family,
    encoders: Vec<TextEncoder>,
    /// Width of the states that a transformer takes, see [`Family::StableDiffusion3`].
    joint_width: Option<usize>,
}

impl PromptEncoder {
    pub(crate) fn open(
        runtime: &Runtime,
        folder: &ModelFolder,
        joint_width: Option<usize>,
    ) -> Result<Self, OnnxError> {
        let family = folder.family();
        let mut encoders = Vec::new();
        for (role, is_optional) in roles(family) {
            if is_optional && !folder.lists(role.part) {
                continue;
            }
            encoders.push(TextEncoder::open(runtime, folder, role)?);
        }
        Ok(Self {
            family,
            encoders,
            joint_width,
        })
    }

    /// Encodes a prompt; `with_weights` reads the notation of [`crate::prompt_weights`]. The first
    /// encoder that had to cut the prompt says so.
    pub(crate) fn encode(
        &mut self,
        prompt: &str,
        with_weights: bool,
    ) -> Result<(PromptStates, Option<TruncatedPrompt>), OnnxError> {
        let prompt = if with_weights {
            WeightedPrompt::parse(prompt)?
        } else {
            WeightedPrompt::plain(prompt)
        };
        let mut encoded = Vec::with_capacity(self.encoders.len());
        for encoder in &mut self.encoders {
            encoded.push(encoder.encode(&prompt)?);
        }
        let truncated = encoded.iter_mut().find_map(|part| part.truncated.take());
        Ok((self.put_together(encoded)?, truncated))
    }

    fn put_together(&self, encoded: Vec<Encoded>) -> Result<PromptStates, OnnxError> {
        let tokens = encoded.first().map_or(0, |part| part.tokens);
        let pooled: Vec<Array2<f32>> = encoded
            .iter()
            .filter_map(|part| part.pooled.clone())
            .collect();
        let states: Vec<Array3<f32>> = encoded.into_iter().filter_map(|part| part.states).collect();
        let states = match self.family {
            Family::StableDiffusion3 => self.joint_states(states)?,
            _ => side_by_side(&states, Axis(2))?,
        };
        let pooled = match pooled.as_slice() {
            [] => None,
            pooled => Some(join(&views(pooled), Axis(1))?),
        };
        Ok(PromptStates {
            states,
            pooled,
            tokens,
        })
    }

    /// Stable Diffusion 3: the states of both CLIP encoders side by side, filled up with zeros to
    /// the width of T5, and followed by the tokens of T5 (Esser et al. 2024, arXiv 2403.03206,
    /// section 4). Zeros stand in for a T5 encoder that is not there.
    fn joint_states(&self, mut states: Vec<Array3<f32>>) -> Result<Array3<f32>, OnnxError> {
        let t5 = if states.len() > 2 {
            states.pop()
        } else {
            self.joint_width
                .map(|width| Array3::zeros((1, NO_T5_TOKENS, width)))
        };
        let t5 = t5.ok_or_else(|| OnnxError::PortMissing {
            part: "transformer".to_owned(),
            port: "joint_attention_dim in its config.json".to_owned(),
            has: "no text_encoder_3 either".to_owned(),
        })?;
        let clip = side_by_side(&states, Axis(2))?;
        let (_, tokens, width) = clip.dim();
        let joint_width = t5.dim().2;
        if width > joint_width {
            return Err(OnnxError::PortKind {
                part: "text_encoder".to_owned(),
                port: "states of both CLIP encoders".to_owned(),
                found: format!("{width} wide"),
                expected: format!("at most {joint_width}, the width of text_encoder_3"),
            });
        }
        let mut padded = Array3::zeros((1, tokens, joint_width));
        padded
            .slice_axis_mut(Axis(2), Slice::from(..width))
            .assign(&clip);
        join(&[padded.view(), t5.view()], Axis(1))
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.encoders
            .iter_mut()
            .map(TextEncoder::take_session_time)
            .sum()
    }
}

/// The encoders of a family and whether a model may lack them.
fn roles(family: Family) -> Vec<(EncoderRole, bool)> {
    let role = |number: usize, states, pooled, tokens| EncoderRole {
        part: ["text_encoder", "text_encoder_2", "text_encoder_3"][number],
        tokenizer: ["tokenizer", "tokenizer_2", "tokenizer_3"][number],
        states,
        pooled,
        tokens,
    };
    let embeds = Some("text_embeds");
    match family {
        Family::Unconditional => Vec::new(),
        Family::StableDiffusion => vec![(role(0, States::Last, None, None), false)],
        // The refiner of Stable Diffusion XL has the second encoder alone.
        Family::StableDiffusionXl => vec![
            (role(0, States::Penultimate, None, None), true),
            (role(1, States::Penultimate, embeds, None), false),
        ],
        Family::StableDiffusion3 => vec![
            (role(0, States::Penultimate, embeds, None), false),
            (role(1, States::Penultimate, embeds, None), false),
            (role(2, States::Last, None, Some(SD3_T5_TOKENS)), true),
        ],
        Family::Flux => vec![
            (role(0, States::Unused, Some("pooler_output"), None), false),
            (role(1, States::Last, None, Some(FLUX_T5_TOKENS)), false),
        ],
    }
}

fn views<D: ndarray::Dimension>(
    arrays: &[ndarray::Array<f32, D>],
) -> Vec<ndarray::ArrayView<'_, f32, D>> {
    arrays.iter().map(|array| array.view()).collect()
}

fn side_by_side(states: &[Array3<f32>], axis: Axis) -> Result<Array3<f32>, OnnxError> {
    join(&views(states), axis)
}

fn join<D: ndarray::RemoveAxis>(
    views: &[ndarray::ArrayView<'_, f32, D>],
    axis: Axis,
) -> Result<ndarray::Array<f32, D>, OnnxError> {
    let shapes: Vec<&[usize]> = views.iter().map(|view| view.shape()).collect();
    concatenate(axis, views).map_err(|_| OnnxError::PortKind {
        part: "text encoders".to_owned(),
        port: "states".to_owned(),
        found: format!("of shapes {shapes:?}"),
        expected: format!("equal but for axis {}", axis.0),
    })
}
