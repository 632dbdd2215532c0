//! A caller of the store. No other caller changes its keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use idemstore::{
    Begin, Clock, Completable, Execution, Fingerprint, FinishError, Interrupted, Key, ManualClock,
    Permit, Store, Timestamp,
};

use crate::future::{cancel, wait};
use crate::tell::{State, Tell, Value};
use crate::teller::{Teller, name};
use crate::workload::{RESULT_LEN_MAX, ROWS};

const KEYS: u64 = 8;
const CLIENTS: u64 = 3;
/// Longer than any call takes.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Client {
    number: u64,
    rng: Rng,
    clock: ManualClock,
    next_value: u64,
    /// Executions that continue from one step to another.
    held: BTreeMap<String, Execution>,
    detached: BTreeSet<String>,
}

/// One step, with what it needs.
struct Step<'c> {
    client: &'c mut Client,
    store: &'c Store,
    teller: &'c Teller,
    key: Key,
}

impl Client {
    pub fn new(number: u64, next_value: u64, rng: Rng, clock: ManualClock) -> Self {
        let (held, detached) = (BTreeMap::new(), BTreeSet::new());
        Self { number, rng, clock, next_value, held, detached }
    }

    /// Drops everything that would keep the store open.
    pub fn let_go(&mut self) {
        self.held.clear();
        self.detached.clear();
    }

    /// Begins some key, and acts on the answer.
    pub fn step(&mut self, store: &Store, teller: &Teller) {
        match self.rng.u32(..12) {
            0 => self.look(store, teller),
            1 => self.batch(store, teller),
            _ => {
                let number = self.rng.u64(..KEYS);
                let key = key(self.number, number);
                let begin = store.begin(&key, request(&key)).expect("the store is whole");
                Step { client: self, store, teller, key }.answer(begin);
            }
        }
    }

    /// Begins a key of another client, and leaves it unchanged.
    fn look(&mut self, store: &Store, teller: &Teller) {
        let key = key(self.rng.u64(..CLIENTS), self.rng.u64(..KEYS));
        let begin = store.begin(&key, request(&key)).expect("the store is whole");
        if let Begin::Replay(completed) = begin {
            let expires = completed.expires_at().as_unix_ms();
            let result = Value::of(completed.result()).expect("it was stored");
            let state = State::Done { expires, result };
            teller.tell(&Tell::Seen { key: name(&key), state });
        }
    }

    /// Starts all free keys of a few, and completes them, with one wait each.
    fn batch(&mut self, store: &Store, teller: &Teller) {
        let first = self.rng.u64(..KEYS);
        let keys: Vec<_> = (0..3).map(|next| key(self.number, (first + next) % KEYS)).collect();
        let requests = keys.iter().map(|key| (key, request(key)));
        let mut permits = Vec::new();
        for begin in store.begin_many(requests) {
            if let Begin::Fresh(permit) = begin.expect("the store is whole") {
                permits.push(permit.with_retention(LONG));
            }
        }
        let keys: Vec<_> = permits.iter().map(|permit| permit.key().clone()).collect();
        let expires = self.clock.now().saturating_add(LONG).as_unix_ms();
        for key in &keys {
            teller.intend(key, State::Started { expires, attempt: 1, checkpoint: None });
        }
        let executions = store.start_many(permits);
        let executions: Vec<_> = executions.into_iter().map(|one| one.expect("whole")).collect();
        for key in &keys {
            teller.ack(key);
        }
        let values: Vec<_> = keys.iter().map(|_| self.value()).collect();
        for (key, result) in keys.iter().zip(&values) {
            teller.intend(key, State::Done { expires, result: *result });
        }
        let results = executions.into_iter().zip(values.iter().map(|value| value.bytes()));
        for (completed, key) in store.complete_many(results).into_iter().zip(&keys) {
            completed.expect("the store is whole");
            teller.ack(key);
        }
    }

    /// A result that was never used before. Some are stored apart from their records.
    fn value(&mut self) -> Value {
        self.next_value += 1;
        let len = if self.rng.bool() { self.rng.usize(16..64) } else { self.rng.usize(400..1_000) };
        Value { number: self.next_value, len }
    }
}

/// Longer than the clock runs.
const LONG: Duration = Duration::from_secs(1_000);

fn key(client: u64, number: u64) -> Key {
    Key::new(format!("client-{client}-key-{number}")).expect("it is short")
}

pub fn request(key: &Key) -> Fingerprint {
    Fingerprint::of(key.as_bytes())
}

impl Step<'_> {
    fn answer(&mut self, begin: Begin) {
        match begin {
            Begin::Fresh(permit) => {
                self.found(State::Free);
                self.fresh(permit);
            }
            Begin::Replay(completed) => {
                let expires = completed.expires_at().as_unix_ms();
                let result = Value::of(completed.result()).expect("it was stored");
                self.found(State::Done { expires, result });
                self.completed();
            }
            Begin::NotKept(_) => {
                let info = self.store.get(&self.key).expect("the store is whole");
                self.found(State::of(info.as_ref()).expect("it was stored"));
                self.completed();
            }
            Begin::Interrupted(interrupted) => {
                let expires = interrupted.expires_at().as_unix_ms();
                let attempt = interrupted.attempt();
                let checkpoint = interrupted.last_checkpoint();
                let checkpoint = checkpoint.map(|bytes| Value::of(bytes).expect("it was stored"));
                let state = State::Started { expires, attempt, checkpoint };
                self.found(state);
                self.interrupted(interrupted, state);
            }
            Begin::InFlight(in_flight) => {
                let name = name(&self.key);
                if let Some(execution) = self.client.held.remove(&name) {
                    self.execute(execution);
                } else if self.client.detached.remove(&name) {
                    self.finish_by_key();
                } else {
                    // A future was dropped on its way, or another client is looking.
                    let begin = in_flight.wait(PATIENCE).expect("the store is whole");
                    if !matches!(begin, Begin::InFlight(_)) {
                        self.answer(begin);
                    }
                }
            }
            _ => panic!("nobody has used {} for something else", name(&self.key)),
        }
    }

    fn found(&self, state: State) {
        self.teller.found(&self.key, state);
    }

    fn chance(&mut self, of: u32) -> u32 {
        self.client.rng.u32(..of)
    }

    fn fresh(&mut self, permit: Permit) {
        let retentions = [Duration::from_millis(1_500), Duration::from_secs(5), LONG];
        let retention = *self.client.rng.choice(&retentions).expect("there are three");
        let expires = self.client.clock.now().saturating_add(retention).as_unix_ms();
        let permit = permit.with_retention(retention);
        let started = State::Started { expires, attempt: 1, checkpoint: None };
        match self.chance(12) {
            0 => permit.release(),
            1 => self.complete(permit, expires),
            2 => self.complete_with_row(permit, expires),
            3 => self.cancel(&[started, State::Free], permit.start_async()),
            4 => {
                let result = self.client.value();
                let done = State::Done { expires, result };
                self.cancel(&[done], permit.complete_async(result.bytes()));
            }
            5 => {
                let start = || wait(permit.start_async());
                let execution = self.teller.change(&self.key, started, start);
                self.execute(execution.expect("the store is whole"));
            }
            _ => {
                let execution = self.teller.change(&self.key, started, || permit.start());
                self.execute(execution.expect("the store is whole"));
            }
        }
    }

    /// When an operation that is completed now expires: if its retention is over, a new one begins.
    fn expires(&self, begun_at: Timestamp, expires_at: Timestamp) -> u64 {
        let (now, expires) = (self.client.clock.now(), expires_at.as_unix_ms());
        if now < expires_at { expires } else { now.as_unix_ms() + expires - begun_at.as_unix_ms() }
    }

    fn complete<H: Completable>(&mut self, handle: H, expires: u64) {
        let result = self.client.value();
        let state = State::Done { expires, result };
        let results = [(handle, result.bytes())];
        let completed = self.teller.change(&self.key, state, || self.store.complete_many(results));
        assert!(completed.iter().all(Result::is_ok), "the store is whole");
    }

    fn complete_with_row(&mut self, permit: Permit, expires: u64) {
        let result = self.client.value();
        let (key, state) = (name(&self.key), State::Done { expires, result });
        let row = Some(result.number);
        self.teller.tell(&Tell::Intend { key: key.clone(), state, row });
        let completed = permit.complete_with(|transaction| {
            transaction.open_table(ROWS)?.insert(key.as_str(), result.number)?;
            Ok::<_, idemstore::redb::Error>(result.bytes())
        });
        completed.expect("the store is whole");
        self.teller.ack(&self.key);
    }

    /// Drops a future on its way. It makes these states of the key in turn, or only some of them.
    fn cancel<T>(&self, states: &[State], future: impl Future<Output = T>) {
        for state in states {
            self.teller.intend(&self.key, *state);
        }
        cancel(future);
    }

    /// Continues an operation that runs, until it is at rest or left for later.
    fn execute(&mut self, mut execution: Execution) {
        let expires = execution.expires_at().as_unix_ms();
        let started = |attempt, checkpoint| State::Started { expires, attempt, checkpoint };
        loop {
            let attempt = execution.attempt();
            match self.chance(16) {
                0..3 => {
                    let checkpoint = self.client.value();
                    let state = started(attempt, Some(checkpoint));
                    let store = || execution.checkpoint(checkpoint.bytes());
                    self.teller.change(&self.key, state, store).expect("the store is whole");
                    continue;
                }
                3 => {
                    let checkpoint = self.client.value();
                    let state = started(attempt, Some(checkpoint));
                    self.cancel(&[state], execution.checkpoint_async(checkpoint.bytes()));
                }
                4 => {
                    let abandoned = || execution.abandon();
                    let abandoned = self.teller.change(&self.key, State::Free, abandoned);
                    abandoned.expect("the store is whole");
                }
                5 => self.cancel(&[State::Free], execution.abandon_async()),
                6 => {
                    let result = self.client.value();
                    let expires = self.expires(execution.begun_at(), execution.expires_at());
                    let state = State::Done { expires, result };
                    self.cancel(&[state], execution.complete_async(result.bytes()));
                }
                // It is interrupted.
                7 => drop(execution),
                8 => self.complete_too_large(execution),
                9 => {
                    execution.detach();
                    self.finish_by_key();
                }
                10 => {
                    execution.detach();
                    self.client.detached.insert(name(&self.key));
                }
                11 => {
                    self.client.held.insert(name(&self.key), execution);
                }
                _ => {
                    let expires = self.expires(execution.begun_at(), execution.expires_at());
                    self.complete(execution, expires);
                }
            }
            return;
        }
    }

    fn complete_too_large(&mut self, execution: Execution) {
        let result = vec![7; RESULT_LEN_MAX + 1];
        let expires = self.expires(execution.begun_at(), execution.expires_at());
        let refused = execution.complete(&result).expect_err("it is too long");
        let execution = refused.into_handle().expect("nothing was written");
        let state = State::tombstone(expires, &result);
        let complete = || execution.complete_digest(&result);
        self.teller.change(&self.key, state, complete).expect("the store is whole");
    }

    fn interrupted(&mut self, interrupted: Interrupted, state: State) {
        let State::Started { expires, attempt, checkpoint } = state else { return };
        let retried = State::Started { expires, attempt: attempt + 1, checkpoint };
        match self.chance(8) {
            0 => {
                let expires = self.expires(interrupted.begun_at(), interrupted.expires_at());
                self.complete(interrupted, expires);
            }
            1 => {
                let abandoned = || interrupted.abandon();
                let abandoned = self.teller.change(&self.key, State::Free, abandoned);
                abandoned.expect("the store is whole");
            }
            2 => self.cancel(&[retried], interrupted.retry_async()),
            3 => {
                let result = self.client.value();
                let expires = self.expires(interrupted.begun_at(), interrupted.expires_at());
                let state = State::Done { expires, result };
                self.cancel(&[state], interrupted.resolve_async(result.bytes()));
            }
            4 => self.cancel(&[State::Free], interrupted.abandon_async()),
            5 => {
                drop(interrupted);
                self.finish_by_key();
            }
            _ => {
                let retry = || interrupted.retry();
                let execution = self.teller.change(&self.key, retried, retry);
                self.execute(execution.expect("the store is whole"));
            }
        }
    }

    /// Ends an operation that has no handle left.
    fn finish_by_key(&mut self) {
        let info = self.store.get(&self.key).expect("the store is whole");
        let expires = info.and_then(|info| Some(self.expires(info.begun_at(), info.expires_at()?)));
        let expires = expires.unwrap_or_default();
        let finished = if self.chance(3) == 0 {
            self.teller.intend(&self.key, State::Free);
            self.store.abandon(&self.key)
        } else {
            let result = self.client.value();
            self.teller.intend(&self.key, State::Done { expires, result });
            self.store.complete(&self.key, result.bytes()).map(drop)
        };
        match finished {
            Ok(()) => self.teller.ack(&self.key),
            // Another client is looking.
            Err(FinishError::Held) => self.teller.deny(&self.key),
            Err(error) => panic!("{error}"),
        }
    }

    fn completed(&mut self) {
        match self.chance(6) {
            0 | 1 => {
                self.teller.intend(&self.key, State::Free);
                if self.store.forget(&self.key).expect("the store is whole") {
                    self.teller.ack(&self.key);
                } else {
                    self.teller.deny(&self.key);
                }
            }
            2 => self.cancel(&[State::Free], self.store.forget_async(&self.key)),
            _ => {}
        }
    }
}
