//! CLIP's tokenizer from `vocab.json` and `merges.txt`, for older exports that have no
//! `tokenizer.json` (Radford et al. 2021, arXiv 2103.00020, section 2.4: lower-cased byte-pair
//! encoding, with markers for start and end).

use std::collections::HashMap;
use std::path::Path;

use serde_json::json;
use tokenizers::Tokenizer;

use crate::error::OnnxError;
use crate::folder::{parse_json, read_text};

const START: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// How CLIP splits text into words: markers, English contractions, runs of letters, single digits,
/// runs of anything else.
const WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Whether `folder` has what [`open`] needs.
pub(crate) fn is_present(folder: &Path) -> bool {
    folder.join("vocab.json").is_file() && folder.join("merges.txt").is_file()
}

/// Puts the tokenizer together.
pub(crate) fn open(folder: &Path) -> Result<Tokenizer, OnnxError> {
    let vocabulary_path = folder.join("vocab.json");
    let vocabulary: HashMap<String, u32> =
        parse_json(&vocabulary_path, &read_text(&vocabulary_path)?)?;
    let id = |token: &str| {
        vocabulary.get(token).copied().ok_or_else(|| {
            OnnxError::folder(
                &vocabulary_path,
                format!("{token:?} is not in the vocabulary"),
            )
        })
    };
    let (start, end) = (id(START)?, id(END)?);
    let text = read_text(&folder.join("merges.txt"))?;
    let merges: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("#version"))
        .collect();
    let special = |id: u32, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false,
               "rstrip": false, "normalized": true, "special": true})
    };
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [special(start, START), special(end, END)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        ]},
        "post_processor": {"type": "RobertaProcessing", "sep": [END, end], "cls": [START, start],
                           "trim_offsets": false, "add_prefix_space": false},
        "model": {"type": "BPE", "unk_token": END, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "</w>", "fuse_unk": false,
                  "vocab": vocabulary, "merges": merges},
    });
    Tokenizer::from_bytes(tokenizer.to_string())
        .map_err(|error| OnnxError::folder(folder, error.to_string()))
}
