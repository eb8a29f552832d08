//! Weights of words in a prompt, in the notation of the AUTOMATIC1111 web interface.
//!
//! | text | weight of `word` |
//! |---|---|
//! | `(word)` | 1.1 |
//! | `((word))` | 1.21 |
//! | `[word]` | 1 / 1.1 |
//! | `(word:1.3)` | 1.3 |
//! | `\(word\)` | 1, with the brackets as text |
//!
//! Brackets that are never closed weigh what follows them to the end. The text without the notation
//! is tokenised whole; a token has the weight of the text that it ends in. Each token's state is
//! multiplied by its weight, and then all states of a CLIP encoder by one factor that gives them
//! back the mean that they had before, as that interface does. The states of T5 keep no mean: it lies
//! next to zero, and a quotient of two such means says nothing. Padding and special tokens weigh 1.
//! `BREAK` and the scheduling of prompts are not part of the notation here: they are text.

use std::ops::Range;

use ndarray::{Array3, Axis};

use crate::error::OnnxError;

/// Weight of a pair of round brackets; square ones divide by it.
const BRACKET_WEIGHT: f32 = 1.1;
/// Largest magnitude of a weight; beyond it no picture is left.
pub const WEIGHT_MAX: f32 = 10.0;

/// What becomes of the mean of all states when words are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MeanOfStates {
    Restored,
    Free,
}

/// A prompt without its notation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightedPrompt {
    /// The text that is tokenised.
    pub(crate) text: String,
    /// Byte ranges of `text` and their weights; what is not listed weighs 1.
    spans: Vec<(Range<usize>, f32)>,
}

impl WeightedPrompt {
    /// A prompt whose brackets are text.
    pub(crate) fn plain(prompt: &str) -> Self {
        Self {
            text: prompt.to_owned(),
            spans: Vec::new(),
        }
    }

    /// Reads the notation.
    ///
    /// # Errors
    /// [`OnnxError::Request`] for a weight that is not a number of magnitude up to [`WEIGHT_MAX`].
    pub(crate) fn parse(prompt: &str) -> Result<Self, OnnxError> {
        let mut reader = Reader::default();
        let mut rest = prompt;
        while let Some(character) = rest.chars().next() {
            rest = reader.take(character, rest);
        }
        reader.finish()
    }

    /// Whether every word weighs 1.
    pub(crate) fn is_plain(&self) -> bool {
        self.spans.is_empty()
    }

    /// The weight at a byte of `text`.
    fn weight_at(&self, byte: usize) -> f32 {
        let mut spans = self.spans.iter();
        spans
            .find(|(range, _)| range.contains(&byte))
            .map_or(1.0, |(_, weight)| *weight)
    }

    /// Multiplies the states of the tokens, shape (1, tokens, width). `ends` holds for each token
    /// the byte of the text that it ends in, `None` for special tokens and padding.
    pub(crate) fn apply(
        &self,
        states: &mut Array3<f32>,
        ends: &[Option<usize>],
        mean_of_states: MeanOfStates,
    ) {
        if self.is_plain() {
            return;
        }
        let before = mean(states);
        for (mut token, end) in states.axis_iter_mut(Axis(1)).zip(ends) {
            let weight = end.map_or(1.0, |byte| self.weight_at(byte));
            token *= weight;
        }
        let after = mean(states);
        if mean_of_states == MeanOfStates::Restored && after != 0.0 {
            *states *= (before / after) as f32;
        }
    }
}

fn mean(states: &Array3<f32>) -> f64 {
    states.iter().map(|&value| f64::from(value)).sum::<f64>() / states.len().max(1) as f64
}

/// Pieces of text with their weights, and the brackets that are open.
#[derive(Default)]
struct Reader {
    pieces: Vec<(String, f32)>,
    /// For each open round bracket, the piece that follows it.
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Reader {
    /// Takes what `rest` begins with, `character` first, and answers what is left.
    fn take<'t>(&mut self, character: char, rest: &'t str) -> &'t str {
        let tail = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let escaped = tail.chars().next().filter(|next| "()[]\\".contains(*next));
                let literal = escaped.unwrap_or('\\');
                self.push(literal);
                &tail[escaped.map_or(0, char::len_utf8)..]
            }
            '(' => {
                self.round.push(self.pieces.len());
                self.pieces.push((String::new(), 1.0));
                tail
            }
            '[' => {
                self.square.push(self.pieces.len());
                self.pieces.push((String::new(), 1.0));
                tail
            }
            ':' if !self.round.is_empty() => match closing_weight(tail) {
                Some((weight, left)) => {
                    let from = self.round.pop();
                    self.weigh(from, weight);
                    left
                }
                None => {
                    self.push(':');
                    tail
                }
            },
            ')' if !self.round.is_empty() => {
                let from = self.round.pop();
                self.weigh(from, BRACKET_WEIGHT);
                tail
            }
            ']' if !self.square.is_empty() => {
                let from = self.square.pop();
                self.weigh(from, 1.0 / BRACKET_WEIGHT);
                tail
            }
            other => {
                self.push(other);
                tail
            }
        }
    }

    fn push(&mut self, character: char) {
        match self.pieces.last_mut() {
            Some((text, _)) => text.push(character),
            None => self.pieces.push((character.to_string(), 1.0)),
        }
    }

    /// Weighs the pieces from an opening bracket on; what follows is a piece of its own.
    fn weigh(&mut self, from: Option<usize>, weight: f32) {
        for (_, own) in self.pieces.iter_mut().skip(from.unwrap_or(0)) {
            *own *= weight;
        }
        self.pieces.push((String::new(), 1.0));
    }

    fn finish(mut self) -> Result<WeightedPrompt, OnnxError> {
        while let Some(from) = self.round.pop() {
            self.weigh(Some(from), BRACKET_WEIGHT);
        }
        while let Some(from) = self.square.pop() {
            self.weigh(Some(from), 1.0 / BRACKET_WEIGHT);
        }
        let mut prompt = WeightedPrompt::plain("");
        for (text, weight) in self.pieces {
            if !weight.is_finite() || weight.abs() > WEIGHT_MAX {
                return Err(OnnxError::request(format!(
                    "the prompt weighs a word {weight}; weights reach from -{WEIGHT_MAX} to \
                     {WEIGHT_MAX}"
                )));
            }
            let start = prompt.text.len();
            prompt.text.push_str(&text);
            #[expect(
                clippy::float_cmp,
                reason = "text outside of brackets weighs exactly one"
            )]
            if weight != 1.0 && !text.is_empty() {
                prompt.spans.push((start..prompt.text.len(), weight));
            }
        }
        Ok(prompt)
    }
}

/// Reads `1.3)` after a colon: the weight and what follows the bracket.
fn closing_weight(text: &str) -> Option<(f32, &str)> {
    let (number, left) = text.split_once(')')?;
    let number = number.trim();
    let is_number = number
        .chars()
        .all(|character| character.is_ascii_digit() || "+-.".contains(character));
    if !is_number {
        return None;
    }
    number.parse().ok().map(|weight| (weight, left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(prompt: &str) -> Vec<(String, f32)> {
        let parsed = WeightedPrompt::parse(prompt).unwrap();
        let spans = parsed.spans.iter();
        spans
            .map(|(range, weight)| (parsed.text[range.clone()].to_owned(), *weight))
            .collect()
    }

    #[test]
    fn brackets_weigh_and_numbers_replace_their_weight() {
        let prompt = "a (red:1.5) dog on [the] ((table)) (b (c:2):0.5)";
        let parsed = WeightedPrompt::parse(prompt).unwrap();
        assert_eq!(parsed.text, "a red dog on the table b c");
        let found = parts(prompt);
        let expected = [
            ("red", 1.5),
            ("the", 1.0 / 1.1),
            ("table", 1.21),
            ("b ", 0.5),
        ];
        assert_eq!(found.len(), expected.len());
        for ((text, weight), (wanted, number)) in found.iter().zip(expected) {
            assert_eq!(text, wanted);
            assert!((weight - number).abs() < 1e-6, "{text}: {weight}");
        }
    }

    #[test]
    fn escapes_lone_brackets_and_colons_are_text() {
        for (prompt, text) in [
            (r"a \(b\) \[c\] \\", r"a (b) [c] \"),
            ("a) b] c: d:1.2)", "a) b] c: d:1.2)"),
            ("(time: noon)", "time: noon"),
            (r"a \b", r"a \b"),
        ] {
            assert_eq!(WeightedPrompt::parse(prompt).unwrap().text, text);
        }
        assert!(WeightedPrompt::parse(r"a \(b\)").unwrap().is_plain());
    }

    #[test]
    fn a_bracket_that_is_never_closed_weighs_the_rest() {
        let (text, weight) = parts("a (b c").remove(0);
        assert_eq!(text, "b c");
        assert!((weight - 1.1).abs() < 1e-6);
    }

    #[test]
    fn wild_weights_are_refused() {
        for prompt in ["(a:11)", "(a:99999999999999999999999999999999999999999)"] {
            let error = WeightedPrompt::parse(prompt).unwrap_err().to_string();
            assert!(error.contains("-10 to 10"), "{error}");
        }
    }

    #[test]
    fn weighing_keeps_the_mean_of_the_states_unless_they_are_t5s() {
        let prompt = WeightedPrompt::parse("(a:2) b").unwrap();
        let mut states = Array3::from_shape_fn((1, 4, 2), |(_, token, place)| {
            1.0 + token as f32 + place as f32
        });
        let before = states.clone();
        let ends = [None, Some(0), Some(2), None];
        let mut free = before.clone();
        prompt.apply(&mut free, &ends, MeanOfStates::Free);
        assert_eq!(free[[0, 1, 1]], 2.0 * before[[0, 1, 1]]);
        assert_eq!(free[[0, 2, 1]], before[[0, 2, 1]]);
        prompt.apply(&mut states, &ends, MeanOfStates::Restored);
        assert!((mean(&states) - mean(&before)).abs() < 1e-6);
        let ratio = |token: usize| states[[0, token, 0]] / before[[0, token, 0]];
        assert!((ratio(1) / ratio(2) - 2.0).abs() < 1e-5);
        assert!((ratio(0) - ratio(3)).abs() < 1e-6);
    }
}
