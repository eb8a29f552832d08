//! The keys of a signer, and what it signs with them.

use std::sync::{Mutex, PoisonError};

use provenance::keys::{Checkpoints, Entries, EntryMatter, Signable};
use provenance::merkle::TreeHead;
use provenance::{
    CheckpointSigner, CheckpointVerifier, Digest, Entry, EntrySigner, EntryVerifier,
    ProvenanceError, PublicKeys, SignedCheckpoint, TreeSize,
};

use super::wire::{KeyPurpose, MESSAGES_MAX, PROTOCOL, ToldKeys};
use crate::keys::Keys;

/// The keys that a signer holds. Whoever reaches them has signed what the purposes name, and nothing else.
#[derive(Debug)]
pub struct HeldKeys {
    public: PublicKeys,
    current: EntryVerifier,
    entries: Option<EntrySigner>,
    /// The one that has its place first.
    checkpoints: Vec<CheckpointSigner>,
    /// The checkpoint keys of the log, held or not.
    checkpoint_keys: Vec<CheckpointVerifier>,
    /// The largest tree that was signed since the start.
    last: Mutex<Option<TreeHead>>,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerRefusal {
    /// Another signer has this purpose, if any.
    #[error("nothing is signed here for {}", .0.as_str())]
    Purpose(KeyPurpose),
    /// The key is not held here.
    #[error("{asked} is not the key that is held here, which is {held}")]
    Key {
        /// What was asked for.
        asked: String,
        /// The key of that purpose, as `name+id`.
        held: String,
    },
    /// More messages than one request may have.
    #[error("{found} messages are over the limit of {MESSAGES_MAX}")]
    Messages {
        /// How many came.
        found: usize,
    },
    /// A message is not what the purpose names.
    #[error("message {index}: {source}")]
    Matter {
        /// Which of the messages.
        index: usize,
        /// What is wrong with it.
        source: ProvenanceError,
    },
    /// A statement that hands the log to another key.
    #[error("message {index}: that another entry key follows is not signed here")]
    Succession {
        /// Which of the messages.
        index: usize,
    },
    /// A checkpoint of a smaller tree.
    #[error("a tree of {asked} entries is smaller than the {signed} that were signed last")]
    TreeShrank {
        /// The size that was to be signed.
        asked: TreeSize,
        /// The size that was signed.
        signed: TreeSize,
    },
    /// A second history.
    #[error("the root hash {signed} was signed for {size} entries, not {asked}")]
    OtherRoot {
        /// The size.
        size: TreeSize,
        /// The root that was to be signed.
        asked: Digest,
        /// The root that was signed.
        signed: Digest,
    },
    /// Whoever holds the key could not sign.
    #[error(transparent)]
    Failed(ProvenanceError),
}

impl SignerRefusal {
    /// A stable word for scripts.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Purpose(_) => "purpose-not-held",
            Self::Key { .. } => "key-not-held",
            Self::Messages { .. } => "too-many-messages",
            Self::Matter { .. } => "not-signable",
            Self::Succession { .. } => "succession",
            Self::TreeShrank { .. } => "tree-shrank",
            Self::OtherRoot { .. } => "other-root",
            Self::Failed(_) => "failed",
        }
    }
}

impl HeldKeys {
    /// Holds the keys of these purposes; secrets of others are given up.
    #[must_use]
    pub fn new(keys: Keys, purposes: &[KeyPurpose]) -> Self {
        let holds = |purpose| purposes.contains(&purpose);
        let mut checkpoints = vec![keys.checkpoint];
        checkpoints.extend(keys.other_checkpoints);
        let checkpoint_keys = checkpoints.iter().map(CheckpointSigner::verifier);
        let checkpoint_keys = checkpoint_keys.collect();
        if !holds(KeyPurpose::Checkpoints) {
            checkpoints.clear();
        }
        Self {
            public: keys.public,
            checkpoint_keys,
            checkpoints,
            current: keys.entries.verifier(),
            entries: holds(KeyPurpose::Entries).then_some(keys.entries),
            last: Mutex::default(),
        }
    }

    /// What everybody may know of the keys.
    #[must_use]
    pub fn told(&self) -> ToldKeys {
        let held = [
            (KeyPurpose::Entries, self.entries.is_some()),
            (KeyPurpose::Checkpoints, !self.checkpoints.is_empty()),
        ];
        let held = held.into_iter().filter(|(_, holds)| *holds);
        ToldKeys {
            protocol: PROTOCOL.to_owned(),
            public_keys: self.public.to_string(),
            entries: self.current.to_string(),
            checkpoints: match &self.checkpoint_keys[..] {
                [only] if *only == self.public.checkpoint => Vec::new(),
                several => several.iter().map(ToString::to_string).collect(),
            },
            purposes: held.map(|(purpose, _)| purpose).collect(),
        }
    }

    /// Signs messages with the key of a purpose, all or none.
    ///
    /// # Errors
    /// See [`SignerRefusal`].
    pub fn sign(
        &self,
        purpose: KeyPurpose,
        key: &str,
        messages: Vec<Vec<u8>>,
    ) -> Result<Vec<[u8; 64]>, SignerRefusal> {
        if messages.len() > MESSAGES_MAX {
            let found = messages.len();
            return Err(SignerRefusal::Messages { found });
        }
        match purpose {
            KeyPurpose::Entries => self.sign_entries(key, messages),
            KeyPurpose::Checkpoints => self.sign_checkpoints(key, messages),
        }
    }

    fn sign_entries(
        &self,
        key: &str,
        messages: Vec<Vec<u8>>,
    ) -> Result<Vec<[u8; 64]>, SignerRefusal> {
        let signer = self.entries.as_ref();
        let signer = signer.ok_or(SignerRefusal::Purpose(KeyPurpose::Entries))?;
        check_key(key, signer.verifier().key_id())?;
        let mut read = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            let refused = |source| SignerRefusal::Matter { index, source };
            let message = Signable::<Entries>::parse(message).map_err(refused)?;
            match message.matter() {
                EntryMatter::Entry(entry) if matches!(**entry, Entry::KeySuccession(_)) => {
                    return Err(SignerRefusal::Succession { index });
                }
                EntryMatter::Possession { .. } => return Err(SignerRefusal::Succession { index }),
                EntryMatter::Entry(_) => {}
                EntryMatter::Export(manifest) => {
                    let under = SignedCheckpoint::parse(&manifest.checkpoint).map_err(refused)?;
                    self.check_signed(&under).map_err(refused)?;
                }
            }
            read.push(message);
        }
        signer.sign_read(&read).map_err(SignerRefusal::Failed)
    }

    fn sign_checkpoints(
        &self,
        key: &str,
        messages: Vec<Vec<u8>>,
    ) -> Result<Vec<[u8; 64]>, SignerRefusal> {
        let placed = self.checkpoints.first();
        let placed = placed.ok_or(SignerRefusal::Purpose(KeyPurpose::Checkpoints))?;
        let mut held = self.checkpoints.iter();
        let signer = match held.find(|held| held.verifier().key_id() == key) {
            Some(signer) => signer,
            None => return Err(other_key(key, placed.verifier().key_id())),
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = *last;
        let mut read = Vec::with_capacity(messages.len());
        for (index, message) in messages.into_iter().enumerate() {
            let refused = |source| SignerRefusal::Matter { index, source };
            let message = Signable::<Checkpoints>::parse(message).map_err(refused)?;
            let checkpoint = message.matter();
            if checkpoint.origin != self.public.origin() {
                return Err(refused(ProvenanceError::OriginMismatch {
                    expected: self.public.origin().to_owned(),
                    found: checkpoint.origin.clone(),
                }));
            }
            let head = checkpoint.tree_head();
            check_continues(next.as_ref(), &head)?;
            next = Some(head);
            read.push(message);
        }
        let signed = signer.sign_read(&read).map_err(SignerRefusal::Failed)?;
        *last = next;
        Ok(signed)
    }
}

impl HeldKeys {
    /// Whether one of the log's checkpoint keys has signed a checkpoint. Which one signs now the signer does not
    /// know.
    fn check_signed(&self, under: &SignedCheckpoint) -> Result<(), ProvenanceError> {
        let verified = self.checkpoint_keys.iter().map(|key| under.verify(key));
        let mut outcome = under.verify(&self.public.checkpoint);
        for one in verified {
            outcome = outcome.or(one);
        }
        outcome.map(drop)
    }
}

/// Whether a tree may be signed after another one, as far as sizes and roots tell.
fn check_continues(last: Option<&TreeHead>, head: &TreeHead) -> Result<(), SignerRefusal> {
    match last {
        Some(last) if head.size < last.size => Err(SignerRefusal::TreeShrank {
            asked: head.size,
            signed: last.size,
        }),
        Some(last) if head.size == last.size && head.root_hash != last.root_hash => {
            Err(SignerRefusal::OtherRoot {
                size: head.size,
                asked: head.root_hash,
                signed: last.root_hash,
            })
        }
        _ => Ok(()),
    }
}

fn check_key(asked: &str, held: String) -> Result<(), SignerRefusal> {
    if asked == held {
        return Ok(());
    }
    Err(other_key(asked, held))
}

fn other_key(asked: &str, held: String) -> SignerRefusal {
    let asked = asked.chars().take(provenance::keys::KEY_NAME_BYTES_MAX);
    SignerRefusal::Key {
        asked: asked.collect(),
        held,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use provenance::{
        Checkpoint, Envelope, KeyHolder, KeyRequest, KeySuccessionEntry, RecordedDetector,
        RecordedVerdict, ScoreEntry, SigningFailure,
    };

    use super::*;
    use crate::keys::Vault;

    const ORIGIN: &str = "signer.test/log";
    const BOTH: [KeyPurpose; 2] = [KeyPurpose::Entries, KeyPurpose::Checkpoints];

    fn held(purposes: &[KeyPurpose]) -> Arc<HeldKeys> {
        let state = tempfile::tempdir().unwrap();
        let keys = Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        Arc::new(HeldKeys::new(keys, purposes))
    }

    /// Asks without a socket between.
    #[derive(Debug)]
    struct Asks(Arc<HeldKeys>, KeyPurpose, String);

    impl KeyHolder for Asks {
        fn sign(&self, messages: &[Vec<u8>]) -> Result<Vec<[u8; 64]>, SigningFailure> {
            let Self(held, purpose, key) = self;
            let signed = held.sign(*purpose, key, messages.to_vec());
            signed.map_err(|refusal| SigningFailure::Refused(refusal.code().to_owned()))
        }
    }

    fn entry_signer(held: &Arc<HeldKeys>) -> EntrySigner {
        let verifier = held.current.clone();
        let asks = Asks(Arc::clone(held), KeyPurpose::Entries, verifier.key_id());
        EntrySigner::held_by(Arc::new(asks), verifier)
    }

    fn score(id: &str) -> Entry {
        let digest = Digest::of(b"");
        Entry::Score(ScoreEntry {
            request_id: id.to_owned(),
            created_at_ms: 1,
            client: "tester".to_owned(),
            upload_commitment: digest,
            detector: RecordedDetector {
                name: "detector".to_owned(),
                version: "1".to_owned(),
                digest,
            },
            calibration_version: "1".to_owned(),
            thresholds_version: "1".to_owned(),
            verdict: RecordedVerdict::Inconclusive,
            probability: None,
        })
    }

    fn sign_checkpoint(held: &Arc<HeldKeys>, size: u64, root: &[u8]) -> Result<(), String> {
        sign_checkpoint_of(held, ORIGIN, size, root)
    }

    /// Makes the body by hand, so that every body can be asked for.
    fn sign_checkpoint_of(
        held: &Arc<HeldKeys>,
        origin: &str,
        size: u64,
        root: &[u8],
    ) -> Result<(), String> {
        let root = super::super::wire::encode(Digest::of(root).as_bytes());
        let body = format!("{origin}\n{size}\n{root}\n").into_bytes();
        let key = held.public.checkpoint.key_id();
        let signed = held.sign(KeyPurpose::Checkpoints, &key, vec![body]);
        signed
            .map(drop)
            .map_err(|refusal| refusal.code().to_owned())
    }

    fn refused<T: std::fmt::Debug>(signed: Result<T, ProvenanceError>) -> String {
        match signed.unwrap_err() {
            ProvenanceError::NotSigned {
                failure: SigningFailure::Refused(code),
                ..
            } => code,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn entries_are_signed_as_the_key_itself_signs_them() {
        let held = held(&BOTH);
        let signer = entry_signer(&held);
        let entries = [score("1"), score("2")];
        let own = held.entries.as_ref().unwrap();
        assert_eq!(
            Envelope::sign_all(&entries, &signer),
            Envelope::sign_all(&entries, own)
        );
    }

    #[test]
    fn a_purpose_that_is_not_held_and_a_key_that_is_another_are_refused() {
        let checkpoints = held(&[KeyPurpose::Checkpoints]);
        let signed = Envelope::sign(&score("1"), &entry_signer(&checkpoints));
        assert_eq!(refused(signed), "purpose-not-held");
        let entries = held(&[KeyPurpose::Entries]);
        assert_eq!(
            sign_checkpoint(&entries, 1, b"a"),
            Err("purpose-not-held".to_owned())
        );
        assert_eq!(entries.told().purposes, [KeyPurpose::Entries]);
        let both = held(&BOTH);
        let other = both.public.checkpoint.key_id();
        let refusal = both.sign(KeyPurpose::Entries, &other, vec![]).unwrap_err();
        assert_eq!(refusal.code(), "key-not-held");
        let current = both.current.key_id();
        let many = vec![Vec::new(); MESSAGES_MAX + 1];
        let refusal = both.sign(KeyPurpose::Entries, &current, many).unwrap_err();
        assert_eq!(refusal.code(), "too-many-messages");
    }

    #[test]
    fn the_entry_key_signs_no_checkpoint_no_garbage_and_no_other_key() {
        let held = held(&BOTH);
        let key = held.current.key_id();
        let body = format!("{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n");
        for message in [
            body.as_bytes(),
            b"",
            b"DSSEv1 1 a 1 b",
            &[0xff; 100],
            b"retrace-key-possession@v1\na\nb\n",
        ] {
            let refusal = held.sign(KeyPurpose::Entries, &key, vec![message.to_vec()]);
            assert!(refusal.is_err(), "{message:?}");
        }
        let request = KeyRequest {
            request_id: "1".to_owned(),
            created_at_ms: 1,
            client: "thief".to_owned(),
        };
        let thief = EntrySigner::from_seed(ORIGIN, [9; 32]).unwrap();
        let statement = KeySuccessionEntry::new(request, &held.current, &thief).unwrap();
        let entries = [score("1"), Entry::KeySuccession(statement)];
        let signed = Envelope::sign_all(&entries, &entry_signer(&held));
        assert_eq!(refused(signed), "succession");
    }

    #[test]
    fn a_manifest_is_signed_under_a_checkpoint_of_the_log_alone() {
        let held = held(&BOTH);
        let thief = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
        for (log, holds) in [(&held.checkpoints[0], true), (&thief, false)] {
            let checkpoint = Checkpoint {
                origin: ORIGIN.to_owned(),
                tree_size: TreeSize::new(1),
                root_hash: Digest::of(b"a"),
            };
            let checkpoint = checkpoint.sign(log).unwrap();
            let writer = provenance::ExportWriter::new(
                provenance::LineEncoding::Ndjson,
                Default::default(),
                &checkpoint,
            );
            let written = writer.finish(&entry_signer(&held));
            assert_eq!(written.is_ok(), holds, "{written:?}");
        }
    }

    #[test]
    fn two_checkpoint_keys_sign_one_history_and_name_no_third() {
        let state = tempfile::tempdir().unwrap();
        let open = || Keys::open(state.path(), ORIGIN, &Vault::default()).unwrap();
        assert!(HeldKeys::new(open(), &BOTH).told().checkpoints.is_empty());
        let next = open().prepare_next_checkpoint(state.path(), &Vault::default());
        let next = next.unwrap();
        let held = HeldKeys::new(open(), &BOTH);
        let keys = [held.public.checkpoint.clone(), next.verifier()];
        assert_eq!(
            held.told().checkpoints,
            keys.clone().map(|key| key.to_string())
        );
        let sign = |key: &CheckpointVerifier, size: u64, root: &[u8]| {
            let root = super::super::wire::encode(Digest::of(root).as_bytes());
            let body = format!("{ORIGIN}\n{size}\n{root}\n").into_bytes();
            let signed = held.sign(KeyPurpose::Checkpoints, &key.key_id(), vec![body]);
            signed.map(drop).map_err(|refusal| refusal.code())
        };
        for key in &keys {
            assert_eq!(sign(key, 5, b"a"), Ok(()));
        }
        // What one key has signed binds the other.
        assert_eq!(sign(&keys[0], 6, b"b"), Ok(()));
        assert_eq!(sign(&keys[1], 6, b"c"), Err("other-root"));
        assert_eq!(sign(&keys[1], 5, b"a"), Err("tree-shrank"));
        let stranger = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
        assert_eq!(sign(&stranger.verifier(), 7, b"d"), Err("key-not-held"));
        let announcement = format!(
            "retrace checkpoint key succession v1\n{}\n{}\n1\n",
            keys[0].key_id(),
            stranger.verifier()
        );
        let key = keys[0].key_id();
        let refusal = held.sign(
            KeyPurpose::Checkpoints,
            &key,
            vec![announcement.into_bytes()],
        );
        assert_eq!(refusal.unwrap_err().code(), "not-signable");
    }

    #[test]
    fn checkpoints_grow_and_have_one_root_for_each_size() {
        let held = held(&BOTH);
        let code = |text: &str| Err(text.to_owned());
        assert_eq!(sign_checkpoint(&held, 5, b"a"), Ok(()));
        assert_eq!(sign_checkpoint(&held, 5, b"a"), Ok(()));
        assert_eq!(sign_checkpoint(&held, 5, b"b"), code("other-root"));
        assert_eq!(sign_checkpoint(&held, 4, b"a"), code("tree-shrank"));
        assert_eq!(sign_checkpoint(&held, 6, b"c"), Ok(()));
        assert_eq!(sign_checkpoint(&held, 5, b"a"), code("tree-shrank"));
        let other = sign_checkpoint_of(&held, "other.test/log", 7, b"d");
        assert_eq!(other, code("not-signable"));
        // A request of which one part is refused changes nothing.
        let key = held.public.checkpoint.key_id();
        let root = super::super::wire::encode(Digest::of(b"e").as_bytes());
        let body = |size: u64| format!("{ORIGIN}\n{size}\n{root}\n").into_bytes();
        let both = vec![body(9), body(8)];
        assert!(held.sign(KeyPurpose::Checkpoints, &key, both).is_err());
        assert_eq!(sign_checkpoint(&held, 7, b"d"), Ok(()));
    }
}
