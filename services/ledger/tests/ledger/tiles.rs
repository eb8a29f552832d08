//! The log as files, and walks over all of it.

use ledger::{EntryFilter, PAGE_ENTRIES_MAX};
use provenance::merkle::{Appender, leaf_hash};
use provenance::tile::{TILE_WIDTH, entry_bundles, parse_entry_bundle, parse_hash_tile, tiles};
use provenance::{LeafIndex, Tile, TileLevel, TreeSize};

use crate::support::{TestLog, numbered, public_keys};

/// More than a full tile, and more than a page of a walk.
const ENTRIES: usize = PAGE_ENTRIES_MAX as usize + 30;

async fn read(log: &TestLog, tile: Tile) -> Vec<u8> {
    let bytes = log.ledger.tile(tile).await.unwrap();
    bytes.unwrap_or_else(|| panic!("{tile} is published"))
}

#[tokio::test]
async fn the_tiles_of_a_log_hold_its_entries_and_the_hashes_that_follow_from_them() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..ENTRIES).await;
    let signed = log.ledger.latest_checkpoint().await.unwrap().unwrap();
    let checkpoint = signed.verify(&public_keys().checkpoint).unwrap();
    let size = checkpoint.tree_size;
    assert_eq!(size, TreeSize::new(ENTRIES as u64));

    let mut appender = Appender::empty();
    let mut nodes = Vec::new();
    for bundle in entry_bundles(size) {
        let bytes = read(&log, bundle).await;
        for entry in parse_entry_bundle(&bytes, bundle.width()).unwrap() {
            appender.append(leaf_hash(entry), &mut nodes).unwrap();
        }
    }
    assert_eq!(appender.root(), checkpoint.root_hash);
    for tile in tiles(size).filter(|tile| tile.level() != TileLevel::Entries) {
        let bytes = read(&log, tile).await;
        let hashes = parse_hash_tile(&bytes, tile.width()).unwrap();
        for (id, hash) in tile.nodes().zip(hashes) {
            let node = nodes.iter().find(|node| node.id == id).unwrap();
            assert_eq!(node.hash, hash, "{id:?} of {tile}");
        }
    }
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_tile_is_there_once_a_checkpoint_covers_all_of_it_and_never_changes() {
    let (log, sequencer) = TestLog::running().await;
    let partial = |level, width| Tile::new(level, 0, width).unwrap();
    for level in [TileLevel::Entries, TileLevel::Hashes(0)] {
        assert_eq!(log.ledger.tile(partial(level, 1)).await.unwrap(), None);
    }
    log.append_numbered(0..5).await;
    let before = read(&log, partial(TileLevel::Entries, 5)).await;
    for absent in [
        partial(TileLevel::Entries, 6),
        partial(TileLevel::Entries, TILE_WIDTH),
        partial(TileLevel::Hashes(0), 6),
        partial(TileLevel::Hashes(1), 1),
        partial(TileLevel::Hashes(63), 1),
        Tile::new(TileLevel::Hashes(0), u64::MAX, 1).unwrap(),
        Tile::new(TileLevel::Entries, 1, 1).unwrap(),
    ] {
        assert_eq!(log.ledger.tile(absent).await.unwrap(), None, "{absent}");
    }
    log.append_numbered(5..9).await;
    assert_eq!(read(&log, partial(TileLevel::Entries, 5)).await, before);
    let wider = read(&log, partial(TileLevel::Entries, 9)).await;
    assert_eq!(wider[..before.len()], before);
    sequencer.stop().await;
    log.finish().await;
}

#[tokio::test]
async fn a_damaged_tile_is_refused_and_not_served() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..3).await;
    sequencer.stop().await;
    log.break_in("DELETE FROM nodes WHERE level = 0 AND node_index = 1")
        .await;
    let tile = Tile::new(TileLevel::Hashes(0), 0, 3).unwrap();
    let refused = log.ledger.tile(tile).await.unwrap_err();
    assert!(refused.to_string().contains("damaged"), "{refused}");
    log.remove().await;
}

#[tokio::test]
async fn a_walk_meets_every_entry_once_and_none_that_came_after_its_checkpoint() {
    let (log, sequencer) = TestLog::running().await;
    log.append_numbered(0..ENTRIES).await;
    let filter = EntryFilter::default();
    let mut walk = log.ledger.walk(filter.clone(), None).await.unwrap();
    let first = walk.next_page().await.unwrap();
    assert_eq!(first.len(), PAGE_ENTRIES_MAX as usize);
    log.append_numbered(ENTRIES..ENTRIES + 2).await;
    let mut met = first;
    loop {
        let page = walk.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        met.extend(page);
    }
    let places: Vec<u64> = met.iter().map(|entry| entry.leaf_index.get()).collect();
    let expected: Vec<u64> = (0..ENTRIES as u64).collect();
    assert_eq!(places, expected);
    assert_eq!(
        walk.checkpoint().unverified().tree_size.get(),
        ENTRIES as u64
    );

    let one = EntryFilter {
        request_id: Some("request-7".to_owned()),
        ..filter
    };
    let size = Some(TreeSize::new(ENTRIES as u64));
    let mut walk = log.ledger.walk(one, size).await.unwrap();
    let found = walk.next_page().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].envelope, numbered(7));
    assert_eq!(found[0].leaf_hash, numbered(7).leaf_hash());
    assert!(
        met.iter()
            .any(|entry| entry.leaf_index == found[0].leaf_index)
    );
    assert_eq!(met[0].leaf_index, LeafIndex::new(0));
    assert!(walk.next_page().await.unwrap().is_empty());
    sequencer.stop().await;
    log.finish().await;
}
