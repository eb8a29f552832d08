//! What implementations by other people say about the same checkpoint, tiles and proofs: `signed_note`,
//! `tlog_tiles` and `ct-merkle`.

use std::fs;

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use provenance::merkle::{self, ProofNodes, consistency_nodes, inclusion_nodes};
use provenance::tile::{TileLevel, tiles};
use provenance::{Digest, LeafIndex, PublicKeys, SignedCheckpoint, Tile, TreeSize};
use sha2::Sha256;
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, TileHashReader, TileReader, check_record, check_tree, prove_record,
    prove_tree, record_hash, tree_hash,
};

use crate::{ENTRIES, Mirror};

/// Places at the borders of tiles and of subtrees.
const PLACES: [u64; 9] = [0, 1, 254, 255, 256, 511, 512, 598, 599];
const OLD_SIZES: [u64; 9] = [1, 2, 255, 256, 257, 512, 513, 599, 600];

/// Gives the other implementation the files of the mirror, whose paths it knows with a height.
struct Files<'a>(&'a Mirror);

fn path_of(tile: &tlog_tiles::Tile) -> String {
    let path = tile.path();
    let place = path.strip_prefix("tile/8/").unwrap();
    match place.strip_prefix("data/") {
        Some(place) => format!("tile/entries/{place}"),
        None => format!("tile/{place}"),
    }
}

impl TileReader for Files<'_> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, Error> {
        let read = |tile| fs::read(self.0.path(&format!("mirror/{}", path_of(tile)))).unwrap();
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn text(mirror: &Mirror, name: &str) -> String {
    fs::read_to_string(mirror.path(name)).unwrap()
}

/// The checkpoint, as the other implementations verify and read it.
fn verified(mirror: &Mirror, name: &str) -> Checkpoint {
    let keys = text(mirror, "retrace.pub");
    let key = StandardVerifier::new(keys.lines().nth(1).unwrap()).unwrap();
    let note = Note::from_bytes(text(mirror, name).as_bytes()).unwrap();
    let (valid, unknown) = note
        .verify(&VerifierList::new(vec![Box::new(key)]))
        .unwrap();
    assert_eq!((valid.len(), unknown.len()), (1, 0));
    Checkpoint::from_bytes(note.text()).unwrap()
}

/// Our proof, from the nodes that it names.
fn folded(mirror: &Mirror, nodes: &ProofNodes) -> Vec<Digest> {
    let hashes: Vec<Digest> = nodes.ids().iter().map(|id| mirror.hash_of(*id)).collect();
    nodes.fold(&hashes).unwrap()
}

fn inclusion(mirror: &Mirror, place: u64, size: u64) -> Vec<Digest> {
    let nodes = inclusion_nodes(LeafIndex::new(place), TreeSize::new(size)).unwrap();
    folded(mirror, &nodes)
}

fn consistency(mirror: &Mirror, old: u64, new: u64) -> Vec<Digest> {
    folded(
        mirror,
        &consistency_nodes(TreeSize::new(old), TreeSize::new(new)).unwrap(),
    )
}

fn theirs(hashes: &[Digest]) -> Vec<Hash> {
    hashes.iter().map(|hash| Hash(*hash.as_bytes())).collect()
}

fn bytes(hashes: &[Digest]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| *hash.as_bytes()).collect()
}

#[test]
fn the_checkpoint_is_a_signed_note_to_others_too() {
    let mirror = Mirror::new();
    let checkpoint = verified(&mirror, "mirror/checkpoint");
    let ours = SignedCheckpoint::parse(&text(&mirror, "mirror/checkpoint")).unwrap();
    let keys = PublicKeys::parse(&text(&mirror, "retrace.pub")).unwrap();
    let ours = ours.verify_sole(&keys.checkpoint).unwrap();
    assert_eq!(checkpoint.origin(), ours.origin);
    assert_eq!(checkpoint.size(), ours.tree_size.get());
    assert_eq!(checkpoint.hash().0, *ours.root_hash.as_bytes());
    assert_eq!(checkpoint.extension(), "");
}

#[test]
fn the_tiles_lead_others_to_the_same_root_and_the_same_proofs() {
    let mirror = Mirror::new();
    let checkpoint = verified(&mirror, "mirror/checkpoint");
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let files = Files(&mirror);
    // The reader believes a tile only once it leads to the root hash.
    let reader = TileHashReader::new(size, root, &files);
    assert_eq!(tree_hash(size, &reader).unwrap(), root);
    for place in PLACES {
        let proof = prove_record(size, place, &reader).unwrap();
        assert_eq!(proof, theirs(&inclusion(&mirror, place, size)), "{place}");
        let leaf = record_hash(&mirror.leaves[usize::try_from(place).unwrap()]);
        check_record(&proof, size, root, place, leaf).unwrap();
    }
    for old in OLD_SIZES {
        let proof = prove_tree(size, old, &reader).unwrap();
        assert_eq!(proof, theirs(&consistency(&mirror, old, size)), "{old}");
        let old_root = tree_hash(old, &reader).unwrap();
        check_tree(&proof, size, root, old, old_root).unwrap();
    }
    let old = verified(&mirror, "256.txt");
    assert_eq!(tree_hash(256, &reader).unwrap(), *old.hash());
}

#[test]
fn a_tile_that_was_changed_leads_others_nowhere() {
    let mirror = Mirror::new();
    let checkpoint = verified(&mirror, "mirror/checkpoint");
    // One of the tiles that the root is folded from.
    mirror.change("mirror/tile/0/002.p/88", |tile| tile[400] ^= 1);
    let files = Files(&mirror);
    let reader = TileHashReader::new(checkpoint.size(), *checkpoint.hash(), &files);
    assert!(prove_record(checkpoint.size(), 590, &reader).is_err());
}

#[test]
fn a_tree_in_memory_by_others_has_our_roots_and_accepts_our_proofs() {
    let mirror = Mirror::new();
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut roots = vec![tree.root()];
    for leaf in &mirror.leaves {
        tree.push(leaf.clone());
        roots.push(tree.root());
    }
    let checkpoint = verified(&mirror, "mirror/checkpoint");
    let root = tree.root();
    assert_eq!(root.as_bytes()[..], checkpoint.hash().0);
    for place in PLACES {
        let index = usize::try_from(place).unwrap();
        let ours = bytes(&inclusion(&mirror, place, ENTRIES));
        assert_eq!(ours, tree.prove_inclusion(index).as_bytes(), "{place}");
        let proof = ct_merkle::InclusionProof::try_from_bytes(ours).unwrap();
        root.verify_inclusion(&mirror.leaves[index], place, &proof)
            .unwrap();
    }
    for old in OLD_SIZES.into_iter().filter(|old| *old < ENTRIES) {
        let ours = bytes(&consistency(&mirror, old, ENTRIES));
        let additions = usize::try_from(ENTRIES - old).unwrap();
        assert_eq!(ours, tree.prove_consistency(additions).as_bytes(), "{old}");
        let proof = ct_merkle::ConsistencyProof::try_from_bytes(ours).unwrap();
        let old_root = &roots[usize::try_from(old).unwrap()];
        root.verify_consistency(old_root, &proof).unwrap();
    }
}

#[test]
fn the_usual_eight_leaves_have_the_same_roots_everywhere() {
    let leaves = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    let mut theirs = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    let mut ours = merkle::Appender::empty();
    let mut roots = vec![ours.root()];
    for leaf in leaves {
        let data: Vec<u8> = (0..leaf.len() / 2)
            .map(|place| u8::from_str_radix(&leaf[place * 2..place * 2 + 2], 16).unwrap())
            .collect();
        ours.append(merkle::leaf_hash(&data), &mut Vec::new())
            .unwrap();
        theirs.push(data);
        assert_eq!(theirs.root().as_bytes()[..], *ours.root().as_bytes());
        roots.push(ours.root());
    }
    let known = |size: usize, begin: &str, end: &str| {
        let root = roots[size].to_string();
        assert!(
            root.starts_with(begin) && root.ends_with(end),
            "{size}: {root}"
        );
    };
    known(0, "e3b0c442", "7852b855");
    known(1, "6e340b9c", "17afa01d");
    known(8, "5dc9da79", "f4604328");
}

#[test]
fn others_name_the_same_tiles_by_the_same_paths() {
    for size in [1, 255, 256, 257, 600, 65_536, 70_000, 256 * 256 * 3 + 5] {
        let mut paths: Vec<String> = tlog_tiles::Tile::new_tiles(8, 0, size)
            .iter()
            .map(path_of)
            .collect();
        let mut ours: Vec<String> = tiles(TreeSize::new(size))
            .filter(|tile| tile.level() != TileLevel::Entries)
            .map(|tile| tile.to_string())
            .collect();
        paths.sort();
        ours.sort();
        assert_eq!(ours, paths, "{size}");
    }
    for index in [0, 999, 1_000, 123_456_789, u64::MAX] {
        for width in [1, 255, 256] {
            let ours = Tile::new(TileLevel::Entries, index, width).unwrap();
            let theirs = tlog_tiles::Tile::new(8, 0, index, width.into(), true);
            assert_eq!(ours.to_string(), path_of(&theirs));
        }
    }
}
