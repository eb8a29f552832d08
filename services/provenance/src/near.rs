//! Exact search for perceptual hashes within a Hamming distance, in memory.
//!
//! Multi-index hashing (Norouzi, Punjani and Fleet, 2012): a hash is cut into slots, and each slot has a
//! table from its bits to the hashes that have them. Two hashes that differ in `d` bits differ in at most
//! `d / slots` bits, rounded down, in at least one slot. So looking up every value that close in every
//! slot meets all of them, and comparing in full drops the others.

use std::sync::Arc;

/// Greatest distance that can be asked for: the convention for PDQ.
pub const NEAR_DISTANCE_MAX: u32 = 31;
/// Up to here a plain scan takes less than a tenth of a millisecond, and tables are not worth their
/// memory.
const SCAN_MAX: usize = 1 << 15;
/// From here on tables of 2^16 places are so full that more and longer look-ups pay.
const SHORT_SLOTS_MAX: usize = 1 << 21;

/// A hash as four words.
type Words = [u64; 4];

/// A hash that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Bits that differ.
    pub distance: u32,
    /// Leaf index of its entry.
    pub leaf_index: u64,
    /// Quality of the recorded hash, 0 to 100.
    pub quality: u8,
}

/// Hashes with the leaf indexes of their entries. A large part has tables; what came since is scanned.
#[derive(Clone, Debug, Default)]
pub struct NearIndex {
    indexed: Arc<Indexed>,
    fresh: Hashes,
}

/// Hashes, leaf indexes and qualities, place by place.
#[derive(Clone, Debug, Default)]
struct Hashes {
    words: Vec<Words>,
    leaf_indexes: Vec<u64>,
    qualities: Vec<u8>,
}

/// Hashes with a table for each slot.
#[derive(Debug, Default)]
struct Indexed {
    hashes: Hashes,
    slots: Vec<Slot>,
}

/// One slot's table: the places of the hashes, sorted by the slot's bits, and where each value begins.
#[derive(Debug)]
struct Slot {
    offset: u32,
    width: u32,
    starts: Vec<u32>,
    places: Vec<u32>,
}

impl NearIndex {
    /// Adds a hash.
    pub fn push(&mut self, hash: &[u8; 32], leaf_index: u64, quality: u8) {
        self.fresh.words.push(words(hash));
        self.fresh.leaf_indexes.push(leaf_index);
        self.fresh.qualities.push(quality);
    }

    /// Number of hashes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.indexed.hashes.words.len() + self.fresh.words.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether so many hashes are scanned that new tables pay.
    #[must_use]
    pub fn wants_tables(&self) -> bool {
        self.fresh.words.len() > SCAN_MAX.max(self.indexed.hashes.words.len() / 4)
    }

    /// The same hashes, all with tables. Takes seconds for millions: not for an asynchronous thread.
    #[must_use]
    pub fn with_tables(&self) -> Self {
        let mut hashes = self.indexed.hashes.clone();
        hashes.words.extend_from_slice(&self.fresh.words);
        hashes
            .leaf_indexes
            .extend_from_slice(&self.fresh.leaf_indexes);
        hashes.qualities.extend_from_slice(&self.fresh.qualities);
        let slots = layout(hashes.words.len())
            .into_iter()
            .map(|(offset, width)| Slot::new(&hashes.words, offset, width))
            .collect();
        Self {
            indexed: Arc::new(Indexed { hashes, slots }),
            fresh: Hashes::default(),
        }
    }

    /// Takes over the tables that were made of an earlier state of this index, and keeps what came
    /// since.
    pub fn take_tables(&mut self, made: Self) {
        let covered = made.indexed.hashes.words.len() - self.indexed.hashes.words.len();
        self.fresh.words.drain(..covered);
        self.fresh.leaf_indexes.drain(..covered);
        self.fresh.qualities.drain(..covered);
        self.indexed = made.indexed;
    }

    /// Bytes of memory that hashes and tables take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let slots = self.indexed.slots.iter();
        let tables = slots.map(|slot| 4 * (slot.starts.capacity() + slot.places.capacity()));
        let of = |hashes: &Hashes| {
            32 * hashes.words.capacity()
                + 8 * hashes.leaf_indexes.capacity()
                + hashes.qualities.capacity()
        };
        tables.sum::<usize>() + of(&self.indexed.hashes) + of(&self.fresh)
    }

    /// As [`within`](Self::within), by comparing with every hash.
    #[must_use]
    pub fn scan(&self, hash: &[u8; 32], distance_max: u32) -> Vec<Neighbour> {
        let wanted = words(hash);
        let distance_max = distance_max.min(NEAR_DISTANCE_MAX);
        let mut found: Vec<Neighbour> = [&self.indexed.hashes, &self.fresh]
            .into_iter()
            .flat_map(|hashes| hashes.scan(&wanted, distance_max))
            .collect();
        found.sort_unstable();
        found
    }

    /// Every hash within the distance, which is cut to [`NEAR_DISTANCE_MAX`]: the nearest first, then
    /// by leaf index.
    #[must_use]
    pub fn within(&self, hash: &[u8; 32], distance_max: u32) -> Vec<Neighbour> {
        let wanted = words(hash);
        let distance_max = distance_max.min(NEAR_DISTANCE_MAX);
        let mut found = self.indexed.within(&wanted, distance_max);
        found.extend(self.fresh.scan(&wanted, distance_max));
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Hashes {
    fn scan(&self, wanted: &Words, distance_max: u32) -> impl Iterator<Item = Neighbour> {
        (0..self.words.len()).filter_map(move |place| self.neighbour(place, wanted, distance_max))
    }

    fn neighbour(&self, place: usize, wanted: &Words, distance_max: u32) -> Option<Neighbour> {
        let distance = distance(&self.words[place], wanted);
        (distance <= distance_max).then(|| Neighbour {
            distance,
            leaf_index: self.leaf_indexes[place],
            quality: self.qualities[place],
        })
    }
}

impl Indexed {
    fn within(&self, wanted: &Words, distance_max: u32) -> Vec<Neighbour> {
        let mut found = Vec::new();
        if self.slots.is_empty() {
            return found;
        }
        let changes_max = distance_max / self.slots.len() as u32;
        let mut candidates = Vec::new();
        for slot in &self.slots {
            let key = slot.key(wanted);
            // Collected first and compared then: the processor waits for many places at a time.
            candidates.clear();
            each_change(slot.width, changes_max, |change| {
                candidates.extend_from_slice(slot.bucket(key ^ change));
            });
            for &place in &candidates {
                found.extend(self.hashes.neighbour(place as usize, wanted, distance_max));
            }
        }
        found
    }
}

impl Slot {
    fn new(hashes: &[Words], offset: u32, width: u32) -> Self {
        let mut slot = Self {
            offset,
            width,
            starts: vec![0; (1 << width) + 1],
            places: vec![0; hashes.len()],
        };
        // Counting sort: how many have each value, where each value begins, then every place.
        for hash in hashes {
            let key = slot.key(hash) as usize;
            slot.starts[key + 1] += 1;
        }
        for value in 1..slot.starts.len() {
            slot.starts[value] += slot.starts[value - 1];
        }
        let mut next = slot.starts.clone();
        for (place, hash) in hashes.iter().enumerate() {
            let next = &mut next[slot.key(hash) as usize];
            slot.places[*next as usize] = u32::try_from(place).expect("fewer hashes than 2^32");
            *next += 1;
        }
        slot
    }

    /// The slot's bits of a hash.
    fn key(&self, hash: &Words) -> u32 {
        let (word, shift) = ((self.offset / 64) as usize, self.offset % 64);
        let mut bits = hash[word] >> shift;
        if shift + self.width > 64 {
            bits |= hash[word + 1] << (64 - shift);
        }
        (bits & ((1 << self.width) - 1)) as u32
    }

    /// The places of the hashes with these bits.
    fn bucket(&self, key: u32) -> &[u32] {
        let key = key as usize;
        &self.places[self.starts[key] as usize..self.starts[key + 1] as usize]
    }
}

/// Slots for so many hashes, as offsets and widths that cover all 256 bits: none for few; 16 of 16 bits,
/// looked up with up to one change at the greatest distance; for many, 11 of about 23 bits, looked up with
/// up to two, which meets a tenth of the candidates.
fn layout(hashes: usize) -> Vec<(u32, u32)> {
    let slots: u32 = match hashes {
        0 => return Vec::new(),
        n if n <= SHORT_SLOTS_MAX => 16,
        _ => 11,
    };
    let edge = |slot: u32| slot * 256 / slots;
    (0..slots)
        .map(|slot| (edge(slot), edge(slot + 1) - edge(slot)))
        .collect()
}

/// Calls with every pattern of up to `changes_max` bits, at most two, among `width`.
fn each_change(width: u32, changes_max: u32, mut visit: impl FnMut(u32)) {
    debug_assert!(changes_max <= 2, "11 slots or more, and distances up to 31");
    visit(0);
    if changes_max == 0 {
        return;
    }
    for first in 0..width {
        visit(1 << first);
        if changes_max > 1 {
            for second in 0..first {
                visit(1 << first | 1 << second);
            }
        }
    }
}

fn words(hash: &[u8; 32]) -> Words {
    std::array::from_fn(|n| {
        let bytes = hash[8 * n..8 * n + 8].try_into();
        u64::from_le_bytes(bytes.expect("a quarter of 32 bytes"))
    })
}

fn distance(a: &Words, b: &Words) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deterministic generator (xorshift64*).
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn hash(&mut self) -> [u8; 32] {
            let words = [self.next(), self.next(), self.next(), self.next()];
            let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
            bytes.try_into().unwrap()
        }

        fn changed(&mut self, hash: &[u8; 32], flips: u32) -> [u8; 32] {
            let mut hash = *hash;
            for _ in 0..flips {
                let bit = self.next() as usize % 256;
                hash[bit / 8] ^= 1 << (bit % 8);
            }
            hash
        }
    }

    fn scanned(hashes: &[[u8; 32]], wanted: &[u8; 32], distance_max: u32) -> Vec<Neighbour> {
        let mut all: Vec<Neighbour> = hashes
            .iter()
            .enumerate()
            .map(|(place, hash)| Neighbour {
                distance: distance(&words(hash), &words(wanted)),
                leaf_index: 10 * place as u64,
                quality: 77,
            })
            .filter(|neighbour| neighbour.distance <= distance_max)
            .collect();
        all.sort_unstable();
        all
    }

    fn compare(slots: Option<&[(u32, u32)]>) {
        let mut random = Random(0x5eed);
        let centres: Vec<[u8; 32]> = (0..20).map(|_| random.hash()).collect();
        let hashes: Vec<[u8; 32]> = (0..3_000)
            .map(|n| random.changed(&centres[n % 20], (n % 60) as u32))
            .collect();
        let mut index = NearIndex::default();
        for (place, hash) in hashes.iter().enumerate() {
            index.push(hash, 10 * place as u64, 77);
        }
        if let Some(slots) = slots {
            let hashes = std::mem::take(&mut index.fresh);
            let slots = slots
                .iter()
                .map(|(offset, width)| Slot::new(&hashes.words, *offset, *width))
                .collect();
            index.indexed = Arc::new(Indexed { hashes, slots });
        }
        for round in 0..200 {
            let wanted = random.changed(&centres[round % 20], (round % 40) as u32);
            for distance_max in [0, 5, 10, 16, 22, 31] {
                let expected = scanned(&hashes, &wanted, distance_max);
                assert_eq!(index.within(&wanted, distance_max), expected);
            }
        }
    }

    #[test]
    fn scanning_and_every_layout_find_exactly_what_comparing_all_finds() {
        compare(None);
        compare(Some(&layout(SHORT_SLOTS_MAX)));
        compare(Some(&layout(SHORT_SLOTS_MAX + 1)));
    }

    #[test]
    fn every_layout_covers_each_bit_once() {
        for hashes in [1, SHORT_SLOTS_MAX, SHORT_SLOTS_MAX + 1] {
            let mut at = 0;
            for (offset, width) in layout(hashes) {
                assert_eq!(offset, at);
                at += width;
            }
            assert_eq!(at, 256);
            // What makes it exact: with more changes in every slot than are looked up, two hashes
            // would be further apart than the greatest distance.
            let slots = layout(hashes).len() as u32;
            assert!(NEAR_DISTANCE_MAX / slots <= 2);
        }
    }

    #[test]
    fn hashes_that_come_while_tables_are_made_are_kept() {
        let mut random = Random(9);
        let hashes: Vec<[u8; 32]> = (0..300).map(|_| random.hash()).collect();
        let mut index = NearIndex::default();
        for (place, hash) in hashes.iter().enumerate() {
            if place == 100 || place == 200 {
                let made = index.clone().with_tables();
                index.push(hash, place as u64, 1);
                index.take_tables(made);
            } else {
                index.push(hash, place as u64, 1);
            }
        }
        assert_eq!(index.len(), 300);
        for (place, hash) in hashes.iter().enumerate() {
            assert_eq!(index.within(hash, 31)[0].leaf_index, place as u64);
        }
    }
}
