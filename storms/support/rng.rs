//! Reproducible random choices, shared by all examples that kill a child.

/// `SplitMix64`: small, fast, and good enough for choices.
pub(crate) struct Rng(u64);

impl Rng {
    /// Separates two streams of one seed.
    pub(crate) const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

    /// The numbers of one stream reveal nothing about those of another.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let seed = Self(seed).draw();
        Self(seed ^ Self(stream).draw())
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::GOLDEN);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
