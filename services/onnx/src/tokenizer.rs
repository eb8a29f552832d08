//! Prompts to token ids, always padded to the model's length.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tokenizers::{Tokenizer, TruncationParams};

use crate::clip_vocabulary;
use crate::error::OnnxError;
use crate::folder::{parse_json, read_text};

/// Lengths above this stand for "no limit" in tokenizer configurations.
const MODEL_MAX_LENGTH_MAX: f64 = 100_000.0;

/// A prompt that was longer than the model takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TruncatedPrompt {
    /// Tokens of the whole prompt, special ones included.
    pub tokens: usize,
    /// Tokens that the model takes, special ones included.
    pub tokens_max: usize,
    /// The end of the prompt that the model did not see.
    pub dropped: String,
}

/// One tokenised prompt.
#[derive(Debug, Clone)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<i64>,
    pub(crate) attention_mask: Vec<i64>,
    /// The byte of the prompt that each token ends in; `None` for special tokens and padding.
    pub(crate) ends: Vec<Option<usize>>,
    /// Tokens without padding.
    pub(crate) count: usize,
    pub(crate) truncated: Option<TruncatedPrompt>,
}

#[derive(Debug, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    model_max_length: Option<f64>,
    #[serde(default)]
    pad_token: Option<PadToken>,
}

/// A token is written as its text or as an object that holds it.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum PadToken {
    Text(String),
    Object { content: String },
}

/// How many tokens a prompt is cut or padded to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PromptLength {
    /// As many as the tokenizer's configuration says, or else the encoder has positions for.
    OfModel(Option<usize>),
    /// A number that the pipeline fixes.
    OfPipeline(usize),
}

/// The tokenizer of a text encoder.
pub(crate) struct PromptTokenizer {
    /// Neither truncates nor pads.
    whole: Tokenizer,
    /// Truncates to `tokens_max`.
    truncating: Tokenizer,
    tokens_max: usize,
    pad_id: u32,
}

impl PromptTokenizer {
    /// Opens `tokenizer.json` (or CLIP's `vocab.json` and `merges.txt`) and `tokenizer_config.json`
    /// in `folder`. `length` says how many tokens a prompt has.
    pub(crate) fn open(folder: &Path, length: PromptLength) -> Result<Self, OnnxError> {
        let config_path = folder.join("tokenizer_config.json");
        let config: TokenizerConfig = parse_json(&config_path, &read_text(&config_path)?)?;
        let mut whole = open_tokenizer(folder)?;
        whole.with_padding(None);
        whole
            .with_truncation(None)
            .map_err(|error| OnnxError::folder(folder, error.to_string()))?;
        let declared = config
            .model_max_length
            .filter(|length| (1.0..=MODEL_MAX_LENGTH_MAX).contains(length))
            .map(|length| length as usize);
        let tokens_max = match length {
            PromptLength::OfModel(positions_max) => declared
                .or(positions_max)
                .ok_or_else(|| OnnxError::folder(&config_path, "model_max_length is missing"))?,
            PromptLength::OfPipeline(tokens) => tokens,
        };
        let mut truncating = whole.clone();
        let truncation = TruncationParams {
            max_length: tokens_max,
            ..TruncationParams::default()
        };
        truncating
            .with_truncation(Some(truncation))
            .map_err(|error| OnnxError::folder(&config_path, error.to_string()))?;
        let pad_id = pad_id(&whole, &config, &config_path)?;
        Ok(Self {
            whole,
            truncating,
            tokens_max,
            pad_id,
        })
    }

    /// Tokenises, truncates and pads to exactly the model's length.
    pub(crate) fn encode(&self, prompt: &str) -> Result<Tokens, OnnxError> {
        let refuse = |error: tokenizers::Error| OnnxError::Tokenise {
            reason: error.to_string(),
        };
        let whole = self.whole.encode(prompt, true).map_err(refuse)?;
        let total = whole.len();
        let (encoding, truncated) = if total > self.tokens_max {
            let kept = self.truncating.encode(prompt, true).map_err(refuse)?;
            let end = kept.get_offsets().iter().map(|offset| offset.1).max();
            let truncated = TruncatedPrompt {
                tokens: total,
                tokens_max: self.tokens_max,
                dropped: prompt
                    .get(end.unwrap_or(0)..)
                    .unwrap_or_default()
                    .to_owned(),
            };
            (kept, Some(truncated))
        } else {
            (whole, None)
        };
        let mut ids: Vec<i64> = encoding.get_ids().iter().map(|&id| i64::from(id)).collect();
        let count = ids.len();
        let mut attention_mask = vec![1; count];
        let special = encoding.get_special_tokens_mask().iter();
        let mut ends: Vec<Option<usize>> = special
            .zip(encoding.get_offsets())
            .map(|(&special, offset)| (special == 0).then(|| offset.1.saturating_sub(1)))
            .collect();
        ids.resize(self.tokens_max, i64::from(self.pad_id));
        attention_mask.resize(self.tokens_max, 0);
        ends.resize(self.tokens_max, None);
        Ok(Tokens {
            ids,
            attention_mask,
            ends,
            count,
            truncated,
        })
    }
}

fn open_tokenizer(folder: &Path) -> Result<Tokenizer, OnnxError> {
    let path = folder.join("tokenizer.json");
    if !path.is_file() && clip_vocabulary::is_present(folder) {
        return clip_vocabulary::open(folder);
    }
    Tokenizer::from_bytes(read_text(&path)?)
        .map_err(|error| OnnxError::folder(&path, error.to_string()))
}

fn pad_id(
    tokenizer: &Tokenizer,
    config: &TokenizerConfig,
    config_path: &Path,
) -> Result<u32, OnnxError> {
    let token = match &config.pad_token {
        Some(PadToken::Text(token) | PadToken::Object { content: token }) => token,
        None => return Err(OnnxError::folder(config_path, "pad_token is missing")),
    };
    tokenizer.token_to_id(token).ok_or_else(|| {
        OnnxError::folder(
            config_path,
            format!("pad_token {token:?} is not in the vocabulary"),
        )
    })
}
