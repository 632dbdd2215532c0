//! A power cut: what happens to each thing that was not synced.

use super::bytes::Bytes;

/// A power cut, and the function that chooses.
pub struct Cut<'c> {
    choose: &'c mut dyn FnMut(u64) -> u64,
    temper: Temper,
    /// Whether each name survives independently, as on a file system without a journal. Otherwise
    /// names survive in order, up to some point.
    pub any_name: bool,
    /// Whether it does more than the store expects of a medium: a sector that was being written may
    /// hold anything in the part being written.
    pub beyond: bool,
}

/// What a power cut does to the operations as a whole. Many independent choices hardly ever take
/// nearly nothing or nearly everything, and never exactly the first few.
#[derive(Clone, Copy)]
enum Temper {
    Each,
    /// Everything before this operation survives, and nothing after it.
    Before(u64),
    Little,
    Much,
    /// Each sector independently.
    Sectors,
}

/// What has happened to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Torn,
    There,
}

impl<'c> Cut<'c> {
    /// Each operation independently. Where 0 is chosen, what was not synced is lost.
    pub fn each(choose: &'c mut dyn FnMut(u64) -> u64) -> Self {
        Self { choose, temper: Temper::Each, any_name: false, beyond: false }
    }

    /// One of several kinds, which is also chosen. These are the operations that were not synced.
    pub fn of_any_kind(choose: &'c mut dyn FnMut(u64) -> u64, unsynced: &[u64]) -> Self {
        let temper = match (choose(6), unsynced) {
            (1, [_, ..]) => Temper::Before(unsynced[choose(unsynced.len() as u64) as usize]),
            (2, _) => Temper::Little,
            (3, _) => Temper::Much,
            (4 | 5, _) => Temper::Sectors,
            _ => Temper::Each,
        };
        Self { temper, ..Self::each(choose) }
    }

    /// A number below this one.
    pub fn choose(&mut self, below: u64) -> u64 {
        (self.choose)(below)
    }

    pub fn fate(&mut self, number: u64) -> Fate {
        match self.temper {
            Temper::Before(end) if number < end => Fate::There,
            Temper::Before(end) if number == end => Fate::Torn,
            Temper::Before(_) => Fate::Lost,
            Temper::Sectors => Fate::Torn,
            Temper::Each => match self.choose(4) {
                0 => Fate::Lost,
                1 => Fate::Torn,
                _ => Fate::There,
            },
            Temper::Little => match self.choose(8) {
                0..6 => Fate::Lost,
                6 => Fate::Torn,
                _ => Fate::There,
            },
            Temper::Much => match self.choose(8) {
                0 => Fate::Lost,
                1 => Fate::Torn,
                _ => Fate::There,
            },
        }
    }

    /// Which of this many changed names, oldest first, survive as changed.
    pub fn names(&mut self, numbers: &[u64]) -> Vec<bool> {
        if let Temper::Before(end) = self.temper {
            return numbers.iter().map(|number| *number < end).collect();
        }
        if self.any_name {
            return numbers.iter().map(|_| self.choose(2) == 1).collect();
        }
        let there = self.choose(numbers.len() as u64 + 1) as usize;
        (0..numbers.len()).map(|name| name < there).collect()
    }

    /// A length may survive without the bytes, which are then zeros.
    pub fn perhaps_grow(&mut self, bytes: &mut Bytes, len: usize) {
        if bytes.len() < len && self.choose(2) == 1 {
            bytes.grow(len);
        }
    }
}
