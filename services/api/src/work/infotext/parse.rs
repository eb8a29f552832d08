//! Reading the text again, whoever wrote it.

/// Most settings that are read from one text.
const SETTINGS_MAX: usize = 200;
/// A last line with fewer settings belongs to the prompt.
const SETTINGS_MIN: usize = 3;

/// The parts of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) prompt: String,
    pub(crate) negative_prompt: String,
    /// Names and values in the order of the text.
    pub(crate) settings: Vec<(String, String)>,
}

/// Reads a text. Whatever is not recognised stays in the prompt.
pub(crate) fn parse(text: &str) -> Parsed {
    const NEGATIVE: &str = "Negative prompt:";
    let mut lines: Vec<&str> = text.trim().lines().collect();
    let mut settings = Vec::new();
    if let Some(last) = lines.last() {
        let found = parse_settings(last);
        if found.len() >= SETTINGS_MIN {
            settings = found;
            lines.pop();
        }
    }
    let start = lines.iter().position(|line| line.starts_with(NEGATIVE));
    let (prompt, negative) = lines.split_at(start.unwrap_or(lines.len()));
    let negative = negative.join("\n");
    let negative = negative.strip_prefix(NEGATIVE).unwrap_or_default();
    Parsed {
        prompt: prompt.join("\n").trim().to_owned(),
        negative_prompt: negative.trim().to_owned(),
        settings,
    }
}

/// `Name: value` pairs between commas; a value may be a JSON string.
fn parse_settings(line: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut rest = line.trim();
    while settings.len() < SETTINGS_MAX {
        let Some((name, after)) = rest.split_once(':') else {
            break;
        };
        let after = after.trim_start();
        let (value, next) = match quoted(after) {
            Some(found) => found,
            None => {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        settings.push((name.trim().to_owned(), value));
        rest = next.trim_start().trim_start_matches(',').trim_start();
    }
    settings
}

/// A JSON string at the start of a text, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    if !text.starts_with('"') {
        return None;
    }
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_settings_is_all_prompt() {
        let parsed = parse("a red heart: large, on white");
        assert_eq!(parsed.prompt, "a red heart: large, on white");
        assert!(parsed.settings.is_empty());
        assert_eq!(parse("").prompt, "");
    }

    #[test]
    fn hostile_texts_end() {
        for text in [
            ":",
            "a:\"",
            "a:\"b",
            "::::,,,,",
            "a: b, \u{0}: \"\\u",
            "é:é,é:é,é:é",
        ] {
            let _ = parse(text);
        }
        assert!(parse(&"a: b, ".repeat(10_000)).settings.len() <= SETTINGS_MAX);
    }
}
