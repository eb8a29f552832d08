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
    /// The label that Chinese law asks of generated content (GB 45438-2025, `AIGC`).
    AigcLabel,
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
        // They are no text that anybody can write: their signature is checked elsewhere.
        Place::ContentCredentials => return None,
        Place::PngText(keyword) => png_text(keyword, &item.value)?,
        Place::Exif(tag) => exif(tag, &item.value)?,
        Place::Xmp(property) => xmp(property, &item.value)?,
        // A byline names a person, and a person may be called anything.
        Place::Iptc(dataset) if dataset == "Byline" => return None,
        Place::Iptc(_) => tool_name(&item.value)?,
        Place::JpegComment => parameters(&item.value)?,
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
    let parameters_of = |tool: &str| {
        let found = (MarkKind::GenerationParameters, Some(tool.to_owned()));
        (!text.trim().is_empty()).then_some(found)
    };
    match keyword {
        "Software" if text.starts_with("Retrace") => {
            Some((MarkKind::RetraceText, Some("Retrace".to_owned())))
        }
        "Software" | "Source" | "Creator" | "generator" => {
            parameters(text).or_else(|| tool_name(text))
        }
        "prompt" | "workflow" => graph(text).or_else(|| parameters(text)),
        "invokeai_metadata" | "sd-metadata" | "invokeai_graph" | "Dream" => {
            parameters_of("InvokeAI")
        }
        "fooocus_scheme" => parameters_of("Fooocus"),
        "sui_image_params" => parameters_of("SwarmUI"),
        "use_stable_diffusion_model" => parameters_of("Easy Diffusion"),
        "Description" if names_a_job(text) => parameters_of("Midjourney"),
        "AIGC" => aigc_label(text),
        _ => parameters(text),
    }
}

/// EXIF tags: ComfyUI writes its graphs behind a word of their own into the tags of cameras; programs
/// name themselves in three tags; everything else is free text of people.
fn exif(tag: &str, text: &str) -> Option<Found> {
    let behind_word = ["prompt:", "workflow:"]
        .into_iter()
        .find_map(|word| text.strip_prefix(word));
    match tag {
        "Make" | "Model" | "ImageDescription" if behind_word.is_some() => graph(behind_word?),
        "Software" | "Make" | "Model" => parameters(text).or_else(|| tool_name(text)),
        _ => parameters(text).or_else(|| aigc_label(text)),
    }
}

fn xmp(property: &str, text: &str) -> Option<Found> {
    match property {
        "DigitalSourceType" => {
            let source = source_type(text)?;
            Some((MarkKind::DigitalSourceType, Some(source.to_owned())))
        }
        // IPTC Photo Metadata 2025: whatever stands there is an AI system.
        "AISystemUsed" => Some((MarkKind::SoftwareName, Some(printable(text, 80)))),
        "AISystemVersionUsed" => None,
        "AIGC" => aigc_label(text),
        "UserComment" => parameters(text),
        _ => tool_name(text),
    }
}

/// A Midjourney description ends in the identifier of its job.
fn names_a_job(text: &str) -> bool {
    let Some((_, job)) = text.rsplit_once("Job ID: ") else {
        return false;
    };
    let job = job.trim();
    let place = |(n, byte): (usize, u8)| match n {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    job.len() == 36 && job.bytes().enumerate().all(place)
}

/// The label as JSON, alone or under its name. Its values 1 to 3 say generated, possibly generated and
/// suspected to be.
fn aigc_label(text: &str) -> Option<Found> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let label = value.get("AIGC").unwrap_or(&value);
    let stated = label.get("Label")?;
    let stated = stated
        .as_str()
        .map_or_else(|| stated.to_string(), str::to_owned);
    if !matches!(stated.as_str(), "1" | "2" | "3") {
        return None;
    }
    let producer = label.get("ContentProducer").and_then(|name| name.as_str());
    let producer = producer.filter(|name| !name.trim().is_empty());
    Some((
        MarkKind::AigcLabel,
        producer.map(|name| printable(name, 80)),
    ))
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

/// Generation parameters in one of the known shapes. Free text that merely mentions a tool is no
/// claim to be made by it.
fn parameters(text: &str) -> Option<Found> {
    infotext(text).or_else(|| json_parameters(text))
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
    // A name stands near the start of such fields.
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
