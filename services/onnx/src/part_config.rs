//! What a pipeline reads in the `config.json` of its parts.

use serde::Deserialize;

/// Scaling of the latents where `vae_decoder/config.json` has none: that of Stable Diffusion 1.
const SCALING_FACTOR: f32 = 0.18215;
/// Channels of the latents where `vae_decoder/config.json` has none.
const LATENT_CHANNELS: usize = 4;

/// One number for both sides, or one for each.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
enum SampleSize {
    Square(usize),
    Sides([usize; 2]),
}

/// `unet/config.json` or `transformer/config.json`. Keys that are not listed are ignored.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DenoiserConfig {
    /// Channels of the input.
    pub(crate) in_channels: Option<usize>,
    sample_size: Option<SampleSize>,
    /// Side of the squares that a transformer reads as one token.
    pub(crate) patch_size: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
    /// Width of the guidance embedding of latent consistency models.
    pub(crate) time_cond_proj_dim: Option<usize>,
    /// Number of classes of a class-conditional model.
    pub(crate) num_class_embeds: Option<u32>,
    /// Width of the token states of a transformer.
    pub(crate) joint_attention_dim: Option<usize>,
}

impl DenoiserConfig {
    /// Height and width of the sample.
    pub(crate) fn sides(&self) -> Option<(usize, usize)> {
        self.sample_size.map(|size| match size {
            SampleSize::Square(side) => (side, side),
            SampleSize::Sides([height, width]) => (height, width),
        })
    }

    /// What the sides of the sample must be a multiple of: a U-Net halves them between its blocks,
    /// a transformer cuts them into patches.
    pub(crate) fn factor(&self) -> usize {
        match (self.patch_size, &self.block_out_channels) {
            (Some(patch), _) => patch.max(1),
            (None, Some(blocks)) => halvings(blocks),
            (None, None) => 1,
        }
    }
}

/// `vae_decoder/config.json` and `vae_encoder/config.json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct VaeConfig {
    /// Latents are multiplied by this after encoding.
    scaling_factor: Option<f32>,
    /// Latents are lowered by this before scaling.
    shift_factor: Option<f32>,
    latent_channels: Option<usize>,
    block_out_channels: Option<Vec<usize>>,
}

impl VaeConfig {
    pub(crate) fn scaling_factor(&self) -> f32 {
        self.scaling_factor.unwrap_or(SCALING_FACTOR)
    }

    pub(crate) fn shift_factor(&self) -> f32 {
        self.shift_factor.unwrap_or(0.0)
    }

    pub(crate) fn latent_channels(&self) -> usize {
        self.latent_channels.unwrap_or(LATENT_CHANNELS)
    }

    /// Pixels per latent along each side, where the configuration tells.
    pub(crate) fn factor(&self) -> Option<usize> {
        self.block_out_channels
            .as_ref()
            .map(|blocks| halvings(blocks))
    }
}

/// Each block but the last halves the sides.
fn halvings(blocks: &[usize]) -> usize {
    // No published model has more than a handful of blocks; a wild number of them must not
    // overflow.
    1 << blocks.len().saturating_sub(1).min(16)
}

/// `text_encoder/config.json` and its siblings.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct TextEncoderConfig {
    /// Longest token sequence the encoder takes.
    #[serde(default)]
    pub(crate) max_position_embeddings: Option<usize>,
}
