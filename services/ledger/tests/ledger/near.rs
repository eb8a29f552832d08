//! Near matches: perceptual hashes of entries, searched from any process.

use ledger::{EntryFilter, Ledger, LedgerError, LedgerOptions, Likeness, Near};
use provenance::{
    Digest, GenerationDetails, GenerationEntry, LeafIndex, NEAR_DISTANCE_MAX, Neighbour,
    PerceptualAlgorithm, RecordedNoise, RecordedPerceptualHash, RecordedTask,
};

use crate::support::{TestLog, generation, public_keys, signed};

/// A generation that states this hash.
pub fn hashed(request_id: &str, hash: [u8; 32], quality: u8) -> GenerationEntry {
    let details = GenerationDetails {
        noise_source: RecordedNoise::ChaCha20,
        initial_latents_sha256: None,
        task: RecordedTask::TextToImage,
        strength: None,
        sources: Vec::new(),
        watermark: "none".to_owned(),
        settings: Default::default(),
        perceptual_hash: Some(RecordedPerceptualHash {
            algorithm: PerceptualAlgorithm::Pdq,
            hash: Digest::from_bytes(hash),
            quality,
        }),
    };
    GenerationEntry {
        details: Some(details),
        ..generation("anna", request_id)
    }
}

fn flipped(hash: [u8; 32], bits: usize) -> [u8; 32] {
    let mut hash = hash;
    for bit in 0..bits {
        hash[bit * 8 % 32] ^= 1 << (bit / 4 % 8);
    }
    hash
}

#[tokio::test]
async fn an_entry_is_found_by_the_bits_of_its_image_and_by_other_processes_too() {
    let (log, sequencer) = TestLog::running().await;
    let url = log.cluster.database_url(&log.database);
    let other = Ledger::connect(&LedgerOptions::new(url, public_keys()))
        .await
        .unwrap();
    let _watch = other.watch_near();
    let hash = *Digest::of(b"one").as_bytes();
    let far = *Digest::of(b"two").as_bytes();
    // Before anything is recorded there is nothing, and the index goes on from there.
    assert_eq!(other.find_near(&[hash], 31).await.unwrap(), [vec![]]);
    for (request_id, hash) in [("a", hash), ("b", far), ("c", flipped(hash, 7))] {
        log.ledger
            .append(&signed(hashed(request_id, hash, 80)), None)
            .await
            .unwrap();
    }
    log.ledger
        .append(&signed(generation("anna", "d")), None)
        .await
        .unwrap();
    let expected = [(0, 0), (7, 2)].map(|(distance, leaf_index)| Neighbour {
        distance,
        leaf_index,
        quality: 80,
    });
    for ledger in [&log.ledger, &other] {
        let found = ledger
            .find_near(&[hash, *Digest::of(b"three").as_bytes()], 31)
            .await
            .unwrap();
        assert_eq!(found, [expected.to_vec(), vec![]]);
        assert_eq!(
            ledger.find_near(&[hash], 6).await.unwrap()[0],
            expected[..1]
        );
        let like = |to| EntryFilter {
            near: Some(Near {
                to,
                distance_max: 31,
            }),
            ..EntryFilter::default()
        };
        // By the hash itself, or by an entry that states it or one near to it.
        let entry = |place| Likeness::Entry(LeafIndex::new(place));
        for to in [Likeness::Hash(hash), entry(0), entry(2)] {
            let page = ledger.search(&like(to), None, 1).await.unwrap();
            assert_eq!(page.entries[0].leaf_index.get(), 2);
            let last = ledger.search(&like(to), page.next, 5).await.unwrap();
            assert_eq!((last.entries[0].leaf_index.get(), last.next), (0, None));
        }
        for place in [3, 4] {
            let refused = ledger.search(&like(entry(place)), None, 1).await;
            let refused = refused.map(|page| page.entries.len());
            assert!(
                matches!(refused, Err(LedgerError::NoPerceptualHash { .. })),
                "{refused:?}"
            );
        }
        let refused = ledger.find_near(&[hash], NEAR_DISTANCE_MAX + 1).await;
        assert!(matches!(refused, Err(LedgerError::Distance { .. })));
    }
    other.close().await;
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn the_check_finds_hashes_that_were_changed_taken_away_or_added() {
    let (log, sequencer) = TestLog::running().await;
    for n in 0..3_u8 {
        let entry = hashed(&format!("request {n}"), [n; 32], 50);
        log.ledger.append(&signed(entry), None).await.unwrap();
    }
    log.ledger
        .append(&signed(generation("anna", "plain")), None)
        .await
        .unwrap();
    sequencer.stop().await;
    for change in [
        "UPDATE perceptual_hashes SET hash = sha256(hash) WHERE leaf_index = 1",
        "DELETE FROM perceptual_hashes WHERE leaf_index = 0",
        "INSERT INTO perceptual_hashes VALUES (3, sha256('x'), 1)",
    ] {
        let before = log.ledger.check().await.unwrap().problems.len();
        log.break_in(change).await;
        let after = log.ledger.check().await.unwrap().problems.len();
        assert_eq!(after, before + 1, "{change}");
    }
    log.remove().await;
}
