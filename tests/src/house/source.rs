//! Rust sources as the rules see them: tokens without comments and strings, with and without test modules.

/// A word, a path separator, or any other single character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The characters of the token.
    pub text: String,
    /// 1-based line.
    pub line: usize,
}

/// The tokens of a source. Comments vanish; a string or character literal becomes the token `""`.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader {
        characters: source.chars().collect(),
        place: 0,
        line: 1,
        found: Vec::new(),
    };
    while reader.place < reader.characters.len() {
        reader.next();
    }
    reader.found
}

struct Reader {
    characters: Vec<char>,
    place: usize,
    line: usize,
    found: Vec<Token>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.characters
            .get(self.place + ahead)
            .copied()
            .unwrap_or('\0')
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0) == '\n' {
                self.line += 1;
            }
            self.place += 1;
        }
    }

    fn push(&mut self, text: impl Into<String>) {
        self.found.push(Token {
            text: text.into(),
            line: self.line,
        });
    }

    fn next(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.line_comment(),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('r', '"' | '#') if self.raw_string_starts(1) => self.raw_string(1),
            ('b', 'r') if self.raw_string_starts(2) => self.raw_string(2),
            ('\'', _) => self.quote(),
            (':', ':') => {
                self.push("::");
                self.skip(2);
            }
            (first, _) if first.is_alphanumeric() || first == '_' => self.word(),
            (first, _) if first.is_whitespace() => self.skip(1),
            (first, _) => {
                self.push(first);
                self.skip(1);
            }
        }
    }

    fn line_comment(&mut self) {
        while self.place < self.characters.len() && self.peek(0) != '\n' {
            self.skip(1);
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        while self.place < self.characters.len() {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => {
                    depth += 1;
                    self.skip(2);
                }
                ('*', '/') => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.skip(1),
            }
        }
    }

    fn string(&mut self) {
        self.push("\"\"");
        self.skip(1);
        while self.place < self.characters.len() && self.peek(0) != '"' {
            self.skip(if self.peek(0) == '\\' { 2 } else { 1 });
        }
        self.skip(1);
    }

    /// Whether `r` and any hashes, `prefix` characters from here, begin a raw string (not a raw identifier).
    fn raw_string_starts(&self, prefix: usize) -> bool {
        let hashes = (0..)
            .take_while(|&ahead| self.peek(prefix + ahead) == '#')
            .count();
        self.peek(prefix + hashes) == '"'
    }

    fn raw_string(&mut self, prefix: usize) {
        self.push("\"\"");
        let hashes = (0..)
            .take_while(|&ahead| self.peek(prefix + ahead) == '#')
            .count();
        self.skip(prefix + hashes + 1);
        while self.place < self.characters.len() {
            let ends = self.peek(0) == '"' && (1..=hashes).all(|ahead| self.peek(ahead) == '#');
            self.skip(if ends { 1 + hashes } else { 1 });
            if ends {
                return;
            }
        }
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) {
        if self.peek(1) == '\\' {
            self.push("\"\"");
            self.skip(3);
            while self.place < self.characters.len() && self.peek(0) != '\'' {
                self.skip(1);
            }
            self.skip(1);
        } else if self.peek(2) == '\'' {
            self.push("\"\"");
            self.skip(3);
        } else {
            self.push("'");
            self.skip(1);
        }
    }

    fn word(&mut self) {
        let start = self.place;
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            self.place += 1;
        }
        let text: String = self.characters[start..self.place].iter().collect();
        self.push(text);
    }
}

/// The half-open ranges of lines (1-based) that `#[cfg(test)]` takes out of the product: a module with its body, or
/// any other item up to its end.
pub fn test_lines(source: &str) -> Vec<std::ops::Range<usize>> {
    let tokens = tokens(source);
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut ranges = Vec::new();
    let mut place = 0;
    while place + marker.len() <= tokens.len() {
        let here = &tokens[place..place + marker.len()];
        if here.iter().map(|token| token.text.as_str()).eq(marker) {
            let end = item_end(&tokens, place + marker.len());
            let last = tokens.get(end).map_or(usize::MAX - 1, |token| token.line);
            ranges.push(tokens[place].line..last + 1);
            place = end;
        }
        place += 1;
    }
    ranges
}

/// The index of the token that ends the item starting at `start`: its `;`, or the `}` that closes its body.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            ";" if depth == 0 => return index,
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// The tokens that are part of the product: those outside `#[cfg(test)]`.
pub fn product_tokens(source: &str) -> Vec<Token> {
    let tests = test_lines(source);
    tokens(source)
        .into_iter()
        .filter(|token| !tests.iter().any(|range| range.contains(&token.line)))
        .collect()
}

/// The paths that a source names: `a::b::c`, with the groups of `use` declarations written out. Each comes with the
/// line on which it starts.
pub fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        if tokens[place].text == "use" {
            let end = (place..tokens.len())
                .find(|&index| tokens[index].text == ";")
                .unwrap_or(tokens.len());
            expand(&tokens[place + 1..end], &[], &mut found);
            place = end;
        } else if is_word(&tokens[place]) {
            let (path, next) = straight(tokens, place);
            found.push((tokens[place].line, path));
            place = next;
        } else {
            place += 1;
        }
    }
    found
}

fn is_word(token: &Token) -> bool {
    token
        .text
        .starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// The path of words joined by `::` that starts at `place`, and the index after it.
fn straight(tokens: &[Token], place: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[place].text.clone()];
    let mut next = place + 1;
    while next + 1 < tokens.len() && tokens[next].text == "::" && is_word(&tokens[next + 1]) {
        path.push(tokens[next + 1].text.clone());
        next += 2;
    }
    (path, next)
}

/// Writes out one `use` tree below `prefix`.
fn expand(tokens: &[Token], prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) {
    let mut branches: Vec<&[Token]> = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "," if depth == 0 => {
                branches.push(&tokens[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    branches.push(&tokens[start..]);
    for branch in branches.into_iter().filter(|branch| !branch.is_empty()) {
        let group = branch.iter().position(|token| token.text == "{");
        let mut path = prefix.to_vec();
        let head = &branch[..group.unwrap_or(branch.len())];
        let words = head
            .iter()
            .take_while(|token| token.text != "as")
            .filter(|token| is_word(token));
        path.extend(words.map(|token| token.text.clone()));
        match group {
            Some(open) => expand(&branch[open + 1..branch.len() - 1], &path, found),
            None => found.push((branch[0].line, path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str) -> Vec<String> {
        paths(&product_tokens(source))
            .into_iter()
            .map(|(_, path)| path.join("::"))
            .collect()
    }

    #[test]
    fn comments_and_strings_hold_no_paths() {
        let source = "// std::fs\n/* std::env /* nested */ std::net */ let a = \"std::fs \\\" std::io\"; let c = 'x'; let l: &'static str = r#\"std::env\"#;";
        assert!(
            names(source).iter().all(|name| !name.contains("::")),
            "{:?}",
            names(source)
        );
    }

    #[test]
    fn groups_of_a_use_declaration_are_written_out() {
        let found = names("use std::{env, fs::{self, File}, io::Read as _};");
        assert_eq!(
            found,
            [
                "std::env",
                "std::fs::self",
                "std::fs::File",
                "std::io::Read"
            ]
        );
    }

    #[test]
    fn test_modules_are_no_part_of_the_product() {
        let source = "fn a() { std::iter::once(1); }\n#[cfg(test)]\nmod tests {\n  fn b() { std::fs::read(\"x\"); }\n}\nfn c() {}\n";
        assert_eq!(test_lines(source).first(), Some(&(2..6)));
        assert!(names(source).contains(&"c".to_owned()));
        assert!(!names(source).contains(&"std::fs::read".to_owned()));
    }
}
