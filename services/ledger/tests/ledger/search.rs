//! Reading: pages, look-ups, proofs.

use ledger::{EntryFilter, LedgerError, Order, PAGE_ENTRIES_MAX};
use provenance::merkle::{verify_consistency, verify_inclusion};
use provenance::{Digest, LeafIndex, TreeSize};

use crate::support::{TestLog, generation, numbered, public_keys, score, signed};

async fn pages(log: &TestLog, filter: &EntryFilter, limit: u32) -> Vec<u64> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = log.ledger.search(filter, after, limit).await.unwrap();
        let size = page.checkpoint.unwrap().unverified().tree_size;
        assert!(
            page.entries
                .iter()
                .all(|entry| size.contains(entry.leaf_index))
        );
        found.extend(page.entries.iter().map(|entry| entry.leaf_index.get()));
        after = page.next;
        if after.is_none() {
            return found;
        }
        assert_eq!(page.entries.len(), limit as usize);
    }
}

#[tokio::test]
async fn pages_run_through_all_entries_once_in_both_orders() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..23).await;
    for limit in [1, 5, 23, 100] {
        let mut filter = EntryFilter::default();
        let newest_first: Vec<u64> = (0..23).rev().collect();
        assert_eq!(pages(&log, &filter, limit).await, newest_first);
        filter.order = Order::Ascending;
        let oldest_first: Vec<u64> = (0..23).collect();
        assert_eq!(pages(&log, &filter, limit).await, oldest_first);
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_text_that_postgres_cannot_hold_finds_nothing() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..1).await;
    let text = || Some("alice\0".to_owned());
    let filter = EntryFilter::default;
    for filter in [
        EntryFilter {
            kind: text(),
            ..filter()
        },
        EntryFilter {
            client: text(),
            ..filter()
        },
        EntryFilter {
            request_id: text(),
            ..filter()
        },
        EntryFilter {
            model_name: text(),
            ..filter()
        },
        EntryFilter {
            verdict: text(),
            ..filter()
        },
    ] {
        let page = log.ledger.search(&filter, None, 10).await.unwrap();
        assert!(page.entries.is_empty(), "{filter:?}");
        assert!(page.checkpoint.is_some());
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn each_condition_finds_exactly_the_entries_that_meet_it() {
    let (log, sequencer) = TestLog::running().await;
    let mut early = generation("alice", "early");
    early.created_at_ms = 1_000;
    early.prompt_commitment = Digest::of(b"prompt of early");
    let mut other_model = generation("bob", "other-model");
    other_model.model.name = "photo".to_owned();
    other_model.model.digest = Digest::of(b"photo model");
    for envelope in [
        signed(early),
        signed(other_model),
        signed(score("alice", "scored")),
    ] {
        log.ledger.append(&envelope, None).await.unwrap();
    }
    let filter = EntryFilter::default;
    let cases = [
        (
            EntryFilter {
                created_until_ms: Some(1_001),
                ..filter()
            },
            vec![0],
        ),
        (
            EntryFilter {
                created_from_ms: Some(1_001),
                ..filter()
            },
            vec![2, 1],
        ),
        (
            EntryFilter {
                kind: Some("score".into()),
                ..filter()
            },
            vec![2],
        ),
        (
            EntryFilter {
                client: Some("alice".into()),
                ..filter()
            },
            vec![2, 0],
        ),
        (
            EntryFilter {
                request_id: Some("early".into()),
                ..filter()
            },
            vec![0],
        ),
        (
            EntryFilter {
                model_name: Some("photo".into()),
                ..filter()
            },
            vec![1],
        ),
        (
            EntryFilter {
                model_digest: Some(Digest::of(b"model")),
                ..filter()
            },
            vec![0],
        ),
        (
            EntryFilter {
                image_sha256: Some(Digest::of(b"early")),
                ..filter()
            },
            vec![0],
        ),
        (
            EntryFilter {
                pixel_sha256: Some(Digest::of(b"pixels of early")),
                ..filter()
            },
            vec![0],
        ),
        (
            EntryFilter {
                verdict: Some("inconclusive".into()),
                ..filter()
            },
            vec![2],
        ),
        (
            EntryFilter {
                prompt_commitment: Some(Digest::of(b"prompt of early")),
                ..filter()
            },
            vec![0],
        ),
        (
            EntryFilter {
                kind: Some("score".into()),
                client: Some("bob".into()),
                ..filter()
            },
            vec![],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(pages(&log, &filter, 10).await, expected, "{filter:?}");
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_log_from_before_prompt_commitments_were_searched_gets_them_from_its_envelopes() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..5).await;
    let score = signed(score("alice", "scored"));
    log.ledger.append(&score, None).await.unwrap();
    sequencer.stop().await;
    log.break_in("ALTER TABLE entries DROP COLUMN prompt_commitment CASCADE")
        .await;
    log.break_in(include_str!(
        "../../../../migrations/0009_prompt_commitments.sql"
    ))
    .await;
    assert_eq!(log.ledger.check().await.unwrap().problems, []);
    log.break_in("UPDATE entries SET prompt_commitment = sha256('x') WHERE leaf_index = 5")
        .await;
    let problems = log.ledger.check().await.unwrap().problems;
    let leaf_index = LeafIndex::new(5);
    assert_eq!(problems, [ledger::Problem::Column { leaf_index }]);
    log.remove().await;
}

#[tokio::test]
async fn a_page_of_nothing_or_of_too_much_is_refused() {
    let log = TestLog::start().await;
    for limit in [0, PAGE_ENTRIES_MAX + 1] {
        let refused = log
            .ledger
            .search(&EntryFilter::default(), None, limit)
            .await;
        assert!(
            matches!(refused, Err(LedgerError::PageSize { .. })),
            "{refused:?}"
        );
    }
    let page = log
        .ledger
        .search(&EntryFilter::default(), None, 1)
        .await
        .unwrap();
    assert_eq!(
        (page.entries.len(), page.checkpoint, page.next),
        (0, None, None)
    );
    log.finish().await;
}

#[tokio::test]
async fn images_and_pixels_are_found_by_their_digests() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..4).await;
    let image = Digest::of(b"request-2");
    let pixels = Digest::of(b"pixels of request-2");
    let [found] = &log.ledger.find_image(&image).await.unwrap()[..] else {
        panic!("one entry has this image");
    };
    assert_eq!(found.envelope, numbered(2));
    let same = log.ledger.find_pixels(&pixels).await.unwrap();
    assert_eq!(same[..], *std::slice::from_ref(found));
    assert_eq!(log.ledger.find_pixels(&image).await.unwrap(), []);
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn every_entry_and_every_pair_of_checkpoints_is_proved() {
    let (log, sequencer) = TestLog::running().await;
    for number in 0..12 {
        log.append_numbered(number..number + 1).await;
    }
    let mut checkpoints = Vec::new();
    for size in 1..=12 {
        let signed = log.ledger.checkpoint(TreeSize::new(size)).await.unwrap();
        checkpoints.push(signed.unverified().clone());
    }
    for checkpoint in &checkpoints {
        for index in 0..checkpoint.tree_size.get() {
            let index = LeafIndex::new(index);
            let bundle = log
                .ledger
                .bundle(index, Some(checkpoint.tree_size))
                .await
                .unwrap();
            bundle.verify(&public_keys()).unwrap();
            let leaf_hash = bundle.envelope().leaf_hash();
            let proof = log
                .ledger
                .inclusion_proof(index, checkpoint.tree_size)
                .await
                .unwrap();
            verify_inclusion(&leaf_hash, index, &checkpoint.tree_head(), &proof).unwrap();
        }
    }
    for (place, old) in checkpoints.iter().enumerate() {
        for new in &checkpoints[place..] {
            let proof = log
                .ledger
                .consistency_proof(old.tree_size, new.tree_size)
                .await
                .unwrap();
            verify_consistency(&old.tree_head(), &new.tree_head(), &proof).unwrap();
        }
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn what_is_not_published_is_not_proved() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    let (inside, outside) = (LeafIndex::new(2), LeafIndex::new(3));
    let (published, later) = (TreeSize::new(3), TreeSize::new(4));
    let ledger = &log.ledger;
    assert!(matches!(
        ledger.entry(outside).await,
        Err(LedgerError::NoSuchEntry { .. })
    ));
    assert!(matches!(
        ledger.bundle(outside, None).await,
        Err(LedgerError::NoSuchEntry { .. })
    ));
    assert!(matches!(
        ledger.inclusion_proof(inside, TreeSize::new(2)).await,
        Err(LedgerError::NoSuchEntry { .. })
    ));
    assert!(matches!(
        ledger.inclusion_proof(inside, later).await,
        Err(LedgerError::NoSuchCheckpoint { .. })
    ));
    assert!(matches!(
        ledger.bundle(inside, Some(later)).await,
        Err(LedgerError::NoSuchCheckpoint { .. })
    ));
    assert!(matches!(
        ledger.consistency_proof(published, later).await,
        Err(LedgerError::NoSuchCheckpoint { .. })
    ));
    assert!(matches!(
        ledger.consistency_proof(published, TreeSize::new(2)).await,
        Err(LedgerError::Provenance(_))
    ));
    let far = LeafIndex::new(u64::MAX);
    assert!(matches!(
        ledger.entry(far).await,
        Err(LedgerError::NoSuchEntry { .. })
    ));
    sequencer.stop().await;
    log.finish().await;
}

/// Times are claims: they need not rise along the log, and what a search by time leaves out unread must hold
/// none of them.
#[tokio::test]
async fn a_search_by_time_is_complete_over_blocks_and_with_times_out_of_order() {
    const ENTRIES: u64 = 2_300;
    let (log, sequencer) = TestLog::running().await;
    let time_of = |number: u64| match number % 701 {
        0 => 50_000 - number,
        350 => 9_000_000 + number,
        _ => 100_000 + 10 * number,
    };
    let appends: Vec<_> = (0..ENTRIES)
        .map(|number| {
            let mut entry = generation("alice", &format!("request-{number}"));
            entry.created_at_ms = time_of(number);
            let ledger = log.ledger.clone();
            tokio::spawn(async move { ledger.append(&signed(entry), None).await })
        })
        .collect();
    let mut times = vec![0; ENTRIES as usize];
    for (number, append) in (0..).zip(appends) {
        let appended = append.await.unwrap().unwrap();
        times[appended.leaf_index.get() as usize] = time_of(number);
    }
    for (from, until) in [
        (None, Some(60_000)),
        (None, Some(100_100)),
        (Some(100_000), Some(100_500)),
        (Some(110_200), Some(110_300)),
        (Some(122_000), Some(9_000_400)),
        (Some(9_000_000), None),
        (Some(40_000), Some(9_100_000)),
        (Some(200_000), Some(300_000)),
    ] {
        for order in [Order::Ascending, Order::Descending] {
            let filter = EntryFilter {
                created_from_ms: from,
                created_until_ms: until,
                order,
                ..EntryFilter::default()
            };
            let is_within = |time: u64| {
                from.is_none_or(|from| time >= from) && until.is_none_or(|until| time < until)
            };
            let mut expected: Vec<u64> = (0..ENTRIES)
                .filter(|place| is_within(times[*place as usize]))
                .collect();
            if order == Order::Descending {
                expected.reverse();
            }
            assert_eq!(pages(&log, &filter, 300).await, expected);
        }
    }
    assert!(log.ledger.check().await.unwrap().is_sound());
    sequencer.stop().await;
    log.finish().await;
}
