use super::*;
use crate::{
    CheckpointSigner, Digest, Entry, EntrySigner, Envelope, KeyHistory, KeyRequest,
    KeyRevocationEntry, PublicKeys,
};

const ORIGIN: &str = "retrace.test/log";
/// The first key signs along until then.
const UNTIL_MS: u64 = 1_000;

fn signer(seed: u8) -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, [seed; 32]).unwrap()
}

fn entry_signer() -> EntrySigner {
    EntrySigner::from_seed(ORIGIN, [99; 32]).unwrap()
}

fn request() -> KeyRequest {
    KeyRequest {
        request_id: "1".to_owned(),
        created_at_ms: 1,
        client: "operator".to_owned(),
    }
}

fn succession(old: &CheckpointSigner, new: &CheckpointSigner) -> CheckpointKeySuccessionEntry {
    CheckpointKeySuccessionEntry::new(request(), old, new, UNTIL_MS).unwrap()
}

fn revocation(key: &CheckpointSigner, since: u64) -> Entry {
    Entry::KeyRevocation(KeyRevocationEntry {
        request_id: format!("revoked-{since}"),
        created_at_ms: 2,
        client: "operator".to_owned(),
        key: key.verifier().key_id(),
        since: LeafIndex::new(since),
        reason: "stolen".to_owned(),
    })
}

fn first() -> KeyHistory {
    let keys = PublicKeys::new(entry_signer().verifier(), signer(0).verifier());
    KeyHistory::new(&keys.unwrap())
}

fn take(history: &mut KeyHistory, place: u64, entry: &Entry) -> Result<(), ProvenanceError> {
    let envelope = Envelope::sign(entry, &entry_signer()).unwrap();
    history.take(&envelope, LeafIndex::new(place))
}

/// Entry 4 names key 1 after key 0.
fn rotated() -> KeyHistory {
    let mut history = first();
    let statement = Entry::CheckpointKeySuccession(succession(&signer(0), &signer(1)));
    take(&mut history, 4, &statement).unwrap();
    history
}

fn signed(size: u64, by: &[u8]) -> SignedCheckpoint {
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: TreeSize::new(size),
        root_hash: Digest::of(&size.to_be_bytes()),
    };
    let (first, others) = by.split_first().unwrap();
    let signed = checkpoint.sign(&signer(*first)).unwrap();
    others.iter().fold(signed, |signed, other| {
        signed.also_signed_by(&signer(*other)).unwrap()
    })
}

fn code(history: &KeyHistory, signed: &SignedCheckpoint) -> &'static str {
    let verified = history.checkpoints().verify(signed);
    verified.map_or_else(|refusal| refusal.code(), |_| "holds")
}

#[test]
fn each_checkpoint_is_signed_by_the_key_of_its_size() {
    let (before, after) = (first(), rotated());
    for (size, by, to_the_first, to_both) in [
        (4, &[0][..], "holds", "holds"),
        (5, &[1, 0], "holds", "holds"),
        (9, &[0, 1], "holds", "holds"),
        (9, &[1], "checkpoint-key-unseen", "holds"),
        (9, &[0], "holds", "checkpoint-key-outside-window"),
        (5, &[0], "holds", "checkpoint-key-outside-window"),
        (
            4,
            &[1],
            "checkpoint-key-unseen",
            "checkpoint-key-outside-window",
        ),
        (9, &[7], "checkpoint-key-unseen", "checkpoint-key-unseen"),
        (9, &[7, 1], "checkpoint-key-unseen", "holds"),
    ] {
        let signed = signed(size, by);
        let said = (code(&before, &signed), code(&after, &signed));
        assert_eq!(
            said,
            (to_the_first, to_both),
            "size {size} signed by {by:?}"
        );
    }
    let unseen = before.checkpoints().unseen(&signed(9, &[1, 0]));
    assert_eq!(unseen, [signer(1).verifier().key_id()]);
    assert!(after.checkpoints().unseen(&signed(9, &[1, 0])).is_empty());
}

#[test]
fn a_line_of_a_known_key_that_does_not_verify_spoils_the_checkpoint() {
    let history = rotated();
    let others = signed(10, &[0]).text();
    let line = others.lines().last().unwrap();
    let spoiled = signed(9, &[1]).with_line(line).unwrap();
    assert_eq!(code(&history, &spoiled), "signature-invalid");
    // Nobody who does not know that key can tell.
    let keys = CheckpointKeys::from(signer(1).verifier());
    assert!(keys.verify(&spoiled).is_ok());
}

#[test]
fn a_bundle_has_one_line_of_each_key_newest_first() {
    let keys = rotated();
    let sole = |signed: &SignedCheckpoint| keys.checkpoints().verify_sole(signed).is_ok();
    assert!(sole(&signed(9, &[1])));
    assert!(sole(&signed(9, &[1, 0])));
    for by in [&[0, 1][..], &[1, 1], &[1, 0, 0], &[1, 7], &[7, 1]] {
        let signed = signed(9, by);
        assert!(keys.checkpoints().verify(&signed).is_ok(), "{by:?}");
        let refusal = keys.checkpoints().verify_sole(&signed).unwrap_err();
        assert_eq!(refusal.code(), "unverified-signature", "{by:?}");
    }
}

#[test]
fn the_old_key_signs_along_until_its_time_is_over_or_it_is_revoked() {
    let mut history = rotated();
    let signing = |history: &KeyHistory, now_ms| -> Vec<String> {
        let keys = history.checkpoints().signing_at(now_ms);
        keys.map(CheckpointVerifier::key_id).collect()
    };
    let [old, new] = [0, 1].map(|seed| signer(seed).verifier().key_id());
    assert_eq!(signing(&first(), 0), std::slice::from_ref(&old));
    assert_eq!(signing(&history, UNTIL_MS - 1), [new.clone(), old]);
    assert_eq!(signing(&history, UNTIL_MS), std::slice::from_ref(&new));
    take(&mut history, 6, &revocation(&signer(0), 4)).unwrap();
    assert_eq!(signing(&history, 0), [new]);
}

#[test]
fn a_revocation_takes_back_the_checkpoints_that_cover_its_place() {
    let mut history = rotated();
    for (entry, words) in [
        (revocation(&signer(1), 4), "signs now"),
        (revocation(&signer(5), 0), "no such key"),
        (revocation(&signer(0), 5), "signed no checkpoint alone"),
        (revocation(&signer(0), 1 << 53), "2^53"),
    ] {
        if words == "2^53" {
            assert!(Envelope::sign(&entry, &entry_signer()).is_err());
            continue;
        }
        let refusal = take(&mut history.clone(), 6, &entry).unwrap_err();
        assert!(refusal.to_string().contains(words), "{refusal}");
    }
    // What it signed alone stays where nothing is said of it.
    let mut behind = history.clone();
    take(&mut behind, 6, &revocation(&signer(0), 4)).unwrap();
    assert_eq!(code(&behind, &signed(4, &[0])), "holds");
    assert_eq!(behind.checkpoints().keys()[0].taken_back(), None);
    take(&mut history, 6, &revocation(&signer(0), 2)).unwrap();
    assert_eq!(code(&history, &signed(2, &[0])), "holds");
    for size in [3, 4] {
        let signed = signed(size, &[0]);
        assert_eq!(code(&history, &signed), "checkpoint-key-revoked");
        assert!(history.checkpoints().verify_signature(&signed).is_ok());
    }
    assert_eq!(code(&history, &signed(9, &[1, 0])), "holds");
    let taken_back = history.checkpoints().keys()[0].taken_back();
    assert_eq!(taken_back, Some((TreeSize::new(3), TreeSize::new(4))));
    // Only further back, as with entry keys.
    assert!(take(&mut history, 7, &revocation(&signer(0), 3)).is_err());
    assert!(take(&mut history, 7, &revocation(&signer(0), 1)).is_ok());
}

#[test]
fn both_keys_must_agree_and_no_other_statement_is_taken() {
    let [zero, one, two] = [0, 1, 2].map(signer);
    let good = succession(&zero, &one);
    let foreign = CheckpointSigner::from_seed("other.test/log", [1; 32]).unwrap();
    let as_entry_key = CheckpointSigner::from_seed(ORIGIN, [99; 32]).unwrap();
    let changed = |change: fn(&mut CheckpointKeySuccessionEntry)| {
        let mut statement = good.clone();
        change(&mut statement);
        statement
    };
    let by_another = CheckpointKeySuccessionEntry {
        authority: succession(&two, &one).authority,
        ..good.clone()
    };
    for (refused, words) in [
        (succession(&two, &one), "does not sign checkpoints here"),
        (succession(&zero, &zero), "has signed before"),
        (succession(&zero, &foreign), "other.test/log"),
        (succession(&zero, &as_entry_key), "signed entries"),
        (by_another, "both agree"),
        (changed(|it| it.old_key_signs_until_ms += 1), "both agree"),
        (
            changed(|it| std::mem::swap(&mut it.authority, &mut it.possession)),
            "both agree",
        ),
        (changed(|it| it.authority = "AAAA".to_owned()), "both agree"),
        (
            changed(|it| it.new_key = signer(3).verifier().to_string()),
            "both agree",
        ),
    ] {
        let mut history = first();
        let entry = Entry::CheckpointKeySuccession(refused);
        let refusal = take(&mut history, 4, &entry).unwrap_err();
        assert_eq!(refusal.code(), "key-statement");
        assert!(refusal.to_string().contains(words), "{refusal}");
        assert_eq!(history, first());
    }
}

#[test]
fn every_changed_byte_of_a_statement_is_noticed() {
    let entry = Entry::CheckpointKeySuccession(succession(&signer(0), &signer(1)));
    let bytes = entry.to_bytes();
    assert_eq!(Entry::parse(&bytes), Ok(entry.clone()));
    let Entry::CheckpointKeySuccession(statement) = &entry else {
        panic!("it was one a moment ago");
    };
    for (place, _) in bytes.iter().enumerate() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        let Ok(Entry::CheckpointKeySuccession(read)) = Entry::parse(&changed) else {
            continue;
        };
        // The envelope covers who asked and when; everything else both checkpoint keys cover.
        let is_of_the_request = (&read.request_id, read.created_at_ms, &read.client)
            != (
                &statement.request_id,
                statement.created_at_ms,
                &statement.client,
            );
        let taken = first().meet(
            LeafIndex::new(4),
            &entry_signer().verifier().key_id(),
            &Entry::CheckpointKeySuccession(read),
        );
        assert_eq!(taken.is_ok(), is_of_the_request, "byte {place}");
    }
}

#[test]
fn what_both_keys_sign_is_no_checkpoint() {
    use crate::keys::{Checkpoints, Signable};
    let message = format!(
        "retrace checkpoint key succession v1\n{}\n{}\n{UNTIL_MS}\n",
        signer(0).verifier().key_id(),
        signer(1).verifier()
    );
    assert!(Signable::<Checkpoints>::parse(message.into_bytes()).is_err());
}

#[test]
fn histories_agree_where_one_is_the_other_some_time_later() {
    let (before, mut after) = (first(), rotated());
    let earlier = after.clone();
    take(&mut after, 6, &revocation(&signer(0), 4)).unwrap();
    assert!(before.agrees_with(&after) && after.agrees_with(&before));
    assert!(earlier.agrees_with(&after));
    let mut other = first();
    let statement = Entry::CheckpointKeySuccession(succession(&signer(0), &signer(2)));
    take(&mut other, 4, &statement).unwrap();
    assert!(!other.agrees_with(&after) && !after.agrees_with(&other));
}
