//! Text under signature lines, by C2SP signed-note.

use std::fmt;

use crate::ProvenanceError;
use crate::encoding::{base64_decode, base64_encode, check_length};
use crate::keys::{CheckpointSigner, NamedKey, check_key_name, label};

/// Longest note. Sixteen of the largest known (post-quantum) signatures fit.
pub const NOTE_BYTES_MAX: usize = 128 * 1024;
/// Most signature lines; the specification asks verifiers to accept at least this many.
pub const NOTE_SIGNATURES_MAX: usize = 16;

const WHAT: &str = "signed note";
/// An em dash and a space begin each signature line.
const SIGNATURE_PREFIX: &str = "— ";

/// A text ending in a newline, and one or more signature lines. Parsing does not verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    bytes: Vec<u8>,
}

impl SignedNote {
    /// Signs a text, which must end in a newline and hold no other control characters.
    pub(crate) fn sign(text: String, signer: &CheckpointSigner) -> Result<Self, ProvenanceError> {
        let signature = NoteSignature {
            name: signer.public().name().to_owned(),
            key_id: signer.public().id(),
            bytes: signer.sign(text.as_bytes())?.to_vec(),
        };
        Ok(Self {
            text,
            signatures: vec![signature],
        })
    }

    /// Parses a note without verifying it.
    ///
    /// # Errors
    /// Refuses control characters, missing parts, more than 16 signature lines and every spelling but
    /// the canonical one.
    pub fn parse(note: &str) -> Result<Self, ProvenanceError> {
        check_length(WHAT, note.len(), NOTE_BYTES_MAX)?;
        let malformed = |detail: &str| ProvenanceError::malformed(WHAT, detail);
        if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
            return Err(malformed("control characters are not allowed"));
        }
        // The last empty line separates the text, which may hold empty lines, from the signatures.
        let (text, lines) = note
            .rsplit_once("\n\n")
            .ok_or_else(|| malformed("an empty line must precede the signatures"))?;
        let lines = lines
            .strip_suffix('\n')
            .ok_or_else(|| malformed("the last line must end in a newline"))?;
        let lines: Vec<&str> = lines.split('\n').collect();
        if lines.len() > NOTE_SIGNATURES_MAX {
            return Err(malformed("more than 16 signature lines"));
        }
        let signatures = lines
            .into_iter()
            .map(NoteSignature::parse)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: format!("{text}\n"),
            signatures,
        })
    }

    /// The text, with its final newline and without the signatures. Not to be believed before
    /// [`SignedNote::verify`].
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The signatures of the lines with this name and id.
    pub(crate) fn signatures_of<'a>(
        &'a self,
        name: &'a str,
        key_id: [u8; 4],
    ) -> impl Iterator<Item = &'a [u8]> {
        self.signatures
            .iter()
            .filter(move |signature| signature.name == name && signature.key_id == key_id)
            .map(|signature| &signature.bytes[..])
    }

    /// The signatures of this key.
    pub(crate) fn signatures_of_key<'a>(
        &'a self,
        key: &'a NamedKey,
    ) -> impl Iterator<Item = &'a [u8]> {
        self.signatures_of(key.name(), key.id())
    }

    /// The ids of the lines with this name.
    pub(crate) fn ids_of(&self, name: &str) -> impl Iterator<Item = [u8; 4]> {
        let named = self.signatures.iter().filter(move |line| line.name == name);
        named.map(|line| line.key_id)
    }

    /// Whose lines there are, as `name+id`.
    pub(crate) fn signers(&self) -> Vec<String> {
        let lines = self.signatures.iter();
        lines.map(|line| label(&line.name, line.key_id)).collect()
    }

    /// Whether the lines are of these keys alone, in their order, at most one of each.
    pub(crate) fn is_signed_in_order<'a>(
        &self,
        mut keys: impl Iterator<Item = &'a NamedKey>,
    ) -> bool {
        let mut lines = self.signatures.iter();
        lines.all(|line| keys.any(|key| key.name() == line.name && key.id() == line.key_id))
    }

    /// Signs the same text with another key as well, on a line below.
    pub(crate) fn sign_also(&mut self, signer: &CheckpointSigner) -> Result<(), ProvenanceError> {
        let bytes = signer.sign(self.text.as_bytes())?;
        let key = signer.public();
        self.add_line(&signature_line(key.name(), key.id(), &bytes))
    }

    /// Adds a signature line, as others write it, below those that are there.
    pub(crate) fn add_line(&mut self, line: &str) -> Result<(), ProvenanceError> {
        if self.signatures.len() == NOTE_SIGNATURES_MAX {
            return Err(ProvenanceError::malformed(
                WHAT,
                "more than 16 signature lines",
            ));
        }
        self.signatures.push(NoteSignature::parse(line)?);
        Ok(())
    }

    /// The note with the lines of this name alone.
    pub(crate) fn with_lines_of(&self, name: &str) -> Self {
        let mut own = self.clone();
        own.signatures.retain(|line| line.name == name);
        own
    }

    /// How many signature lines the note has.
    pub fn signature_count(&self) -> usize {
        self.signatures.len()
    }

    /// Verifies that the key has signed the text. Lines of other keys are ignored, as the
    /// specification demands; every line of this key must verify.
    pub(crate) fn verify(&self, key: &NamedKey) -> Result<(), ProvenanceError> {
        let mut found_any = false;
        for signature in &self.signatures {
            if signature.name == key.name() && signature.key_id == key.id() {
                key.verify(self.text.as_bytes(), &signature.bytes)?;
                found_any = true;
            }
        }
        if found_any {
            return Ok(());
        }
        let (expected, found) = (key.label(), self.signers().join(", "));
        match self.ids_of(key.name()).next() {
            Some(_) => Err(ProvenanceError::CheckpointKeyUnseen { expected, found }),
            None => Err(ProvenanceError::UnknownKey { expected, found }),
        }
    }
}

/// A signature line, without its newline.
pub(crate) fn signature_line(name: &str, key_id: [u8; 4], bytes: &[u8]) -> String {
    let encoded = base64_encode(&[&key_id[..], bytes].concat());
    format!("{SIGNATURE_PREFIX}{name} {encoded}")
}

impl NoteSignature {
    fn parse(line: &str) -> Result<Self, ProvenanceError> {
        let malformed = |detail: &str| ProvenanceError::malformed(WHAT, detail);
        let (name, encoded) = line
            .strip_prefix(SIGNATURE_PREFIX)
            .and_then(|rest| rest.split_once(' '))
            .ok_or_else(|| malformed("a signature line is an em dash, a name and a signature"))?;
        check_key_name(name)?;
        let bytes = base64_decode(WHAT, encoded)?;
        let (key_id, signature) = bytes
            .split_first_chunk::<4>()
            .filter(|(_, signature)| !signature.is_empty())
            .ok_or_else(|| malformed("a signature is a 4-byte key id and at least one byte"))?;
        Ok(Self {
            name: name.to_owned(),
            key_id: *key_id,
            bytes: signature.to_vec(),
        })
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.text)?;
        for signature in &self.signatures {
            let line = signature_line(&signature.name, signature.key_id, &signature.bytes);
            writeln!(formatter, "{line}")?;
        }
        Ok(())
    }
}
