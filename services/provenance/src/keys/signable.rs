//! What a message says that a key is asked to sign: for whoever signs what others have written.

use std::fmt;

use super::Purpose;
use crate::entry::key_statements;
use crate::envelope::{PAYLOAD_TYPE, pre_authenticated};
use crate::export::MANIFEST_PAYLOAD_TYPE;
use crate::{Entry, ExportManifest, ProvenanceError};

/// A message that was read, and that a key of this purpose may sign.
pub struct Signable<P: Purpose> {
    message: Vec<u8>,
    matter: P::Matter,
}

/// What the entry key signs.
#[derive(Clone, Debug, PartialEq)]
pub enum EntryMatter {
    /// An entry, in the encoding of its envelope (PAE of DSSE).
    Entry(Box<Entry>),
    /// The manifest of an export, in the same encoding under a type of its own.
    Export(Box<ExportManifest>),
    /// That somebody holds a key which is to follow another one.
    Possession {
        /// The key that signs until then, as `name+id`.
        old_key: String,
        /// The key that follows, as a C2SP verifier key.
        new_key: String,
    },
}

impl<P: Purpose> Signable<P> {
    /// Reads a message.
    ///
    /// # Errors
    /// Refuses whatever a key of this purpose never signs.
    pub fn parse(message: Vec<u8>) -> Result<Self, ProvenanceError> {
        let matter = P::read(&message)?;
        Ok(Self { message, matter })
    }

    /// What it says.
    pub fn matter(&self) -> &P::Matter {
        &self.matter
    }

    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }
}

impl<P: Purpose<Matter: fmt::Debug>> fmt::Debug for Signable<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Signable({:?})", self.matter)
    }
}

impl EntryMatter {
    pub(super) fn parse(message: &[u8]) -> Result<Self, ProvenanceError> {
        const WHAT: &str = "message to sign";
        if let Some((old_key, new_key)) = key_statements::possession_of(message) {
            return Ok(Self::Possession { old_key, new_key });
        }
        match pre_authenticated(message) {
            Some((PAYLOAD_TYPE, payload)) => Ok(Self::Entry(Box::new(Entry::parse(payload)?))),
            Some((MANIFEST_PAYLOAD_TYPE, payload)) => {
                Ok(Self::Export(Box::new(ExportManifest::parse(payload)?)))
            }
            Some((other, _)) => Err(ProvenanceError::UnknownPayloadType {
                found: other.chars().take(super::KEY_NAME_BYTES_MAX).collect(),
            }),
            None => Err(ProvenanceError::malformed(
                WHAT,
                "it is neither an entry nor the manifest of an export",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::pre_authentication_encoding;
    use crate::keys::{Checkpoints, Entries};
    use crate::{EntrySigner, Envelope, KeyRequest, KeySuccessionEntry};

    const ORIGIN: &str = "retrace.test/log";

    fn succession() -> Entry {
        let signer = |seed: u8| EntrySigner::from_seed(ORIGIN, [seed; 32]).unwrap();
        let request = KeyRequest {
            request_id: "1".to_owned(),
            created_at_ms: 1,
            client: "operator".to_owned(),
        };
        let statement = KeySuccessionEntry::new(request, &signer(1).verifier(), &signer(2));
        Entry::KeySuccession(statement.unwrap())
    }

    #[test]
    fn what_the_entry_key_signs_is_read_back_and_signed_to_the_same_envelope() {
        let signer = EntrySigner::from_seed(ORIGIN, [1; 32]).unwrap();
        let entry = succession();
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &entry.to_bytes());
        let signable = Signable::<Entries>::parse(message).unwrap();
        assert_eq!(
            signable.matter(),
            &EntryMatter::Entry(Box::new(entry.clone()))
        );
        let signatures = signer.sign_read(&[signable]).unwrap();
        let envelope = Envelope::sign(&entry, &signer).unwrap();
        let text = String::from_utf8(envelope.to_bytes()).unwrap();
        assert!(text.contains(&crate::encoding::base64_encode(&signatures[0])));
    }

    #[test]
    fn a_key_signs_nothing_that_belongs_to_another_purpose() {
        let checkpoint = b"retrace.test/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
        assert!(Signable::<Checkpoints>::parse(checkpoint.to_vec()).is_ok());
        assert!(Signable::<Entries>::parse(checkpoint.to_vec()).is_err());
        let entry = succession();
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &entry.to_bytes());
        assert!(Signable::<Checkpoints>::parse(message).is_err());
        let possession = b"retrace-key-possession@v1\na\nb\n".to_vec();
        assert!(Signable::<Entries>::parse(possession.clone()).is_ok());
        assert!(Signable::<Checkpoints>::parse(possession).is_err());
    }

    #[test]
    fn every_other_spelling_of_a_message_is_refused() {
        let payload = succession().to_bytes();
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &payload);
        let text = String::from_utf8(message.clone()).unwrap();
        let refused = [
            String::new(),
            " ".repeat(9),
            text.replacen("DSSEv1", "DSSEv2", 1),
            text.replacen("DSSEv1 ", "DSSEv1 0", 1),
            text.replacen("DSSEv1 ", "DSSEv1  ", 1),
            format!("{text} "),
            text[..text.len() - 1].to_owned(),
            text.replacen("retrace.entry", "retrace.other", 1),
            String::from_utf8(payload).unwrap(),
        ];
        for other in refused {
            let read = Signable::<Entries>::parse(other.clone().into_bytes());
            assert!(read.is_err(), "{other}");
        }
        for place in (0..message.len()).step_by(7) {
            let mut changed = message.clone();
            changed[place] ^= 1;
            // Another text inside a field is another entry, and no other bytes are.
            if let Ok(read) = Signable::<Entries>::parse(changed.clone()) {
                let EntryMatter::Entry(entry) = read.matter() else {
                    panic!("an entry became something else");
                };
                let again = pre_authentication_encoding(PAYLOAD_TYPE, &entry.to_bytes());
                assert_eq!(again, changed);
            }
        }
    }
}
