//! Numbers that look random and are the same in each run, so that what fails once fails again.

/// The generator SplitMix64.
pub struct Random(u64);

impl Random {
    /// One that begins at `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit as u64).unwrap()
    }

    /// One of `choices`, of which there is at least one.
    pub fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// `bytes`, changed in a few places: bytes flipped, replaced, left out, doubled, or the end cut off.
    #[must_use]
    pub fn damage(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut damaged = bytes.to_vec();
        for _ in 0..=self.below(4) {
            if damaged.is_empty() {
                break;
            }
            let at = self.below(damaged.len());
            let end = damaged.len().min(at + 1 + self.below(16));
            match self.below(6) {
                0 => damaged[at] ^= 1 << self.below(8),
                1 => damaged[at] = u8::try_from(self.below(256)).unwrap(),
                2 => damaged[at..end].fill(*self.of(&[0, 0x7f, 0x80, 0xff])),
                3 => drop(damaged.drain(at..end)),
                4 => damaged.extend_from_within(at..end),
                _ => damaged.truncate(at),
            }
        }
        damaged
    }
}
