//! The queue: a file with one message per line.

use std::path::Path;

use idemstore::{Fingerprint, Key, KeyError, LOG_BYTES_DEFAULT, LOG_BYTES_MIN, OpenError, Store};

use crate::Result;
use crate::logs::{Lines, Place};
use crate::rng::Rng;

/// One message in this many is a redelivery.
const ONE_IN: u32 = 5;
/// How far behind its original a redelivery comes, at most: a near one mostly falls into the same
/// batch, a far one into a later one.
const NEAR: u64 = 8;
const FAR: u64 = 10_000;

const LINE_LEN: usize = 64;

/// What the queue delivers. All deliveries of a message are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) id: u32,
    body: String,
}

impl Message {
    fn new(seed: u64, id: u32) -> Self {
        let mut rng = Rng::new(seed, id.into());
        Self { id, body: format!("{:016x}{:016x}", rng.draw(), rng.draw()) }
    }

    pub(crate) fn key(&self) -> Result<Key, KeyError> {
        Key::scoped("queue", self.id.to_string())
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.body)
    }
}

/// How many of this many messages aren't redeliveries.
pub(crate) fn distinct(messages: u32) -> u32 {
    messages - messages / ONE_IN
}

/// Writes the whole queue. Ids come in order, with the redeliveries in between.
pub(crate) fn generate(place: &Place, seed: u64, messages: u32) -> Result<()> {
    let distinct = distinct(messages);
    let mut rng = Rng::new(seed, u64::MAX);
    let mut deliveries: Vec<_> = (0..distinct).map(|id| (u64::from(id), id)).collect();
    for _ in distinct..messages {
        let original = rng.below(distinct.into());
        let behind = if rng.below(2) == 0 { NEAR } else { FAR };
        deliveries.push((original + rng.below(behind), u32::try_from(original)?));
    }
    // The sort is stable: of two at the same place, the original comes first.
    deliveries.sort_by_key(|(place, _)| *place);
    let messages = deliveries.into_iter().map(|(_, id)| Message::new(seed, id));
    let lines = messages.map(|message| format!("{:010} {}", message.id, message.body));
    lines_of(place)?.append_all(lines)?;
    Ok(())
}

/// All messages after the given number of first ones, in delivery order.
pub(crate) fn read(place: &Place, behind: u64) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    lines_of(place)?.read(behind, |line| {
        let (id, body) = line.split_once(' ').ok_or("a message has no body")?;
        messages.push(Message { id: id.parse()?, body: body.to_owned() });
        Ok(())
    })?;
    Ok(messages)
}

fn lines_of(place: &Place) -> Result<Lines<LINE_LEN>> {
    Ok(Lines::open(&place.queue())?)
}

/// Opens the store as this seed configures it. With a small log, a batch takes several fsyncs, and
/// segments fill up and are settled all the time, even while the process is killed.
pub(crate) fn open_store(path: &Path, seed: u64) -> Result<Store, OpenError> {
    let log_bytes = match seed % 4 {
        1 => 1024 * 1024,
        3 => LOG_BYTES_MIN,
        _ => LOG_BYTES_DEFAULT,
    };
    Store::builder().log_bytes(log_bytes).result_len_max(1024).open(path)
}
