//! What a superuser changed is found by verifying the whole ledger anew.

use ledger::{PROBLEMS_MAX, Problem};
use provenance::{Checkpoint, CheckpointSigner, Digest, LeafIndex, TreeSize};

use crate::support::{ORIGIN, TestLog, checkpoint_signer};

/// Breaks into a log of nine entries and answers with what the check says.
async fn problems_after(statements: &str) -> Vec<Problem> {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..9).await;
    sequencer.stop().await;
    assert!(log.ledger.check().await.unwrap().is_sound());
    log.break_in(statements).await;
    let problems = log.ledger.check().await.unwrap().problems;
    log.remove().await;
    problems
}

#[tokio::test]
async fn check_finds_a_flipped_byte_in_an_entry() {
    let problems = problems_after(
        "UPDATE entries SET envelope = set_byte(envelope, 100, get_byte(envelope, 100) # 1)
         WHERE leaf_index = 4",
    )
    .await;
    let leaf_index = LeafIndex::new(4);
    assert!(
        problems.contains(&Problem::LeafHash { leaf_index }),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(
            |problem| matches!(problem, Problem::Envelope { leaf_index: l, .. } if *l == leaf_index)
        ),
        "{problems:?}"
    );
    assert!(
        problems.contains(&Problem::Node {
            level: 0,
            node_index: 4
        }),
        "{problems:?}"
    );
    assert!(
        problems
            .iter()
            .any(|problem| matches!(problem, Problem::Root { .. })),
        "{problems:?}"
    );
}

#[tokio::test]
async fn check_finds_an_entry_that_was_exchanged_together_with_its_hashes() {
    // The envelope of entry 3 in the place of entry 4, with a fitting leaf hash and leaf node.
    let problems = problems_after(
        "ALTER TABLE entries DROP CONSTRAINT entries_leaf_hash_unique;
         ALTER TABLE entries DROP CONSTRAINT entries_request_unique;
         UPDATE entries SET envelope = other.envelope, leaf_hash = other.leaf_hash,
                request_id = other.request_id, image_sha256 = other.image_sha256,
                pixel_sha256 = other.pixel_sha256
         FROM entries AS other WHERE other.leaf_index = 3 AND entries.leaf_index = 4;
         UPDATE nodes SET hash = (SELECT leaf_hash FROM entries WHERE leaf_index = 4)
         WHERE level = 0 AND node_index = 4",
    )
    .await;
    assert!(
        problems
            .iter()
            .any(|problem| matches!(problem, Problem::Root { .. })),
        "{problems:?}"
    );
    assert!(
        problems.contains(&Problem::Node {
            level: 1,
            node_index: 2
        }),
        "{problems:?}"
    );
}

#[tokio::test]
async fn check_finds_a_changed_column() {
    let problems =
        problems_after("UPDATE entries SET client = 'mallory' WHERE leaf_index = 2").await;
    let leaf_index = LeafIndex::new(2);
    assert_eq!(problems, [Problem::Column { leaf_index }]);
}

#[tokio::test]
async fn check_finds_changed_missing_and_surplus_times_of_blocks() {
    let first = LeafIndex::new(0);
    for change in [
        "UPDATE entry_times SET first_ms = first_ms + 1, last_ms = last_ms + 1",
        "DELETE FROM entry_times",
    ] {
        assert_eq!(problems_after(change).await, [Problem::Times { first }]);
    }
    let first = LeafIndex::new(3 * 1024);
    let surplus = "INSERT INTO entry_times VALUES (3, 1, 2)";
    assert_eq!(problems_after(surplus).await, [Problem::Times { first }]);
}

#[tokio::test]
async fn check_finds_a_changed_a_missing_and_a_surplus_node() {
    let problems = problems_after(
        "UPDATE nodes SET hash = sha256(hash) WHERE level = 1 AND node_index = 1;
         DELETE FROM nodes WHERE level = 2 AND node_index = 0;
         INSERT INTO nodes VALUES (1, 4, sha256('')), (2, 2, sha256(''))",
    )
    .await;
    // Nine leaves have 9 + 4 + 2 + 1 complete subtrees; one went, two came.
    let expected = [
        Problem::Node {
            level: 1,
            node_index: 1,
        },
        Problem::Node {
            level: 2,
            node_index: 0,
        },
        Problem::SurplusNodes {
            expected: 16,
            found: 17,
        },
    ];
    assert_eq!(problems, expected);
}

#[tokio::test]
async fn check_finds_removed_entries() {
    let problems = problems_after("DELETE FROM entries WHERE leaf_index = 6").await;
    let leaf_index = LeafIndex::new(6);
    assert!(
        problems.contains(&Problem::MissingEntry { leaf_index }),
        "{problems:?}"
    );
    let problems = problems_after("DELETE FROM entries WHERE leaf_index >= 7").await;
    let (tree_size, entries) = (TreeSize::new(9), TreeSize::new(7));
    assert!(
        problems.contains(&Problem::Beyond { tree_size, entries }),
        "{problems:?}"
    );
}

#[tokio::test]
async fn check_finds_a_forged_checkpoint() {
    let problems = problems_after(
        "DELETE FROM checkpoints WHERE tree_size = 8;
         INSERT INTO checkpoints (tree_size, root_hash, note)
         SELECT 8, root_hash, note FROM checkpoints WHERE tree_size = 9",
    )
    .await;
    let [Problem::Checkpoint { tree_size, .. }] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert_eq!(*tree_size, TreeSize::new(8));
}

#[tokio::test]
async fn check_compares_with_checkpoints_that_were_kept_elsewhere() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..5).await;
    sequencer.stop().await;
    let checkpoint = |tree_size: u64| Checkpoint {
        origin: ORIGIN.to_owned(),
        tree_size: TreeSize::new(tree_size),
        root_hash: Digest::of(b"another history"),
    };
    let another_history = checkpoint(3).sign(&checkpoint_signer()).unwrap();
    let later = checkpoint(50).sign(&checkpoint_signer()).unwrap();
    let stranger = CheckpointSigner::from_seed(ORIGIN, [9; 32]).unwrap();
    let forged = checkpoint(2).sign(&stranger).unwrap();
    let report = log
        .ledger
        .check_against(&[another_history, later, forged])
        .await
        .unwrap();
    let found = |wanted: fn(&Problem) -> bool| report.problems.iter().filter(|p| wanted(p)).count();
    assert_eq!(found(|problem| matches!(problem, Problem::Root { .. })), 1);
    assert_eq!(
        found(|problem| matches!(problem, Problem::Beyond { .. })),
        1
    );
    assert_eq!(
        found(|problem| matches!(problem, Problem::Checkpoint { .. })),
        1
    );
    log.finish().await;
}

#[tokio::test]
async fn a_report_of_many_problems_is_cut_and_says_so() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..60).await;
    sequencer.stop().await;
    log.break_in("UPDATE nodes SET hash = sha256(hash)").await;
    let report = log.ledger.check().await.unwrap();
    assert_eq!(report.problems.len(), PROBLEMS_MAX);
    // 60 leaves have 60 + 30 + 15 + 7 + 3 + 1 complete subtrees.
    assert_eq!(report.problems_left_out, 116 - PROBLEMS_MAX as u64);
    log.remove().await;
}
