//! Prompt to token states, by one text encoder.

use std::time::Duration;

use ndarray::{Array2, Array3, ArrayD, Ix2, Ix3, IxDyn};

use crate::error::OnnxError;
use crate::folder::ModelFolder;
use crate::part::{Feed, Part};
use crate::part_config::TextEncoderConfig;
use crate::prompt_weights::{MeanOfStates, WeightedPrompt};
use crate::request::TruncatedPrompt;
use crate::runtime::Runtime;
use crate::tokenizer::{PromptLength, PromptTokenizer};

/// Which states of the tokens a pipeline uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum States {
    /// Those after the last layer and its norm.
    Last,
    /// Those before the last layer.
    Penultimate,
    /// None: the pooled state alone.
    Unused,
}

/// One text encoder of a pipeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncoderRole {
    /// Folder of the encoder.
    pub(crate) part: &'static str,
    /// Folder of its tokenizer.
    pub(crate) tokenizer: &'static str,
    pub(crate) states: States,
    /// Name of the output that holds one state for the whole prompt, where it is used.
    pub(crate) pooled: Option<&'static str>,
    /// Tokens of a prompt, where the pipeline fixes them: of a T5 encoder, which has no length of its
    /// own.
    pub(crate) tokens: Option<usize>,
}

impl EncoderRole {
    fn mean_of_states(&self) -> MeanOfStates {
        match self.tokens {
            Some(_) => MeanOfStates::Free,
            None => MeanOfStates::Restored,
        }
    }
}

/// What an encoder makes of a prompt.
#[derive(Debug, Clone)]
pub(crate) struct Encoded {
    /// Shape (1, tokens, width); `None` where the pipeline does not use them.
    pub(crate) states: Option<Array3<f32>>,
    /// Shape (1, width).
    pub(crate) pooled: Option<Array2<f32>>,
    /// Tokens that were read, without padding.
    pub(crate) tokens: usize,
    pub(crate) truncated: Option<TruncatedPrompt>,
}

/// A text encoder with its tokenizer.
pub(crate) struct TextEncoder {
    part: Part,
    tokenizer: PromptTokenizer,
    role: EncoderRole,
    /// Names of the outputs that are read.
    outputs: Vec<String>,
}

impl TextEncoder {
    pub(crate) fn open(
        runtime: &Runtime,
        folder: &ModelFolder,
        role: EncoderRole,
    ) -> Result<Self, OnnxError> {
        let config: TextEncoderConfig = folder.part_config(role.part)?;
        let length = match role.tokens {
            Some(tokens) => PromptLength::OfPipeline(tokens),
            None => PromptLength::OfModel(config.max_position_embeddings),
        };
        let tokenizer = PromptTokenizer::open(&folder.root().join(role.tokenizer), length)?;
        let part = Part::open(runtime, role.part, &folder.model_path(role.part))?;
        part.input("input_ids")?;
        part.refuse_inputs_beyond(&["input_ids", "attention_mask", "token_type_ids"])?;
        let mut outputs = Vec::new();
        match role.states {
            States::Last => outputs.push(part.output(&["last_hidden_state"])?.name.clone()),
            States::Penultimate => outputs.push(penultimate(&part)?),
            States::Unused => {}
        }
        if let Some(pooled) = role.pooled {
            outputs.push(part.output(&[pooled])?.name.clone());
        }
        Ok(Self {
            part,
            tokenizer,
            role,
            outputs,
        })
    }

    /// Encodes one prompt. Prompts are encoded one at a time, so that no prompt's numbers depend on
    /// another. The weights of its words act on the states, not on the pooled state.
    pub(crate) fn encode(&mut self, prompt: &WeightedPrompt) -> Result<Encoded, OnnxError> {
        let tokens = self.tokenizer.encode(&prompt.text)?;
        let row = |values: Vec<i64>| {
            let shape = IxDyn(&[1, values.len()]);
            ArrayD::from_shape_vec(shape, values).expect("one row as long as the values")
        };
        let token_types = row(vec![0; tokens.ids.len()]);
        let ids = row(tokens.ids);
        let attention_mask = row(tokens.attention_mask);
        let mut feeds = vec![("input_ids", Feed::Whole(&ids))];
        for (name, values) in [
            ("attention_mask", &attention_mask),
            ("token_type_ids", &token_types),
        ] {
            if self.part.inputs().iter().any(|port| port.name == name) {
                feeds.push((name, Feed::Whole(values)));
            }
        }
        let mut found = self.part.run_all(&feeds, &self.outputs)?.into_iter();
        let states = match self.role.states {
            States::Unused => None,
            States::Last | States::Penultimate => found.next(),
        };
        let pooled = found.next();
        let states = match states {
            Some(states) => {
                let mut states = self.with_axes::<Ix3>(states, "(1, tokens, width)")?;
                prompt.apply(&mut states, &tokens.ends, self.role.mean_of_states());
                Some(states)
            }
            None => None,
        };
        let pooled = pooled
            .map(|pooled| self.with_axes::<Ix2>(pooled, "(1, width)"))
            .transpose()?;
        Ok(Encoded {
            states,
            pooled,
            tokens: tokens.count,
            truncated: tokens.truncated,
        })
    }

    fn with_axes<D: ndarray::Dimension>(
        &self,
        array: ArrayD<f32>,
        expected: &str,
    ) -> Result<ndarray::Array<f32, D>, OnnxError> {
        let found = format!("of shape {:?}", array.shape());
        array
            .into_dimensionality()
            .map_err(|_| OnnxError::PortKind {
                part: self.role.part.to_owned(),
                port: format!("outputs {}", self.outputs.join(", ")),
                found,
                expected: expected.to_owned(),
            })
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.part.take_session_time()
    }
}

/// Exports number the states of the layers: `hidden_states.0` is the embedding, the last one comes
/// after the last layer.
fn penultimate(part: &Part) -> Result<String, OnnxError> {
    let mut layers: Vec<usize> = part
        .outputs()
        .iter()
        .filter_map(|port| port.name.strip_prefix("hidden_states.")?.parse().ok())
        .collect();
    layers.sort_unstable();
    let before_last = layers.len().checked_sub(2).map(|index| layers[index]);
    match before_last {
        Some(layer) => Ok(format!("hidden_states.{layer}")),
        None => {
            Err(part
                .missing("outputs \"hidden_states.0\" and on; export with output_hidden_states"))
        }
    }
}
