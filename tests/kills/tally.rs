//! What happened in a test, and how often.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

#[derive(Debug)]
pub struct Tally {
    counts: Mutex<BTreeMap<String, u64>>,
    began: Instant,
}

impl Tally {
    pub fn new() -> Self {
        Self { counts: Mutex::default(), began: Instant::now() }
    }

    pub fn count(&self, what: &str, times: usize) {
        let mut counts = self.counts.lock().expect("no thread panics");
        *counts.entry(what.to_owned()).or_default() += times as u64;
    }

    pub fn of(&self, what: &str) -> u64 {
        self.counts.lock().expect("no thread panics").get(what).copied().unwrap_or_default()
    }

    /// How many different things of this kind happened.
    pub fn kinds(&self, sort: &str) -> usize {
        let counts = self.counts.lock().expect("no thread panics");
        counts.iter().filter(|(what, count)| what.starts_with(sort) && 0 < **count).count()
    }

    pub fn print(&self, title: &str) {
        let (kills, ms) = (self.of("kills"), self.began.elapsed().as_millis().max(1));
        println!("{title}: {kills} in {ms} ms, {} a second", u128::from(kills) * 1000 / ms);
        for (what, count) in &*self.counts.lock().expect("no thread panics") {
            println!("{count:8} {what}");
        }
    }
}
