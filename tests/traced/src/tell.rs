//! What the workload reports about itself: one line per report, in one write. The lines are in the
//! trace among the calls, so what was promised is known at each point of it.

use std::fmt;

use idemstore::{KeyInfo, Status};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tell {
    /// The clock shows this time from now on, in milliseconds.
    Time(u64),
    /// A call is about to put the key into this state, with or without a row of the caller's.
    Intend { key: String, state: State, row: Option<u64> },
    /// Everything intended for the key was acknowledged.
    Ack(String),
    /// The last intention for the key was refused: nothing has changed.
    Deny(String),
    /// The only caller that changes the key was told that this is its state.
    Found { key: String, state: State },
    /// Another caller was told so, perhaps some time ago.
    Seen { key: String, state: State },
    /// A backup into this directory is about to be made.
    Backup(String),
    /// That backup was acknowledged.
    BackedUp(String),
}

/// The state of a key, as callers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Free,
    Started { expires: u64, attempt: u32, checkpoint: Option<Value> },
    Done { expires: u64, result: Value },
    NotKept { expires: u64, len: u64, digest: u64 },
}

/// Bytes made from a number and a length. No number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    pub number: u64,
    pub len: usize,
}

impl Value {
    /// Bytes that encode the number.
    pub const LEN_MIN: usize = 16;

    pub fn bytes(self) -> Vec<u8> {
        format!("{:016}", self.number).bytes().cycle().take(self.len).collect()
    }

    /// What these bytes stand for, if anything.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let number = std::str::from_utf8(bytes.get(..Self::LEN_MIN)?).ok()?.parse().ok()?;
        let value = Self { number, len: bytes.len() };
        (value.bytes() == bytes).then_some(value)
    }
}

impl State {
    /// What is kept of a result that is too long.
    pub fn tombstone(expires: u64, result: &[u8]) -> Self {
        let digest = short(blake3::hash(result).as_bytes());
        Self::NotKept { expires, len: result.len() as u64, digest }
    }

    /// The state that a store reports for a key; `None` if that was never stored.
    pub fn of(info: Option<&KeyInfo>) -> Option<Self> {
        let Some(info) = info else { return Some(Self::Free) };
        let expires = info.expires_at()?.as_unix_ms();
        Some(match info.status() {
            Status::Interrupted | Status::Executing => {
                let checkpoint = info.last_checkpoint().map(Value::of);
                let checkpoint = checkpoint.map_or(Some(None), |value| value.map(Some))?;
                Self::Started { expires, attempt: info.attempts(), checkpoint }
            }
            Status::Completed => {
                Self::Done { expires, result: Value::of(info.completed()?.result())? }
            }
            Status::NotKept => {
                let tombstone = info.not_kept()?;
                let digest = short(&tombstone.result_digest());
                Self::NotKept { expires, len: tombstone.result_len(), digest }
            }
            _ => return None,
        })
    }

    /// The state at this time: the key is free when its retention is over.
    pub fn at(self, now: u64) -> Self {
        match self {
            Self::Started { expires, .. }
            | Self::Done { expires, .. }
            | Self::NotKept { expires, .. }
                if expires <= now =>
            {
                Self::Free
            }
            state => state,
        }
    }
}

/// Enough of a digest to distinguish it from others.
fn short(digest: &[u8; 32]) -> u64 {
    digest.iter().take(8).fold(0, |short, byte| short << 8 | u64::from(*byte))
}

impl fmt::Display for Tell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(now) => write!(f, "time {now}"),
            Self::Intend { key, state, row: None } => write!(f, "intend {key} - {state}"),
            Self::Intend { key, state, row: Some(row) } => write!(f, "intend {key} {row} {state}"),
            Self::Ack(key) => write!(f, "ack {key}"),
            Self::Deny(key) => write!(f, "deny {key}"),
            Self::Found { key, state } => write!(f, "found {key} {state}"),
            Self::Seen { key, state } => write!(f, "seen {key} {state}"),
            Self::Backup(name) => write!(f, "backup {name}"),
            Self::BackedUp(name) => write!(f, "backed-up {name}"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Started { expires, attempt, checkpoint: None } => {
                write!(f, "started {expires} {attempt}")
            }
            Self::Started { expires, attempt, checkpoint: Some(Value { number, len }) } => {
                write!(f, "started {expires} {attempt} {number} {len}")
            }
            Self::Done { expires, result: Value { number, len } } => {
                write!(f, "done {expires} {number} {len}")
            }
            Self::NotKept { expires, len, digest } => {
                write!(f, "tombstone {expires} {len} {digest}")
            }
        }
    }
}

impl Tell {
    /// Whether less may be true after it than before.
    pub fn is_promise(&self) -> bool {
        !matches!(self, Self::Time(_) | Self::Intend { .. } | Self::Backup(_))
    }

    /// The meaning of a line; `None` if it is unknown.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        Some(match *words.as_slice() {
            ["time", now] => Self::Time(now.parse().ok()?),
            ["intend", key, row, ref state @ ..] => {
                let row = if row == "-" { None } else { Some(row.parse().ok()?) };
                Self::Intend { key: key.to_owned(), state: State::parse(state)?, row }
            }
            ["ack", key] => Self::Ack(key.to_owned()),
            ["deny", key] => Self::Deny(key.to_owned()),
            ["found", key, ref state @ ..] => {
                Self::Found { key: key.to_owned(), state: State::parse(state)? }
            }
            ["seen", key, ref state @ ..] => {
                Self::Seen { key: key.to_owned(), state: State::parse(state)? }
            }
            ["backup", name] => Self::Backup(name.to_owned()),
            ["backed-up", name] => Self::BackedUp(name.to_owned()),
            _ => return None,
        })
    }
}

impl State {
    fn parse(words: &[&str]) -> Option<Self> {
        let (kind, numbers) = words.split_first()?;
        let numbers = numbers.iter().map(|word| word.parse()).collect::<Result<Vec<u64>, _>>();
        let value = |number, len| Some(Value { number, len: usize::try_from(len).ok()? });
        Some(match (*kind, numbers.ok()?.as_slice()) {
            ("free", []) => Self::Free,
            ("started", &[expires, attempt, ref checkpoint @ ..]) => {
                let attempt = u32::try_from(attempt).ok()?;
                let checkpoint = match *checkpoint {
                    [] => None,
                    [number, len] => Some(value(number, len)?),
                    _ => return None,
                };
                Self::Started { expires, attempt, checkpoint }
            }
            ("done", &[expires, number, len]) => {
                Self::Done { expires, result: value(number, len)? }
            }
            ("tombstone", &[expires, len, digest]) => Self::NotKept { expires, len, digest },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_was_told() {
        let value = Value { number: 7, len: 600 };
        let states = [
            State::Free,
            State::Started { expires: 5, attempt: 1, checkpoint: None },
            State::Started { expires: 5, attempt: 2, checkpoint: Some(value) },
            State::Done { expires: 5, result: value },
            State::tombstone(5, b"too long"),
        ];
        let key = || "a-1".to_owned();
        let mut tells = vec![Tell::Time(9), Tell::Ack(key()), Tell::Deny(key())];
        tells.extend([Tell::Backup("b".to_owned()), Tell::BackedUp("b".to_owned())]);
        for state in states {
            tells.push(Tell::Intend { key: key(), state, row: None });
            tells.push(Tell::Intend { key: key(), state, row: Some(3) });
            tells.push(Tell::Found { key: key(), state });
            tells.push(Tell::Seen { key: key(), state });
        }
        for tell in tells {
            assert_eq!(Tell::parse(&tell.to_string()), Some(tell));
        }
        assert_eq!(Tell::parse("thread panicked"), None);
    }

    #[test]
    fn bytes_tell_their_value() {
        let value = Value { number: 12_345, len: 700 };
        assert_eq!(Value::of(&value.bytes()), Some(value));
        let mut torn = value.bytes();
        torn[600] = 0;
        assert_eq!(Value::of(&torn), None);
    }

    #[test]
    fn a_key_is_free_when_its_retention_is_over() {
        let state = State::Started { expires: 5, attempt: 1, checkpoint: None };
        assert_eq!(state.at(4), state);
        assert_eq!(state.at(5), State::Free);
    }
}
