//! Calls that only have a key.

use std::collections::BTreeSet;
use std::time::Duration;

use idemstore::{Begin, FinishError, InFlight, KeyInfo, Status};

use super::{
    Done, Handle, Holder, KeyState, Known, RETENTION_MS, World, as_future, check_completed,
    check_facts, check_tombstone, fingerprint, fits, name, result,
};
use crate::support::ops::{ALL_KEYS, Len, Request};

/// What `begin` must answer.
#[derive(Debug)]
pub(super) enum Answer {
    Fresh,
    Replay(Known),
    NotKept(Known),
    InFlight,
    Mismatch,
    Interrupted(Known),
}

impl World {
    pub(super) fn begin(&mut self, request: Request) {
        let begin = self.bench().store.begin(&name(request.key), fingerprint(request.request));
        if let Some(begin) = self.said(begin) {
            self.answered(request, begin);
        }
    }

    pub(super) fn begin_many(&mut self, requests: &[Request]) {
        let names: Vec<_> = requests.iter().map(|request| name(request.key)).collect();
        let prints = requests.iter().map(|request| fingerprint(request.request));
        let begins = self.bench().store.begin_many(names.iter().zip(prints));
        assert_eq!(begins.len(), requests.len());
        for (request, begin) in requests.iter().zip(begins) {
            if let Some(begin) = self.said(begin) {
                self.answered(*request, begin);
            }
        }
    }

    pub(super) fn expected(&self, Request { key, request }: Request) -> Answer {
        match self.counting(key) {
            (_, Some(known)) if known.request != request => Answer::Mismatch,
            (Holder::Nobody, None) => Answer::Fresh,
            (Holder::Nobody, Some(known)) => match known.done {
                None => Answer::Interrupted(known.clone()),
                Some((_, Done::Result(_))) => Answer::Replay(known.clone()),
                Some((_, Done::NotKept(_))) => Answer::NotKept(known.clone()),
            },
            _ => Answer::InFlight,
        }
    }

    /// Compares an answer, and keeps the handle that it returns.
    pub(super) fn answered(&mut self, request: Request, begin: Begin) {
        let key = request.key;
        match (begin, self.expected(request)) {
            (Begin::Fresh(permit), Answer::Fresh) => {
                assert_eq!(*permit.key(), name(key));
                let known = Box::new(self.fresh(request.request));
                self.handles.push((key, Handle::Permit(permit, known)));
                self.free(key);
                self.take(key, Holder::Reservation);
            }
            (Begin::Interrupted(interrupted), Answer::Interrupted(known)) => {
                check_facts!(interrupted, known);
                assert_eq!(*interrupted.key(), name(key));
                assert_eq!(interrupted.last_checkpoint(), known.checkpoint.as_deref());
                self.handles.push((key, Handle::Interrupted(interrupted)));
                self.take(key, Holder::Reservation);
            }
            (Begin::InFlight(in_flight), Answer::InFlight) => self.check_in_flight(key, in_flight),
            (Begin::Replay(completed), Answer::Replay(known)) => {
                check_completed(&completed, &known);
            }
            (Begin::NotKept(tombstone), Answer::NotKept(known)) => {
                check_tombstone(&tombstone, &known);
            }
            (Begin::Mismatch, Answer::Mismatch) => {}
            (begin, expected) => panic!("{begin:?} instead of {expected:?}"),
        }
    }

    /// What is stored once an operation that is begun now starts.
    pub(super) fn fresh(&self, request: u8) -> Known {
        let (begun, expires) = (self.now, self.now + RETENTION_MS);
        Known { request, begun, expires, attempt: 1, checkpoint: None, done: None }
    }

    fn check_in_flight(&mut self, key: u8, in_flight: InFlight) {
        let since = self.keys.get(&key).map(|state| state.since);
        assert_eq!(Some(in_flight.since().as_unix_ms()), since);
        if let Some(begin) = self.said(in_flight.wait(Duration::ZERO)) {
            assert!(matches!(begin, Begin::InFlight(_)), "{begin:?} after no time");
        }
    }

    /// What is known of an operation that can be finished by key, or why none can be.
    fn finishable(&self, key: u8) -> Result<Known, &'static str> {
        match self.counting(key) {
            (Holder::Reservation | Holder::Execution, _) => Err("held"),
            (_, Some(known)) if known.done.is_none() => Ok(known.clone()),
            _ => Err("not executing"),
        }
    }

    pub(super) fn complete_by_key(&mut self, key: u8, len: Len) {
        let result = result(key, len);
        let store = self.bench().store.clone();
        let completed = wait!(as_future(key), store.complete, complete_async(&name(key), &result));
        match (completed, self.finishable(key)) {
            (Ok(completed), Ok(known)) => self.completed(key, known, result, &completed),
            (Err(FinishError::TooLarge { .. }), Ok(_)) => {
                assert!(!fits(&result));
            }
            (Err(FinishError::Held), Err("held"))
            | (Err(FinishError::NotExecuting), Err("not executing")) => {}
            (Err(failure), Ok(known)) => {
                let known = self.finished(known, Done::Result(result));
                self.failed_by_key(key, Some(known), &failure);
            }
            (Err(failure), Err(_)) => drop(self.said::<(), _>(Err(failure))),
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
    }

    pub(super) fn abandon_by_key(&mut self, key: u8) {
        match (self.bench().store.abandon(&name(key)), self.finishable(key)) {
            (Ok(()), Ok(_)) => self.free(key),
            (Err(FinishError::Held), Err("held"))
            | (Err(FinishError::NotExecuting), Err("not executing")) => {}
            (Err(failure), Ok(_)) => self.failed_by_key(key, None, &failure),
            (Err(failure), Err(_)) => drop(self.said::<(), _>(Err(failure))),
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
    }

    pub(super) fn forget(&mut self, key: u8) {
        let store = self.bench().store.clone();
        let forgotten = wait!(as_future(key), store.forget, forget_async(&name(key)));
        let done = matches!(self.status(key), Some(Status::Completed | Status::NotKept));
        match forgotten {
            Err(failure) if done => self.failed_with(key, None, None, &failure),
            forgotten => {
                let forgotten = self.said(forgotten);
                assert!(forgotten.is_none_or(|forgotten| forgotten == done));
                if forgotten == Some(true) {
                    self.free(key);
                }
            }
        }
    }

    pub(super) fn get(&mut self, key: u8) {
        let store = &self.bench().store;
        let before = store.stats().in_flight;
        let info = store.get(&name(key));
        assert_eq!(store.stats().in_flight, before, "a look has reserved the key");
        let Some(info) = self.said(info) else { return };
        assert_eq!(info.as_ref().map(KeyInfo::status), self.status(key));
        if let Some(info) = info {
            self.check_info(key, &info);
        }
    }

    fn check_info(&self, key: u8, info: &KeyInfo) {
        let known = self.counting(key).1;
        let since = self.keys.get(&key).map(|state| state.since);
        let begun = known.map(|known| known.begun).or(since);
        let checkpoint = known.and_then(|known| known.checkpoint.as_deref());
        assert_eq!(*info.key(), name(key));
        assert_eq!(Some(info.status()), self.status(key));
        assert_eq!(Some(info.begun_at().as_unix_ms()), begun);
        let expires = info.expires_at().map(idemstore::Timestamp::as_unix_ms);
        assert_eq!(expires, known.map(|known| known.expires));
        assert_eq!(info.attempts(), known.map_or(0, |known| known.attempt));
        assert_eq!(info.last_checkpoint(), checkpoint);
        match (info.completed(), info.not_kept(), known) {
            (Some(completed), None, Some(known)) => check_completed(&completed, known),
            (None, Some(tombstone), Some(known)) => check_tombstone(&tombstone, known),
            (None, None, known) => assert!(known.is_none_or(|known| known.done.is_none())),
            (completed, tombstone, _) => panic!("{completed:?} and {tombstone:?}"),
        }
    }

    /// A held key is listed at any time, and one at rest until its retention is over; a key without
    /// a record isn't.
    pub(super) fn list(&mut self, status: Option<Status>, older_than_ms: u64) {
        let mut iter = self.bench().store.keys().older_than(Duration::from_millis(older_than_ms));
        if let Some(status) = status {
            iter = iter.status(status);
        }
        let infos = iter.collect::<Result<Vec<_>, _>>();
        let Some(infos) = self.said(infos) else { return };
        assert!(infos.is_sorted_by_key(KeyInfo::expires_at));
        let listed: BTreeSet<_> = infos
            .iter()
            .map(|info| {
                let key = (0..ALL_KEYS).find(|key| name(*key) == *info.key());
                let key = key.expect("it is a key of ours");
                self.check_info(key, info);
                key
            })
            .collect();
        assert_eq!(listed.len(), infos.len(), "a key is listed twice");
        let expected = (0..ALL_KEYS).filter(|key| {
            let known = self.counting(*key).1;
            known.is_some_and(|known| older_than_ms <= self.now - known.begun)
                && status.is_none_or(|status| self.status(*key) == Some(status))
        });
        assert_eq!(listed, expected.collect());
    }

    /// Every key's state once no handles are left.
    pub(super) fn keys_at_rest(&self) -> std::collections::HashMap<u8, KeyState> {
        let at_rest = |state: &KeyState| KeyState { holder: Holder::Nobody, ..state.clone() };
        self.keys.iter().map(|(key, state)| (*key, at_rest(state))).collect()
    }
}
