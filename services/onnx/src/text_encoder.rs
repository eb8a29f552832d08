//! Prompt to token states.

use std::time::Duration;

use ndarray::{Array3, ArrayD, Ix3, IxDyn};

use crate::error::OnnxError;
use crate::folder::{ModelFolder, TextEncoderConfig};
use crate::part::{Feed, Part};
use crate::request::TruncatedPrompt;
use crate::runtime::Runtime;
use crate::tokenizer::PromptTokenizer;

const PART: &str = "text_encoder";

/// The text encoder with its tokenizer.
pub(crate) struct TextEncoder {
    part: Part,
    tokenizer: PromptTokenizer,
    output: String,
}

impl TextEncoder {
    pub(crate) fn open(runtime: &Runtime, folder: &ModelFolder) -> Result<Self, OnnxError> {
        let config: TextEncoderConfig = folder.part_config(PART)?;
        let tokenizer = PromptTokenizer::open(
            &folder.root().join("tokenizer"),
            config.max_position_embeddings,
        )?;
        let part = Part::open(runtime, PART, &folder.model_path(PART))?;
        part.input("input_ids")?;
        part.refuse_inputs_beyond(&["input_ids", "attention_mask", "token_type_ids"])?;
        let output = part.output(&["last_hidden_state"])?.name.clone();
        Ok(Self {
            part,
            tokenizer,
            output,
        })
    }

    /// The states of a prompt's tokens, shape (1, tokens, width). Prompts are encoded one at a
    /// time, so that no prompt's numbers depend on another.
    pub(crate) fn encode(
        &mut self,
        prompt: &str,
    ) -> Result<(Array3<f32>, Option<TruncatedPrompt>), OnnxError> {
        let tokens = self.tokenizer.encode(prompt)?;
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
        let states = self.part.run(&feeds, &self.output)?;
        let found = format!("of shape {:?}", states.shape());
        let states = states
            .into_dimensionality::<Ix3>()
            .map_err(|_| OnnxError::PortKind {
                part: PART.to_owned(),
                port: format!("output {:?}", self.output),
                found,
                expected: "(1, tokens, width)".to_owned(),
            })?;
        Ok((states, tokens.truncated))
    }

    pub(crate) fn take_session_time(&mut self) -> Duration {
        self.part.take_session_time()
    }
}
