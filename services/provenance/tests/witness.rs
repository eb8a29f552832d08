//! A witness that is told the truth, and one that is lied to.

#![allow(clippy::unwrap_used, reason = "a test states by unwrap what must hold")]

use provenance::merkle::{Appender, NewNode, consistency_nodes};
use provenance::{
    AddCheckpoint, Checkpoint, CheckpointKeys, CheckpointSigner, Digest, ProvenanceError,
    SignedCheckpoint, TreeSize, WitnessSigner, WitnessVerifier,
};

const ORIGIN: &str = "retrace.test/log";
const TIME_S: u64 = 1_679_315_147;

/// A log of leaves whose data begins with a word, and every complete subtree over them.
struct Log {
    nodes: Vec<NewNode>,
    heads: Vec<Checkpoint>,
}

impl Log {
    fn of(word: &str, leaves: u64) -> Self {
        let mut tree = Appender::empty();
        let mut nodes = Vec::new();
        let head = |tree: &Appender| Checkpoint {
            origin: ORIGIN.to_owned(),
            tree_size: tree.size(),
            root_hash: tree.root(),
        };
        let mut heads = vec![head(&tree)];
        for number in 0..leaves {
            let leaf = Digest::of(format!("{word} {number}").as_bytes());
            tree.append(leaf, &mut nodes).unwrap();
            heads.push(head(&tree));
        }
        Self { nodes, heads }
    }

    fn signed(&self, size: usize) -> SignedCheckpoint {
        self.heads[size].clone().sign(&signer()).unwrap()
    }

    fn request(&self, old: u64, new: usize) -> AddCheckpoint {
        let old_size = TreeSize::new(old);
        let consistency_proof = match old {
            0 => Vec::new(),
            _ => {
                let plan = consistency_nodes(old_size, self.heads[new].tree_size).unwrap();
                let hash = |id| self.nodes.iter().find(|node| node.id == id).unwrap().hash;
                let hashes: Vec<Digest> = plan.ids().iter().map(|id| hash(*id)).collect();
                plan.fold(&hashes).unwrap()
            }
        };
        AddCheckpoint {
            old_size,
            consistency_proof,
            checkpoint: self.signed(new),
        }
    }
}

fn signer() -> CheckpointSigner {
    CheckpointSigner::from_seed(ORIGIN, [2; 32]).unwrap()
}

fn witness() -> WitnessSigner {
    WitnessSigner::from_seed("witness.test/w", [4; 32]).unwrap()
}

fn refusal(request: &AddCheckpoint, witnessed: Option<&Checkpoint>) -> &'static str {
    let admitted = request.admit(&signer().verifier().into(), witnessed);
    admitted.map_err(|refusal| refusal.code()).unwrap_err()
}

#[test]
fn a_checkpoint_that_continues_the_last_one_is_admitted() {
    let log = Log::of("leaf", 20);
    let verifier = CheckpointKeys::from(signer().verifier());
    for new in 0..=20 {
        let first = log.request(0, new);
        assert_eq!(first.admit(&verifier, None), Ok(&log.heads[new]));
        for old in 1..=new {
            let request = log.request(old as u64, new);
            let admitted = request.admit(&verifier, Some(&log.heads[old]));
            assert_eq!(admitted, Ok(&log.heads[new]), "{old} to {new}");
            assert_eq!(AddCheckpoint::parse(&request.to_string()), Ok(request));
        }
    }
    // A witness that saw the empty tree has seen nothing yet.
    let request = log.request(0, 5);
    assert!(request.admit(&verifier, Some(&log.heads[0])).is_ok());
}

#[test]
fn a_log_that_lies_to_its_witness_is_refused() {
    let log = Log::of("leaf", 20);
    let other = Log::of("another history", 20);
    let seen = Some(&log.heads[7]);
    assert_eq!(refusal(&log.request(5, 9), seen), "witnessed-size");
    assert_eq!(refusal(&log.request(0, 9), seen), "witnessed-size");
    assert_eq!(refusal(&log.request(7, 9), None), "witnessed-size");
    assert_eq!(refusal(&other.request(7, 7), seen), "witnessed-root");
    assert_eq!(refusal(&other.request(7, 9), seen), "old-root-mismatch");
    let mut mixed = log.request(7, 9);
    mixed.checkpoint = other.signed(9);
    assert_eq!(refusal(&mixed, seen), "root-mismatch");
    let mut smaller = log.request(7, 9);
    smaller.checkpoint = log.signed(6);
    assert_eq!(refusal(&smaller, seen), "tree-shrank");
    let mut long = log.request(7, 9);
    long.consistency_proof.push(Digest::of(b""));
    assert_eq!(refusal(&long, seen), "proof-length");
    let mut needless = log.request(0, 9);
    needless.consistency_proof.push(Digest::of(b""));
    assert_eq!(refusal(&needless, None), "proof-length");
    let stranger = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
    let mut forged = log.request(7, 9);
    forged.checkpoint = log.heads[9].clone().sign(&stranger).unwrap();
    assert_eq!(refusal(&forged, seen), "checkpoint-key-unseen");
}

#[test]
fn a_cosignature_covers_checkpoint_and_time_and_is_no_signature_of_the_log() {
    let log = Log::of("leaf", 5);
    let witness = witness();
    let signed = log.signed(5);
    let cosigned = signed.with_line(&witness.cosign(&signed, TIME_S)).unwrap();
    assert_eq!(cosigned.signature_count(), 2);
    assert_eq!(witness.verifier().verify(&cosigned), Ok(TIME_S));
    cosigned.verify(&signer().verifier()).unwrap();
    assert_eq!(
        SignedCheckpoint::parse(&cosigned.text()).as_ref(),
        Ok(&cosigned)
    );

    let without = witness.verifier().verify(&signed).unwrap_err();
    assert!(matches!(without, ProvenanceError::UnknownKey { .. }));
    // The line of another checkpoint, and one with another time.
    let foreign = log
        .signed(4)
        .with_line(&witness.cosign(&signed, TIME_S))
        .unwrap();
    let refused = witness.verifier().verify(&foreign).unwrap_err();
    assert_eq!(refused.code(), "signature-invalid");
    let text = cosigned.text();
    for place in 0..text.len() {
        let mut bytes = text.clone().into_bytes();
        bytes[place] ^= 1;
        let Ok(changed) = String::from_utf8(bytes) else {
            continue;
        };
        let holds = SignedCheckpoint::parse(&changed).is_ok_and(|changed| {
            changed.verify(&signer().verifier()).is_ok()
                && witness.verifier().verify(&changed) == Ok(TIME_S)
        });
        assert!(!holds, "byte {place}");
    }
    // The same seed under the same name is another key for another purpose.
    let as_log = CheckpointSigner::from_seed("witness.test/w", [4; 32]).unwrap();
    assert!(
        as_log
            .verifier()
            .to_string()
            .parse::<WitnessVerifier>()
            .is_err()
    );
    let text = witness.verifier().to_string();
    assert_eq!(
        text.parse::<WitnessVerifier>().as_ref(),
        Ok(witness.verifier())
    );
}

#[test]
fn a_request_has_one_spelling() {
    let request = Log::of("leaf", 9).request(3, 9).to_string();
    for refused in [
        request.replace("old 3", "old 03"),
        request.replace("old 3", "old -3"),
        request.replace("old 3", "size 3"),
        request.replace("old 3\n", "old 3\n\n"),
        request.replace('\n', "\r\n"),
        request.replacen(
            "old 3\n",
            &format!(
                "old 3\n{}",
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n".repeat(64)
            ),
            1,
        ),
        format!(" {request}"),
        String::new(),
        "old 3\n".to_owned(),
    ] {
        assert!(AddCheckpoint::parse(&refused).is_err(), "{refused:?}");
    }
}
