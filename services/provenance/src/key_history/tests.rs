use super::*;
use crate::merkle::{Appender, inclusion_nodes};
use crate::{
    Bundle, CheckpointSigner, EntrySigner, KeyFile, KeyRequest, PublicKeys, RecordedDetector,
    RecordedVerdict, ScoreEntry, SignedCheckpoint,
};

const ORIGIN: &str = "retrace.test/log";

fn signer(seed: u8) -> EntrySigner {
    EntrySigner::from_seed(ORIGIN, [seed; 32]).unwrap()
}

fn checkpoint_signer() -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, [99; 32]).unwrap()
}

fn keys() -> PublicKeys {
    PublicKeys::new(signer(0).verifier(), checkpoint_signer().verifier()).unwrap()
}

fn request(number: u64) -> KeyRequest {
    KeyRequest {
        request_id: format!("keys-{number}"),
        created_at_ms: number,
        client: "operator".to_owned(),
    }
}

fn score(number: u64) -> Entry {
    let digest = Digest::of(b"");
    Entry::Score(ScoreEntry {
        request_id: number.to_string(),
        created_at_ms: number,
        client: "studio".to_owned(),
        upload_commitment: digest,
        detector: RecordedDetector {
            name: "photo-prior".to_owned(),
            version: "1".to_owned(),
            digest,
        },
        calibration_version: "1".to_owned(),
        thresholds_version: "1".to_owned(),
        verdict: RecordedVerdict::Inconclusive,
        probability: None,
    })
}

fn succession(old: &EntrySigner, new: &EntrySigner) -> Entry {
    Entry::KeySuccession(KeySuccessionEntry::new(request(1), &old.verifier(), new).unwrap())
}

fn revocation(key: &EntrySigner, since: u64) -> Entry {
    let KeyRequest {
        request_id,
        created_at_ms,
        client,
    } = request(2);
    Entry::KeyRevocation(KeyRevocationEntry {
        request_id,
        created_at_ms,
        client,
        key: key.verifier().key_id(),
        since: LeafIndex::new(since),
        reason: "its disk was lost".to_owned(),
    })
}

fn sign(entry: &Entry, signer: &EntrySigner) -> Envelope {
    Envelope::sign(entry, signer).unwrap()
}

/// Meets every envelope in the order of a log, as an auditor does who knows the first key alone.
fn walk(log: &[Envelope]) -> Result<KeyHistory, ProvenanceError> {
    let mut history = KeyHistory::new(&keys());
    for (place, envelope) in (0..).zip(log) {
        let place = LeafIndex::new(place);
        let entry = history.verify(envelope, place)?;
        history.meet(place, envelope.key_id(), &entry)?;
    }
    Ok(history)
}

fn code(log: &[Envelope]) -> &'static str {
    walk(log).unwrap_err().code()
}

/// Key 0 signs 0 to 2, key 1 from 3 on; entry 4 revokes key 0 from 1 on.
fn rotated() -> Vec<Envelope> {
    let (first, second) = (signer(0), signer(1));
    vec![
        sign(&score(0), &first),
        sign(&score(1), &first),
        sign(&succession(&first, &second), &first),
        sign(&score(3), &second),
        sign(&revocation(&first, 1), &second),
        sign(&score(5), &second),
    ]
}

/// The tree over a log: its checkpoint, and proofs.
struct Tree {
    log: Vec<Envelope>,
    signed: SignedCheckpoint,
    nodes: Vec<merkle::NewNode>,
}

impl Tree {
    fn of(log: Vec<Envelope>) -> Self {
        let (mut appender, mut nodes) = (Appender::empty(), Vec::new());
        for envelope in &log {
            appender.append(envelope.leaf_hash(), &mut nodes).unwrap();
        }
        let checkpoint = Checkpoint {
            origin: ORIGIN.to_owned(),
            tree_size: appender.size(),
            root_hash: appender.root(),
        };
        let signed = checkpoint.sign(&checkpoint_signer()).unwrap();
        Self { log, signed, nodes }
    }

    fn proof(&self, place: u64) -> Vec<Digest> {
        let size = self.signed.unverified().tree_size;
        let plan = inclusion_nodes(LeafIndex::new(place), size).unwrap();
        let hash = |id| self.nodes.iter().find(|node| node.id == id).unwrap().hash;
        let hashes: Vec<Digest> = plan.ids().iter().map(|id| hash(*id)).collect();
        plan.fold(&hashes).unwrap()
    }

    fn envelope(&self, place: u64) -> Envelope {
        self.log[usize::try_from(place).unwrap()].clone()
    }

    fn statements(&self, places: &[u64]) -> Vec<KeyStatement> {
        let statement = |place: &u64| KeyStatement {
            envelope: self.envelope(*place),
            leaf_index: LeafIndex::new(*place),
            inclusion_proof: self.proof(*place),
        };
        places.iter().map(statement).collect()
    }

    fn bundle(&self, place: u64, statements: &[u64]) -> Bundle {
        let leaf_index = LeafIndex::new(place);
        let signed = self.signed.clone();
        Bundle::new(self.envelope(place), leaf_index, self.proof(place), signed)
            .with_keys(self.statements(statements))
    }
}

#[test]
fn the_chain_is_followed_from_the_first_key_alone() {
    let history = walk(&rotated()).unwrap();
    let [first, second] = history.keys() else {
        panic!("{history:?}");
    };
    assert_eq!(
        (first.from, first.until),
        (LeafIndex::new(0), Some(LeafIndex::new(2)))
    );
    assert_eq!((second.from, second.until), (LeafIndex::new(3), None));
    assert_eq!(second.verifier, signer(1).verifier());
    let taken_back = first.taken_back().unwrap();
    assert_eq!(taken_back, (LeafIndex::new(1), LeafIndex::new(1)));
    assert!(second.taken_back().is_none() && second.revocation.is_none());
    // Looked up one by one: what lies before the revocation stays valid, and so do statements about keys.
    let log = rotated();
    let verdict = |place: u64| {
        let envelope = &log[usize::try_from(place).unwrap()];
        history
            .verify(envelope, LeafIndex::new(place))
            .err()
            .map(|refusal| refusal.code())
    };
    let verdicts: Vec<_> = (0..6).map(verdict).collect();
    assert_eq!(
        verdicts,
        [None, Some("key-revoked"), None, None, None, None]
    );
}

#[test]
fn a_key_signs_at_its_own_places_alone() {
    let (first, second) = (signer(0), signer(1));
    let mut log = rotated()[..4].to_vec();
    // The old key after its successor was named.
    log.push(sign(&score(9), &first));
    assert_eq!(code(&log), "key-outside-window");
    // The same after its revocation.
    let mut log = rotated();
    log.push(sign(&score(9), &first));
    assert_eq!(code(&log), "key-revoked");
    // A second successor that the old key names.
    let mut log = rotated()[..4].to_vec();
    log.push(sign(&succession(&first, &signer(7)), &first));
    assert_eq!(code(&log), "key-outside-window");
    // The new key before it was named, and a key that nobody named.
    assert_eq!(code(&[sign(&score(0), &second)]), "unknown-key");
    let history = walk(&rotated()).unwrap();
    let early = history.verify(&sign(&score(0), &second), LeafIndex::new(0));
    assert_eq!(early.unwrap_err().code(), "key-outside-window");
}

#[test]
fn a_succession_that_was_tampered_with_is_refused_with_its_reason() {
    let (first, second) = (signer(0), signer(1));
    let Entry::KeySuccession(good) = succession(&first, &second) else {
        unreachable!("it is a succession");
    };
    let of = |change: &dyn Fn(&mut KeySuccessionEntry)| {
        let mut statement = good.clone();
        change(&mut statement);
        sign(&Entry::KeySuccession(statement), &first)
    };
    assert!(walk(&[of(&|_| ())]).is_ok());
    let third = signer(2).verifier();
    let other_log = EntrySigner::from_seed("other.test/log", [1; 32]).unwrap();
    let foreign = KeySuccessionEntry::new(request(1), &first.verifier(), &other_log).unwrap();
    for (refused, words) in [
        // Another key than the one that signed the proof of possession.
        (
            of(&|it| it.new_key = third.to_string()),
            "does not show that it is held",
        ),
        (
            of(&|it| it.possession = "AAAA".to_owned()),
            "does not show that it is held",
        ),
        (of(&|it| it.old_key = third.key_id()), "does not sign here"),
        (sign(&Entry::KeySuccession(foreign), &first), "another log"),
        (sign(&succession(&first, &first), &first), "signed before"),
    ] {
        let refusal = walk(&[refused]).unwrap_err();
        assert_eq!(refusal.code(), "key-statement");
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    // Not the old key's signature: whoever holds the new one alone cannot make itself the successor.
    assert_eq!(
        code(&[sign(&succession(&first, &second), &second)]),
        "unknown-key"
    );
}

#[test]
fn a_revocation_that_makes_no_sense_is_refused_with_its_reason() {
    let (first, second) = (signer(0), signer(1));
    let with = |entry: &Entry| {
        let mut log = rotated()[..4].to_vec();
        log.push(sign(entry, &second));
        log
    };
    assert!(walk(&with(&revocation(&first, 3))).is_ok());
    for (entry, words) in [
        (revocation(&second, 3), "signs now"),
        (revocation(&signer(5), 0), "no such key"),
        (revocation(&first, 4), "signed no entry there"),
    ] {
        let refusal = walk(&with(&entry)).unwrap_err();
        assert_eq!(refusal.code(), "key-statement");
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    // Once more: only further back.
    let mut log = with(&revocation(&first, 1));
    log.push(sign(&revocation(&first, 0), &second));
    assert!(walk(&log).is_ok());
    log.push(sign(&revocation(&first, 2), &second));
    assert_eq!(code(&log), "key-statement");
}

#[test]
fn a_bundle_proves_the_keys_that_it_needs_to_whoever_knows_the_first() {
    let tree = Tree::of(rotated());
    let verify = |bundle: &Bundle| {
        let bytes = bundle.to_bytes();
        let parsed = Bundle::parse(&bytes).unwrap();
        assert_eq!(parsed.to_bytes(), bytes);
        parsed.verify(&keys()).map_err(|refusal| refusal.code())
    };
    let proven = verify(&tree.bundle(3, &[2])).unwrap();
    assert_eq!(proven.entry, score(3));
    assert!(verify(&tree.bundle(5, &[2, 4])).is_ok());
    assert!(verify(&tree.bundle(0, &[])).is_ok());
    assert!(verify(&tree.bundle(0, &[2, 4])).is_ok());
    assert_eq!(verify(&tree.bundle(3, &[])).unwrap_err(), "unknown-key");
    assert_eq!(verify(&tree.bundle(1, &[2, 4])).unwrap_err(), "key-revoked");
    // Statements in another order, twice, or of another kind.
    assert_eq!(verify(&tree.bundle(3, &[4, 2])).unwrap_err(), "unknown-key");
    assert_eq!(
        verify(&tree.bundle(3, &[2, 2])).unwrap_err(),
        "key-statement"
    );
    assert_eq!(verify(&tree.bundle(3, &[0])).unwrap_err(), "key-statement");
    // A succession that the tree does not hold.
    let mut forged = tree.statements(&[2]);
    forged[0].envelope = sign(&succession(&signer(0), &signer(8)), &signer(0));
    let bundle = tree.bundle(3, &[]).with_keys(forged);
    assert_eq!(verify(&bundle).unwrap_err(), "root-mismatch");
    // The name of the format says whether there are statements.
    let bytes = tree.bundle(3, &[2]).to_bytes();
    let text = String::from_utf8(bytes)
        .unwrap()
        .replace("bundle@v2", "bundle@v1");
    assert_eq!(
        Bundle::parse(text.as_bytes()).unwrap_err().code(),
        "malformed"
    );
}

#[test]
fn the_key_file_carries_the_chain_and_keeps_its_fingerprint() {
    let tree = Tree::of(rotated());
    let plain = KeyFile::new(keys());
    assert_eq!(plain.to_string(), keys().to_string());
    let file = plain
        .clone()
        .with_statements(tree.signed.clone(), tree.statements(&[2, 4]));
    let parsed = KeyFile::parse(&file.to_string()).unwrap();
    assert_eq!(parsed, file);
    assert_eq!(parsed.history(), walk(&rotated()));
    assert_eq!(parsed.fingerprint(), plain.fingerprint());
    for refused in [
        format!("{file}\n"),
        file.to_string()
            .replace("retrace-keys@v1", "retrace-keys@v2"),
        file.to_string().trim_end().to_owned(),
        file.to_string()
            .replace("\"leaf_index\":2", "\"leaf_index\": 2"),
    ] {
        assert!(KeyFile::parse(&refused).is_err(), "{refused}");
    }
    let moved = file
        .to_string()
        .replace("\"leaf_index\":2", "\"leaf_index\":1");
    let refusal = KeyFile::parse(&moved).unwrap().history().unwrap_err();
    assert_eq!(refusal.code(), "root-mismatch");
}

#[test]
fn a_log_has_a_limited_number_of_statements_about_keys() {
    let mut log = Vec::new();
    for number in 0..=u8::try_from(KEY_STATEMENTS_MAX).unwrap() {
        let (old, new) = (signer(number), signer(number + 1));
        log.push(sign(&succession(&old, &new), &old));
    }
    let refusal = walk(&log).unwrap_err();
    assert!(refusal.to_string().contains("at most 64"), "{refusal}");
    log.pop();
    assert_eq!(walk(&log).unwrap().keys().len(), KEY_STATEMENTS_MAX + 1);
}

/// A log whose second entry names another checkpoint key, under a checkpoint of both.
fn under_two_checkpoint_keys() -> Tree {
    let next = CheckpointSigner::from_seed(ORIGIN, [98; 32]).unwrap();
    let statement =
        crate::CheckpointKeySuccessionEntry::new(request(3), &checkpoint_signer(), &next, 9);
    let statement = Entry::CheckpointKeySuccession(statement.unwrap());
    let first = signer(0);
    let log = [score(0), statement, score(2)].map(|entry| sign(&entry, &first));
    let mut tree = Tree::of(log.into());
    let checkpoint = tree.signed.unverified().clone().sign(&next).unwrap();
    tree.signed = checkpoint.also_signed_by(&checkpoint_signer()).unwrap();
    tree
}

#[test]
fn a_bundle_proves_the_checkpoint_key_and_every_changed_byte_is_refused() {
    let tree = under_two_checkpoint_keys();
    let accepts =
        |bytes: &[u8]| Bundle::parse(bytes).is_ok_and(|bundle| bundle.verify(&keys()).is_ok());
    for place in [0, 2] {
        let mut bytes = tree.bundle(place, &[1]).to_bytes();
        assert!(accepts(&bytes));
        for changed in 0..bytes.len() {
            bytes[changed] ^= 1;
            assert!(!accepts(&bytes), "byte {changed}");
            bytes[changed] ^= 1;
        }
        // Without the proof the second line is nobody's.
        let refusal = tree.bundle(place, &[]).verify(&keys()).unwrap_err();
        assert_eq!(refusal.code(), "unverified-signature");
    }
    let file = KeyFile::new(keys()).with_statements(tree.signed.clone(), tree.statements(&[1]));
    let mut bytes = file.to_string().into_bytes();
    let accepts = |bytes: &[u8]| {
        let file = str::from_utf8(bytes)
            .ok()
            .and_then(|text| KeyFile::parse(text).ok());
        file.is_some_and(|file| file.keys == keys() && file.history().is_ok())
    };
    assert!(accepts(&bytes));
    for changed in 0..bytes.len() {
        bytes[changed] ^= 1;
        assert!(!accepts(&bytes), "byte {changed}");
        bytes[changed] ^= 1;
    }
}
