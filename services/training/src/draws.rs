//! Random numbers by seed: every draw has a name, so that no draw depends on how many came before it.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

/// First bytes of every key; a change of any draw needs a new version here.
const DOMAIN: &[u8] = b"retrace/training-draws/v1\n";

/// A stream of random numbers, ChaCha20 (RFC 8439) whose key is the SHA-256 of the domain, the seed as eight
/// little-endian bytes, and the parts of its name, each behind its length.
#[derive(Debug, Clone)]
pub struct Draws(ChaCha20Rng);

impl Draws {
    /// The stream of a seed and a name.
    #[must_use]
    pub fn new(seed: u64, name: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        hash.update(seed.to_le_bytes());
        for part in name {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(ChaCha20Rng::from_seed(hash.finalize().into()))
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        // 53 bits fill the mantissa.
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform among `0..count`; 0 for no choice at all.
    pub fn below(&mut self, count: usize) -> usize {
        // Off from uniform by less than count / 2^53.
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// Puts the items into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_the_same_numbers_and_another_name_others() {
        let first = |seed, name: &[&str]| Draws::new(seed, name).unit();
        assert_eq!(
            first(1, &["a", "b"]).to_bits(),
            first(1, &["a", "b"]).to_bits()
        );
        assert_ne!(first(1, &["a", "b"]).to_bits(), first(1, &["ab"]).to_bits());
        assert_ne!(first(1, &["a"]).to_bits(), first(2, &["a"]).to_bits());
    }

    #[test]
    fn every_item_is_kept_and_every_place_is_reached() {
        let mut seen = [false; 7];
        let mut draws = Draws::new(3, &["reach"]);
        for _ in 0..200 {
            seen[draws.below(7)] = true;
        }
        assert_eq!(seen, [true; 7]);
        let mut items: Vec<u32> = (0..50).collect();
        draws.shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
