//! Paths, ranges and bytes of tiles.

use super::*;

fn hashes(level: u8, index: u64, width: u16) -> Tile {
    Tile::new(TileLevel::Hashes(level), index, width).unwrap()
}

fn entries(index: u64, width: u16) -> Tile {
    Tile::new(TileLevel::Entries, index, width).unwrap()
}

#[test]
fn a_tile_is_written_as_the_specification_says_and_read_back() {
    for (tile, path) in [
        (hashes(0, 0, 256), "tile/0/000"),
        (hashes(0, 1_234_067, 256), "tile/0/x001/x234/067"),
        (hashes(3, 999, 1), "tile/3/999.p/1"),
        (hashes(1, 1_000, 255), "tile/1/x001/000.p/255"),
        (hashes(63, 5, 256), "tile/63/005"),
        (entries(1_234_067, 256), "tile/entries/x001/x234/067"),
        (entries(0, 17), "tile/entries/000.p/17"),
        (
            entries(u64::MAX, 256),
            "tile/entries/x018/x446/x744/x073/x709/x551/615",
        ),
    ] {
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse(), Ok(tile));
    }
}

#[test]
fn a_path_in_any_other_spelling_is_refused() {
    for refused in [
        "",
        "/",
        "0",
        "0/",
        "0/0",
        "0/00",
        "0/0000",
        "0/1000",
        "00/000",
        "64/000",
        "256/000",
        "300/000",
        "-1/000",
        "+0/000",
        "a/000",
        "entry/000",
        "data/000",
        "Entries/000",
        "0/x000/000",
        "0/x000/x000/001",
        "0/x001",
        "0/001/000",
        "0/x001/x000",
        "0/X001/000",
        "0/x0001/000",
        "0/xx01/000",
        "0/+01",
        "0/-01",
        "0/ 01",
        "0/٠٠٠",
        "0/000/",
        "0//000",
        "/0/000",
        "0/000.p",
        "0/000.p/",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/257",
        "0/000.p/01",
        "0/000.p/+1",
        "0/000.p/-1",
        "0/000.p/1/",
        "0/000.p/1.p/1",
        "0/000.P/1",
        "0/000p/1",
        "0/000.p/65537",
        "0/x001.p/1/000",
        "0/000.p/18446744073709551617",
        "0/x018/x446/x744/x073/x709/x551/616",
        "0/x999/x999/x999/x999/x999/x999/999",
        "0/000?",
        "0/000#",
        "0/%30%30%30",
        "0/..",
        "../0/000",
        "0/000\0",
        "0/000\n",
    ] {
        assert!(Tile::parse(refused).is_err(), "{refused:?}");
    }
    assert!(Tile::parse(&"x001/".repeat(1_000)).is_err());
    assert!("0/000".parse::<Tile>().is_err());
}

#[test]
fn every_single_change_of_a_path_is_refused_or_names_another_tile() {
    let path = "12/x001/x234/067.p/25";
    let tile = Tile::parse(path).unwrap();
    for place in 0..path.len() {
        for byte in 0..=0x7f {
            let mut changed = path.as_bytes().to_vec();
            changed[place] = byte;
            let changed = String::from_utf8(changed).unwrap();
            match Tile::parse(&changed) {
                Ok(other) => {
                    assert_eq!(other == tile, changed == path);
                    assert_eq!(other.to_string(), format!("tile/{changed}"));
                }
                Err(error) => assert!(["malformed", "not-canonical"].contains(&error.code())),
            }
        }
    }
}

#[test]
fn a_tree_is_made_of_the_tiles_that_the_specification_counts() {
    let count = |size, level| {
        let tiles = tiles(TreeSize::new(size)).filter(|tile| tile.level() == level);
        let (full, partial): (Vec<Tile>, Vec<Tile>) = tiles.partition(|tile| tile.is_full());
        let widths: Vec<u16> = partial.into_iter().map(Tile::width).collect();
        (full.len(), widths)
    };
    // The example of the specification: a tree of 70,000.
    assert_eq!(count(70_000, TileLevel::Hashes(0)), (273, vec![112]));
    assert_eq!(count(70_000, TileLevel::Hashes(1)), (1, vec![17]));
    assert_eq!(count(70_000, TileLevel::Hashes(2)), (0, vec![1]));
    assert_eq!(count(70_000, TileLevel::Hashes(3)), (0, vec![]));
    assert_eq!(count(70_000, TileLevel::Entries), (273, vec![112]));
    assert_eq!(count(256, TileLevel::Hashes(0)), (1, vec![]));
    assert_eq!(count(256, TileLevel::Hashes(1)), (0, vec![1]));
    assert_eq!(tiles(TreeSize::new(0)).count(), 0);
    assert!(entry_bundles(TreeSize::new(300)).eq([entries(0, 256), entries(1, 44)]));
}

#[test]
fn a_tile_is_within_the_trees_that_have_all_of_it() {
    for size in [1, 2, 255, 256, 257, 65_535, 65_536, 70_000] {
        let size = TreeSize::new(size);
        for tile in tiles(size) {
            assert!(tile.is_within(size), "{tile} in {size}");
            let range = tile.range().unwrap();
            assert_eq!(tile_of(tile.level(), range.end - 1, size), Some(tile));
            if !tile.is_full() {
                let wider = Tile::new(tile.level(), tile.index(), tile.width() + 1).unwrap();
                assert!(!wider.is_within(size), "{wider} in {size}");
                assert_eq!(tile_of(tile.level(), range.end, size), None);
            }
        }
    }
    let largest = TreeSize::new(u64::MAX);
    assert!(hashes(7, 0, 255).is_within(largest));
    assert!(!hashes(7, 0, 256).is_within(largest));
    assert!(!hashes(8, 0, 1).is_within(largest));
    assert!(!hashes(63, 0, 1).is_within(largest));
    assert!(!entries(u64::MAX, 1).is_within(largest));
    assert_eq!(hashes(8, 0, 1).nodes().count(), 0);
    let nodes: Vec<NodeId> = hashes(1, 2, 2).nodes().collect();
    assert_eq!(nodes, [NodeId::new(8, 512), NodeId::new(8, 513)]);
}

#[test]
fn a_bundle_gives_back_its_entries_and_no_other_bytes_do() {
    let data: [&[u8]; 3] = [b"", b"one", &[7; 65_535]];
    let bundle = entry_bundle(data).unwrap();
    assert_eq!(bundle[..7], [0, 0, 0, 3, b'o', b'n', b'e']);
    assert_eq!(parse_entry_bundle(&bundle, 3).unwrap(), data);
    for width in [1, 2, 4, 256] {
        assert!(parse_entry_bundle(&bundle, width).is_err(), "{width}");
    }
    for length in 0..bundle.len().min(100) {
        assert!(
            parse_entry_bundle(&bundle[..length], 3).is_err(),
            "{length}"
        );
    }
    let longer = [&bundle[..], &[0]].concat();
    assert!(parse_entry_bundle(&longer, 3).is_err());
    assert!(entry_bundle([&[0; 65_536][..]]).is_err());
}

#[test]
fn a_hash_tile_has_exactly_as_many_bytes_as_its_width_says() {
    let hash = Digest::of(b"leaf");
    let tile = hash_tile(&[hash, hash]);
    assert_eq!(parse_hash_tile(&tile, 2), Ok(vec![hash, hash]));
    assert!(parse_hash_tile(&tile, 1).is_err());
    assert!(parse_hash_tile(&tile, 3).is_err());
    assert!(parse_hash_tile(&tile[1..], 2).is_err());
}
