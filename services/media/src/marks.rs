//! Metadata that says "a generator made this picture".

use serde::{Deserialize, Serialize};

use crate::decode::Decoded;
use crate::metadata::{MetadataItem, Place, printable};

/// Characters of a statement that are quoted in a mark.
const QUOTE_CHARACTERS_MAX: usize = 200;

/// What kind of statement a mark is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkKind {
    /// Generation parameters (prompt, steps, sampler and so on) as text.
    GenerationParameters,
    /// The graph of a node-based generation tool.
    Workflow,
    /// The name of a generation tool as the writing software.
    SoftwareName,
    /// An IPTC digital source type that names an algorithm as the maker.
    DigitalSourceType,
    /// Content Credentials are there; this version does not validate them.
    ContentCredentials,
    /// The text that this service writes into its own pictures. Unsigned: only the ledger
    /// can confirm it.
    RetraceText,
}

/// One mark: a claim that the file makes about itself. Evidence, never proof: anyone can
/// write or remove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What kind of statement it is.
    pub kind: MarkKind,
    /// Where in the file it stands.
    pub place: String,
    /// The tool or model that it names, if it names one.
    pub generator: Option<String>,
    /// The statement in one printable line, shortened.
    pub statement: String,
}

/// Names that generation tools and services write as software, credit or creator tool, in
/// lower case, with the spelling to report.
const TOOLS: [(&str, &str); 22] = [
    ("adobe firefly", "Adobe Firefly"),
    ("automatic1111", "AUTOMATIC1111"),
    ("chatgpt", "ChatGPT"),
    ("comfyui", "ComfyUI"),
    ("dall-e", "DALL-E"),
    ("dall·e", "DALL-E"),
    ("diffusionbee", "DiffusionBee"),
    ("draw things", "Draw Things"),
    ("easy diffusion", "Easy Diffusion"),
    ("fooocus", "Fooocus"),
    ("gpt-image", "GPT Image"),
    ("ideogram", "Ideogram"),
    ("invokeai", "InvokeAI"),
    ("leonardo.ai", "Leonardo.Ai"),
    ("made with google ai", "Google AI"),
    ("midjourney", "Midjourney"),
    ("novelai", "NovelAI"),
    ("openai", "OpenAI"),
    ("sd.next", "SD.Next"),
    ("stable diffusion", "Stable Diffusion"),
    ("stable-diffusion", "Stable Diffusion"),
    ("swarmui", "SwarmUI"),
];

/// The IPTC digital source types that name an algorithm as maker or co-maker
/// (cv.iptc.org/newscodes/digitalsourcetype).
const ALGORITHMIC_SOURCES: [&str; 5] = [
    "trainedAlgorithmicMedia",
    "compositeWithTrainedAlgorithmicMedia",
    "algorithmicMedia",
    "compositeSynthetic",
    "algorithmicallyEnhanced",
];

/// Names every generator mark among the metadata of a decoded picture, in file order.
#[must_use]
pub fn generator_marks(decoded: &Decoded) -> Vec<Mark> {
    decoded.metadata.iter().filter_map(mark_of).collect()
}

fn mark_of(item: &MetadataItem) -> Option<Mark> {
    let (kind, generator) = match &item.place {
        Place::ContentCredentials => {
            return Some(Mark {
                kind: MarkKind::ContentCredentials,
                place: item.place.to_string(),
                generator: None,
                statement: "Content Credentials present, not validated in this version".to_owned(),
            });
        }
        Place::PngText(keyword) => png_text(keyword, &item.value)?,
        Place::Exif(_) | Place::JpegComment => free_text(&item.value)?,
        Place::Xmp(property) if property == "DigitalSourceType" => {
            let source = source_type(&item.value)?;
            (MarkKind::DigitalSourceType, Some(source.to_owned()))
        }
        Place::Xmp(_) => tool_name(&item.value)?,
    };
    Some(Mark {
        kind,
        place: item.place.to_string(),
        generator,
        statement: printable(&item.value, QUOTE_CHARACTERS_MAX),
    })
}

type Found = (MarkKind, Option<String>);

/// PNG keywords have meanings of their own in several tools.
fn png_text(keyword: &str, text: &str) -> Option<Found> {
    match keyword {
        "Software" if text.starts_with("Retrace") => {
            Some((MarkKind::RetraceText, Some("Retrace".to_owned())))
        }
        "prompt" | "workflow" => graph(text).or_else(|| free_text(text)),
        "invokeai_metadata" | "sd-metadata" | "invokeai_graph" | "Dream" => {
            Some((MarkKind::GenerationParameters, Some("InvokeAI".to_owned())))
        }
        "fooocus_scheme" => Some((MarkKind::GenerationParameters, Some("Fooocus".to_owned()))),
        "sui_image_params" => Some((MarkKind::GenerationParameters, Some("SwarmUI".to_owned()))),
        _ => free_text(text),
    }
}

/// A node graph: an object of nodes that each name a `class_type` (the form that is run), or
/// one with a `nodes` list (the form that is edited).
fn graph(text: &str) -> Option<Found> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let object = value.as_object()?;
    let runnable = object.values().any(|node| node.get("class_type").is_some());
    let editable = object.get("nodes").is_some_and(serde_json::Value::is_array);
    (runnable || editable).then(|| (MarkKind::Workflow, Some("ComfyUI".to_owned())))
}

/// Free text: generation parameters in one of the known shapes, or a tool's name.
fn free_text(text: &str) -> Option<Found> {
    infotext(text)
        .or_else(|| json_parameters(text))
        .or_else(|| tool_name(text))
}

/// The text form that started with the AUTOMATIC1111 web UI: a last line of `Steps: N` and
/// further `key: value` pairs.
fn infotext(text: &str) -> Option<Found> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.trim_start().starts_with("Steps: "))?;
    let value = |key: &str| {
        line.split(", ")
            .find_map(|pair| pair.trim().strip_prefix(key)?.strip_prefix(": "))
    };
    value("Steps")?.parse::<u32>().ok()?;
    if value("Sampler").is_none() && value("Seed").is_none() {
        return None;
    }
    let model = value("Model").map(|model| printable(model, 80));
    Some((MarkKind::GenerationParameters, model))
}

/// Parameters as a JSON object with a prompt or steps beside a seed.
fn json_parameters(text: &str) -> Option<Found> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let object = value.as_object()?;
    if object.contains_key("sui_image_params") {
        return Some((MarkKind::GenerationParameters, Some("SwarmUI".to_owned())));
    }
    let has = |key: &str| object.contains_key(key);
    let seeded = has("seed") && (has("steps") || has("prompt") || has("sampler"));
    let model = object.get("model").and_then(|model| model.as_str());
    seeded.then(|| {
        (
            MarkKind::GenerationParameters,
            model.map(|model| printable(model, 80)),
        )
    })
}

fn tool_name(text: &str) -> Option<Found> {
    // A name stands near the start of such fields; a long description that only mentions a
    // tool is not a claim to be made by it.
    let start: String = text.chars().take(QUOTE_CHARACTERS_MAX).collect();
    let start = start.to_lowercase();
    let (_, name) = TOOLS.iter().find(|(needle, _)| start.contains(needle))?;
    Some((MarkKind::SoftwareName, Some((*name).to_owned())))
}

/// The last part of a digital source type URI, if it names an algorithm.
fn source_type(value: &str) -> Option<&'static str> {
    let last = value.trim().rsplit(['/', ':']).next()?;
    ALGORITHMIC_SOURCES
        .into_iter()
        .find(|source| *source == last)
}
