//! Choices: numbers below a bound, by a seed or exhaustively.

use super::model::splitmix;

/// Numbers below the requested one, from a seed.
pub fn by_seed(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        seed = splitmix(seed);
        seed % below
    }
}

/// Every possible sequence of choices, for code that asks the same after the same choices.
#[derive(Default)]
pub struct EveryRow {
    /// What was chosen, and below which bound.
    row: Vec<(u64, u64)>,
    at: usize,
}

impl EveryRow {
    pub fn choose(&mut self, below: u64) -> u64 {
        if self.at == self.row.len() {
            self.row.push((0, below));
        }
        let (chosen, bound) = self.row[self.at];
        assert_eq!(bound, below, "it asks for something else after the same choices");
        self.at += 1;
        chosen
    }

    /// Moves on to the next sequence, or returns that there is none.
    pub fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, below)) = self.row.pop() {
            if chosen + 1 < below {
                self.row.push((chosen + 1, below));
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::EveryRow;

    #[test]
    fn every_row_comes_up_once() {
        let (mut rows, mut seen) = (EveryRow::default(), Vec::new());
        loop {
            let first = rows.choose(3);
            let second = if first == 1 { rows.choose(2) } else { 0 };
            seen.push((first, second));
            if !rows.advance() {
                break;
            }
        }
        assert_eq!(seen, [(0, 0), (1, 0), (1, 1), (2, 0)]);
    }
}
