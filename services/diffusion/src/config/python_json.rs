//! JSON as Python writes it.

/// Replaces the bare words that Python's JSON writer uses for non-finite numbers by `null`, outside
/// of strings.
pub(super) fn null_for_python_words(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        if in_string {
            let escaped = if character == '\\' {
                rest.chars().nth(1).map_or(0, char::len_utf8)
            } else {
                0
            };
            in_string = character != '"';
            let taken = character.len_utf8() + escaped;
            out.push_str(&rest[..taken]);
            rest = &rest[taken..];
            continue;
        }
        let word = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|word| rest.starts_with(word));
        if let Some(word) = word {
            out.push_str("null");
            rest = &rest[word.len()..];
        } else {
            in_string = character == '"';
            out.push(character);
            rest = &rest[character.len_utf8()..];
        }
    }
    out
}
