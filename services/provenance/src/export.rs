//! Exports: the entries that met a search, one a line, and a last line that signs for all of them.
//!
//! An export is written and read as a stream: nothing in it needs to be known before the entries have
//! passed. The last line, the *manifest*, states the search, how many rows there are, the digest of all
//! bytes before it, and the checkpoint under which the search was made. It is a DSSE envelope of the
//! entry key with a payload type of its own, so no signature over a manifest can pass for one over an
//! entry.
//!
//! - NDJSON: `{"leaf_index":7,"leaf_hash":"…","statement":{…},"envelope":{…}}`, and at the end
//!   `{"manifest":{…}}`. Every row carries its own signature.
//! - CSV (RFC 4180): a line of names, the rows, and at the end `# manifest {…}`. Text that a
//!   spreadsheet would take for a formula stands behind an apostrophe.

mod rows;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use rows::{CSV_HEADER, csv_row, ndjson_row};

use crate::encoding::{
    base64_decode, base64_encode, canonical_json, check_length, parse_canonical_json,
};
use crate::envelope::pre_authentication_encoding;
use crate::{
    Digest, EntrySigner, EntryVerifier, Envelope, LeafIndex, ProvenanceError, SignedCheckpoint,
};

/// The payload type of every manifest.
pub const MANIFEST_PAYLOAD_TYPE: &str = "application/vnd.retrace.export+json";
/// The name and version of the format.
pub const EXPORT_FORMAT: &str = "retrace-export@v1";
/// Longest signed manifest.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// What begins the last line of a CSV export.
pub const CSV_MANIFEST_PREFIX: &str = "# manifest ";
/// What begins the last line of an NDJSON export; a closing brace ends it.
pub const NDJSON_MANIFEST_PREFIX: &str = "{\"manifest\":";

const WHAT: &str = "export manifest";
/// Every Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExportEncoding {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values.
    Csv,
    /// Columns of Apache Parquet, with the manifest in the file's own metadata.
    Parquet,
}

/// How the rows of an export in lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEncoding {
    /// One JSON object a line.
    Ndjson,
    /// Comma-separated values.
    Csv,
}

impl From<LineEncoding> for ExportEncoding {
    fn from(encoding: LineEncoding) -> Self {
        match encoding {
            LineEncoding::Ndjson => Self::Ndjson,
            LineEncoding::Csv => Self::Csv,
        }
    }
}

/// What the service says about an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExportManifest {
    /// [`EXPORT_FORMAT`].
    pub format: String,
    /// How the rows are written.
    pub encoding: ExportEncoding,
    /// The conditions of the search, as the interface spells them; none for the whole log.
    pub filter: BTreeMap<String, String>,
    /// How many entries there are.
    pub rows: u64,
    /// Place of the first of them.
    pub first_index: Option<LeafIndex>,
    /// Place of the last of them.
    pub last_index: Option<LeafIndex>,
    /// How many bytes stand before the manifest, or around it in a file of columns.
    pub bytes: u64,
    /// The digest of these bytes.
    pub sha256: Digest,
    /// The checkpoint that the export is complete for: a signed note.
    pub checkpoint: String,
}

impl ExportManifest {
    /// Parses the canonical bytes that are signed.
    ///
    /// # Errors
    /// Refuses another format and every other spelling.
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, ProvenanceError> {
        check_length(WHAT, payload.len(), MANIFEST_BYTES_MAX)?;
        let manifest: Self = parse_canonical_json(WHAT, payload)?;
        if manifest.format != EXPORT_FORMAT {
            let detail = format!("unknown format {:?}", manifest.format);
            return Err(ProvenanceError::malformed(WHAT, detail));
        }
        Ok(manifest)
    }
}

/// A manifest under the signature of the entry key. Parsing does not verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    payload: Vec<u8>,
    key_id: String,
    signature: Vec<u8>,
}

/// The canonical JSON of a signed manifest, fields in the order of the DSSE specification.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: [WireSignature; 1],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

impl SignedManifest {
    /// Signs a manifest.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn sign(manifest: &ExportManifest, signer: &EntrySigner) -> Result<Self, ProvenanceError> {
        let payload = canonical_json(manifest);
        let message = pre_authentication_encoding(MANIFEST_PAYLOAD_TYPE, &payload);
        Ok(Self {
            signature: signer.sign(&message)?.to_vec(),
            key_id: signer.public().label(),
            payload,
        })
    }

    /// How long the canonical bytes of a manifest will be once this signer has signed it.
    pub fn length(manifest: &ExportManifest, signer: &EntrySigner) -> usize {
        let unsigned = Self {
            payload: canonical_json(manifest),
            key_id: signer.public().label(),
            signature: vec![0; SIGNATURE_BYTES],
        };
        unsigned.to_bytes().len()
    }

    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical_json(&Wire {
            payload: base64_encode(&self.payload),
            payload_type: MANIFEST_PAYLOAD_TYPE.to_owned(),
            signatures: [WireSignature {
                keyid: self.key_id.clone(),
                sig: base64_encode(&self.signature),
            }],
        })
    }

    /// Parses canonical bytes, without verifying the signature.
    ///
    /// # Errors
    /// Refuses another payload type, more or fewer than one signature, and every spelling but the
    /// canonical one.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProvenanceError> {
        check_length(WHAT, bytes.len(), MANIFEST_BYTES_MAX)?;
        let wire: Wire = parse_canonical_json(WHAT, bytes)?;
        if wire.payload_type != MANIFEST_PAYLOAD_TYPE {
            return Err(ProvenanceError::UnknownPayloadType {
                found: wire.payload_type,
            });
        }
        let [WireSignature { keyid, sig }] = wire.signatures;
        Ok(Self {
            payload: base64_decode(WHAT, &wire.payload)?,
            key_id: keyid,
            signature: base64_decode(WHAT, &sig)?,
        })
    }

    /// The key that the manifest names, as `name+id`.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Verifies the signature and parses the manifest.
    ///
    /// # Errors
    /// Refuses another key's signature, a signature that does not verify, another format, and a payload
    /// that is not a manifest's canonical bytes.
    pub fn verify(&self, verifier: &EntryVerifier) -> Result<ExportManifest, ProvenanceError> {
        let key = verifier.key();
        if self.key_id != key.label() {
            return Err(ProvenanceError::UnknownKey {
                expected: key.label(),
                found: self.key_id.clone(),
            });
        }
        let message = pre_authentication_encoding(MANIFEST_PAYLOAD_TYPE, &self.payload);
        key.verify(&message, &self.signature)?;
        ExportManifest::parse(&self.payload)
    }
}

/// What a manifest says of an export under way: counts its rows and hashes its bytes.
#[derive(Clone, Debug)]
pub struct ExportTally {
    hasher: Sha256,
    manifest: ExportManifest,
}

impl ExportTally {
    /// Begins an export of what met this search under this checkpoint.
    pub fn new(
        encoding: ExportEncoding,
        filter: BTreeMap<String, String>,
        checkpoint: &SignedCheckpoint,
    ) -> Self {
        Self {
            hasher: Sha256::new(),
            manifest: ExportManifest {
                format: EXPORT_FORMAT.to_owned(),
                encoding,
                filter,
                rows: 0,
                first_index: None,
                last_index: None,
                bytes: 0,
                sha256: Digest::of(b""),
                checkpoint: checkpoint.text(),
            },
        }
    }

    /// Counts the row of this entry, which must be behind those before.
    pub fn row(&mut self, leaf_index: LeafIndex) {
        self.manifest.rows += 1;
        self.manifest.first_index.get_or_insert(leaf_index);
        self.manifest.last_index = Some(leaf_index);
    }

    /// Counts and hashes the next bytes of the export.
    pub fn count(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.manifest.bytes += bytes.len() as u64;
    }

    /// The manifest over everything that was counted.
    pub fn finish(self) -> ExportManifest {
        ExportManifest {
            sha256: Digest::from_bytes(self.hasher.finalize().into()),
            ..self.manifest
        }
    }
}

/// Writes an export in lines, row by row, in constant memory.
#[derive(Clone, Debug)]
pub struct ExportWriter {
    encoding: LineEncoding,
    tally: ExportTally,
}

impl ExportWriter {
    /// Begins an export of what met this search under this checkpoint.
    pub fn new(
        encoding: LineEncoding,
        filter: BTreeMap<String, String>,
        checkpoint: &SignedCheckpoint,
    ) -> Self {
        Self {
            encoding,
            tally: ExportTally::new(encoding.into(), filter, checkpoint),
        }
    }

    /// What stands before the first row, to be written once.
    pub fn begin(&mut self) -> Vec<u8> {
        let header = match self.encoding {
            LineEncoding::Ndjson => Vec::new(),
            LineEncoding::Csv => CSV_HEADER.as_bytes().to_vec(),
        };
        self.tally.count(&header);
        header
    }

    /// Adds a row to the bytes that are about to be sent.
    ///
    /// # Errors
    /// Refuses an envelope whose statement cannot be read.
    pub fn row(
        &mut self,
        leaf_index: LeafIndex,
        envelope: &Envelope,
        bytes: &mut Vec<u8>,
    ) -> Result<(), ProvenanceError> {
        let row = match self.encoding {
            LineEncoding::Ndjson => ndjson_row(leaf_index, envelope),
            LineEncoding::Csv => csv_row(leaf_index, envelope)?,
        };
        self.tally.count(&row);
        self.tally.row(leaf_index);
        bytes.extend_from_slice(&row);
        Ok(())
    }

    /// The last line.
    ///
    /// # Errors
    /// When the signer fails.
    pub fn finish(self, signer: &EntrySigner) -> Result<Vec<u8>, ProvenanceError> {
        let signed = SignedManifest::sign(&self.tally.finish(), signer)?.to_bytes();
        Ok(match self.encoding {
            LineEncoding::Ndjson => [NDJSON_MANIFEST_PREFIX.as_bytes(), &signed, b"}\n"].concat(),
            LineEncoding::Csv => [CSV_MANIFEST_PREFIX.as_bytes(), &signed, b"\r\n"].concat(),
        })
    }
}

/// The manifest in the last line of an export; none in a line that is not one.
pub fn manifest_in(line: &[u8]) -> Option<&[u8]> {
    let ndjson = line
        .strip_prefix(NDJSON_MANIFEST_PREFIX.as_bytes())
        .and_then(|rest| rest.strip_suffix(b"}\n"));
    ndjson.or_else(|| {
        line.strip_prefix(CSV_MANIFEST_PREFIX.as_bytes())?
            .strip_suffix(b"\r\n")
    })
}

#[cfg(test)]
mod tests;
