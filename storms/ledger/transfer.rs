//! The requests of the clients. All of them follow from the seed, so the checks need no record of
//! them.

use std::fmt;
use std::str::FromStr;

use idemstore::{Fingerprint, Key, KeyError};

use crate::rng::Rng;
use crate::{Args, Result};

/// The initial balance of an account, and the most that one transfer moves. They are close enough
/// that some transfers find too little money.
pub(crate) const INITIAL_CENTS: u64 = 1_000;
const CENTS_MAX: u64 = 500;

/// How far the next transfer comes behind in the list of deliveries, and how far apart its own
/// deliveries are: close enough that some are under way at the same moment.
const STEP: u64 = 10;
const SPREAD: u64 = 60;

/// An amount to move from one account to another, at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) id: u32,
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) cents: u64,
}

impl Transfer {
    pub(crate) fn new(args: &Args, id: u32) -> Result<Self> {
        let mut rng = Rng::new(args.seed, u64::from(id));
        let accounts = u64::from(args.accounts);
        let from = rng.below(accounts);
        // Any account but the paying one.
        let to = (from + 1 + rng.below(accounts - 1)) % accounts;
        let cents = 1 + rng.below(CENTS_MAX);
        Ok(Self { id, from: u32::try_from(from)?, to: u32::try_from(to)?, cents })
    }

    pub(crate) fn key(&self) -> Result<Key, KeyError> {
        Key::scoped("transfers", format!("transfer-{}", self.id))
    }

    /// The key under which the receiver is notified.
    pub(crate) fn notice_key(&self) -> Result<Key, KeyError> {
        Key::scoped("notices", format!("transfer-{}", self.id))
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.to_string())
    }
}

/// Its form in a request.
impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.id, self.from, self.to, self.cents)
    }
}

impl FromStr for Transfer {
    type Err = Box<dyn std::error::Error + Send + Sync>;

    fn from_str(request: &str) -> Result<Self> {
        let mut words = request.split(' ');
        let mut word = || words.next().ok_or("a request is too short");
        Ok(Self {
            id: word()?.parse()?,
            from: word()?.parse()?,
            to: word()?.parse()?,
            cents: word()?.parse()?,
        })
    }
}

/// What is sent, in the order in which clients take it. Each transfer is in it at least twice: the
/// second delivery comes at nearly the same moment or, after several kills, much later; some have
/// both.
pub(crate) fn deliveries(args: &Args) -> Result<Vec<Transfer>> {
    let mut rng = Rng::new(args.seed, u64::MAX);
    let mut deliveries = Vec::new();
    for id in 0..args.transfers {
        let transfer = Transfer::new(args, id)?;
        let first = u64::from(id) * STEP;
        deliveries.push((first, transfer));
        let late = rng.one_in(2);
        if late {
            deliveries.push((first + rng.below(u64::from(args.transfers) * STEP), transfer));
        }
        if !late || rng.one_in(4) {
            deliveries.push((first + rng.below(SPREAD), transfer));
        }
    }
    deliveries.sort_by_key(|(at, _)| *at);
    Ok(deliveries.into_iter().map(|(_, transfer)| transfer).collect())
}
