//! The table that a bench prints at its end.

/// What a measurement should be.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    /// For information only.
    None,
    AtLeast(f64),
    AtMost(f64),
    /// A count that has no noise.
    Exactly(f64),
}

impl Target {
    /// The target, and whether this value meets it.
    fn judge(self, value: f64) -> String {
        let (sign, target, met) = match self {
            Self::None => return String::new(),
            Self::AtLeast(target) => (">=", target, target <= value),
            Self::AtMost(target) => ("<=", target, value <= target),
            Self::Exactly(target) => ("==", target, value.to_bits() == target.to_bits()),
        };
        format!("{sign} {target}{}", if met { "" } else { "  MISSED" })
    }
}

/// Rows of text below a headline.
pub(crate) struct Table {
    rows: Vec<[String; COLUMNS]>,
    /// Whether values are compared with their targets.
    judging: bool,
}

const COLUMNS: usize = 5;

impl Table {
    /// `columns` names the measurement, what it is compared with, and the last number.
    pub(crate) fn new(title: &str, columns: [&str; 3], judging: bool) -> Self {
        let [measured, floor, ratio] = columns.map(str::to_owned);
        let target = if judging { "target" } else { "(not the full size)" }.to_owned();
        Self { rows: vec![[title.to_owned(), measured, floor, ratio, target]], judging }
    }

    /// Adds a row, and judges its last number.
    pub(crate) fn row(&mut self, what: &str, columns: [String; 2], value: f64, target: Target) {
        let [measured, floor] = columns;
        let value_text = if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") };
        let judgement = if self.judging { target.judge(value) } else { String::new() };
        self.rows.push([what.to_owned(), measured, floor, value_text, judgement]);
    }

    pub(crate) fn print(&self) {
        let mut widths = [0; COLUMNS];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let [first, second, third, fourth, _] = widths;
        println!();
        for [what, measured, floor, value, target] in &self.rows {
            println!(
                "{what:first$}  {measured:>second$}  {floor:>third$}  {value:>fourth$}  {target}"
            );
        }
    }
}
