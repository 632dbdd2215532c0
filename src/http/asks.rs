//! How often the hook for interrupted requests is asked about one key.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::key::Key;
use crate::sync::Mutex;

/// The most keys that are remembered at one time. Keys beyond that may be asked about sooner.
const KEYS_MAX: usize = 4096;

const PAUSE_DEFAULT: Duration = Duration::from_secs(1);

/// The keys that the hook has just refused.
pub(super) struct Asks {
    pause: Duration,
    refused: Mutex<HashMap<Key, Instant>>,
}

impl Default for Asks {
    fn default() -> Self {
        Self::new(PAUSE_DEFAULT)
    }
}

impl Asks {
    pub(super) fn new(pause: Duration) -> Self {
        Self { pause, refused: Mutex::default() }
    }

    /// How long until the hook may be asked about a key; `None` if it may be asked now.
    pub(super) fn left(&self, key: &Key, now: Instant) -> Option<Duration> {
        let refused = *self.refused.lock().get(key)?;
        let left = self.pause.saturating_sub(now.saturating_duration_since(refused));
        (!left.is_zero()).then_some(left)
    }

    /// Remembers that the hook has refused a key.
    pub(super) fn note(&self, key: &Key, now: Instant) {
        let mut refused = self.refused.lock();
        if KEYS_MAX <= refused.len() {
            refused.retain(|_, at| now.saturating_duration_since(*at) < self.pause);
        }
        if refused.len() < KEYS_MAX && !self.pause.is_zero() {
            refused.insert(key.clone(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::scoped("tests", number.to_string()).expect("it is a key")
    }

    #[test]
    fn a_key_that_was_refused_is_left_alone_for_a_while_and_no_other_is() {
        let (asks, now) = (Asks::new(Duration::from_secs(3)), Instant::now());
        assert_eq!(asks.left(&key(1), now), None);
        asks.note(&key(1), now);
        let later = now + Duration::from_secs(1);
        assert_eq!(asks.left(&key(1), later), Some(Duration::from_secs(2)));
        assert_eq!(asks.left(&key(2), later), None);
        assert_eq!(asks.left(&key(1), now + Duration::from_secs(3)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_makes_room_for_itself() {
        let (asks, now) = (Asks::new(Duration::from_secs(3)), Instant::now());
        for number in 0..2 * KEYS_MAX {
            asks.note(&key(number), now);
        }
        assert_eq!(asks.refused.lock().len(), KEYS_MAX);
        let later = now + Duration::from_secs(3);
        asks.note(&key(0), later);
        assert_eq!(asks.refused.lock().len(), 1);
        assert!(asks.left(&key(0), later).is_some());
    }

    #[test]
    fn without_a_pause_nothing_is_remembered() {
        let (asks, now) = (Asks::new(Duration::ZERO), Instant::now());
        asks.note(&key(1), now);
        assert!(asks.refused.lock().is_empty());
        assert_eq!(asks.left(&key(1), now), None);
    }
}
