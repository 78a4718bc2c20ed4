//! A hash that nobody outside can predict: the tables are indexed by what containers choose (addresses, ports), and a
//! known hash would let one of them pile all its entries, and others', into one bucket.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// The key of a table's hash, made once with the table. `Copy`, immutable: any thread may use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seed {
    start: u64,
    multiplier: u64,
}

impl Seed {
    /// A new one, from the standard library's per-process random keys.
    pub(crate) fn random() -> Self {
        let source = RandomState::new();
        // Odd, so that the multiplication loses nothing.
        Seed { start: source.hash_one(0_u8), multiplier: source.hash_one(1_u8) | 1 }
    }

    /// The hash of one word.
    #[inline]
    pub(crate) fn hash(self, word: u64) -> u64 {
        self.mix(self.start ^ word)
    }

    /// The hash of one word more, `before` being that of the words before it.
    #[inline]
    pub(crate) fn extend(self, before: u64, word: u64) -> u64 {
        self.mix(before.rotate_left(29) ^ word)
    }

    /// Both halves of a 128-bit product folded together: every input bit reaches every output bit (wyhash's step).
    #[inline]
    fn mix(self, word: u64) -> u64 {
        let product = u128::from(word) * u128::from(self.multiplier);
        let folded = (product >> 64) as u64 ^ product as u64;
        let product = u128::from(folded ^ self.start.rotate_left(32)) * u128::from(0x9e37_79b9_7f4a_7c15_u64);
        (product >> 64) as u64 ^ product as u64
    }
}

/// What can be a key.
pub(crate) trait Key: Eq {
    /// Its hash under `seed`.
    fn hash(&self, seed: Seed) -> u64;
}

impl Key for u32 {
    #[inline]
    fn hash(&self, seed: Seed) -> u64 {
        seed.hash(u64::from(*self))
    }
}

impl Key for u64 {
    #[inline]
    fn hash(&self, seed: Seed) -> u64 {
        seed.hash(*self)
    }
}

impl Key for u128 {
    #[inline]
    fn hash(&self, seed: Seed) -> u64 {
        seed.extend(seed.hash((*self >> 64) as u64), *self as u64)
    }
}

impl Key for IpAddr {
    #[inline]
    fn hash(&self, seed: Seed) -> u64 {
        match self {
            IpAddr::V4(v4) => v4.to_bits().hash(seed),
            IpAddr::V6(v6) => v6.to_bits().hash(seed),
        }
    }
}

impl Key for str {
    fn hash(&self, seed: Seed) -> u64 {
        let words = self.as_bytes().chunks(size_of::<u64>()).map(|chunk| {
            let mut word = [0; size_of::<u64>()];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        words.fold(seed.hash(self.len() as u64), |before, word| seed.extend(before, word))
    }
}

impl Key for String {
    fn hash(&self, seed: Seed) -> u64 {
        self.as_str().hash(seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_keys_spread_over_all_buckets() {
        let seed = Seed::random();
        let mut buckets = [0_u32; 64];
        for word in 0..64 * 64 {
            buckets[(seed.hash(word << 16 | 1) & 63) as usize] += 1;
        }
        assert!(buckets.iter().all(|&n| n > 20 && n < 130), "{buckets:?}");
    }

    #[test]
    fn two_tables_hash_differently() {
        assert_ne!(Seed::random().hash(7), Seed::random().hash(7));
    }

    #[test]
    fn the_order_of_words_matters() {
        let seed = Seed::random();
        assert_ne!(seed.extend(seed.hash(1), 2), seed.extend(seed.hash(2), 1));
    }
}
