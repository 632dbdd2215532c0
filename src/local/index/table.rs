//! How a shard's tables give back memory that they no longer need.

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

/// A table with room for this many entries or fewer never shrinks.
const ROOM_MIN: usize = 28;

/// Removes an entry. If the table is then more than three quarters empty, it gives back half of its
/// room.
///
/// It shrinks again once half of the remaining entries are gone, and grows again once there are
/// twice as many. So a removal moves less than one entry on average, and a count that rises and
/// falls by less than that moves none. One shrink moves half as many entries as the table moved
/// when it grew.
pub(super) fn take_out<T>(entry: OccupiedEntry<'_, T>, hash: impl Fn(&T) -> u64) -> T {
    let (gone, vacant) = entry.remove();
    give_back(vacant.into_table(), hash);
    gone
}

fn give_back<T>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64) {
    // A table holds seven entries for every eight buckets. Its own `capacity` is lower where
    // entries were removed.
    let room = table.num_buckets() / 8 * 7;
    if ROOM_MIN < room && table.len() < room / 4 {
        table.shrink_to(2 * table.len(), hash);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::ops::Range;

    use super::super::table_hash;
    use super::*;

    const MOST: u64 = 100_000;

    /// A table of these numbers, first in, first out.
    #[derive(Default)]
    struct Numbers {
        table: HashTable<u64>,
        range: Range<u64>,
        /// How often a number has been moved.
        moved: Cell<u64>,
    }

    impl Numbers {
        fn len(&self) -> u64 {
            self.range.end - self.range.start
        }

        fn moved(&self, number: u64) -> u64 {
            self.moved.set(self.moved.get() + 1);
            table_hash(number)
        }

        fn insert(&mut self, len: u64) {
            for number in self.range.end..self.range.end + len {
                let mut table = std::mem::take(&mut self.table);
                table.insert_unique(table_hash(number), number, |number| self.moved(*number));
                self.table = table;
            }
            self.range.end += len;
        }

        fn remove(&mut self, len: u64) {
            for first in self.range.start..self.range.start + len {
                let mut table = std::mem::take(&mut self.table);
                let entry = table.find_entry(table_hash(first), |number| *number == first);
                let gone = take_out(entry.expect("it is there"), |number| self.moved(*number));
                assert_eq!(gone, first);
                self.table = table;
            }
            self.range.start += len;
        }
    }

    #[test]
    fn room_goes_with_what_was_in_it() {
        let mut numbers = Numbers::default();
        numbers.insert(MOST);
        numbers.moved.take();
        while 0 < numbers.len() {
            numbers.remove(1);
            let (len, room) = (numbers.table.len(), numbers.table.num_buckets() / 8 * 7);
            assert!(room <= (4 * len).max(ROOM_MIN), "room for {room} with {len}");
            let mut left = numbers.range.clone();
            assert!(left.next().is_none_or(|next| {
                numbers.table.find(table_hash(next), |number| *number == next).is_some()
            }));
        }
        let moved = numbers.moved.take();
        assert!(moved < MOST, "{moved} have moved");
    }

    #[test]
    fn a_number_that_goes_up_and_down_by_half_moves_nothing() {
        for most in [50, 1_000, 7_168, MOST] {
            let mut numbers = Numbers::default();
            numbers.insert(most);
            while 32 < numbers.table.num_buckets() {
                let room = numbers.table.num_buckets();
                while numbers.table.num_buckets() == room {
                    numbers.remove(1);
                }
                // Right after it gave back room.
                let len = numbers.len();
                for swing in [1, len / 4, len / 2] {
                    numbers.moved.take();
                    for _ in 0..10 * len / swing {
                        numbers.insert(swing);
                        numbers.remove(2 * swing);
                        numbers.insert(swing);
                    }
                    let moved = numbers.moved.take();
                    assert_eq!(moved, 0, "up and down from {len} by {swing}");
                }
            }
        }
    }
}
