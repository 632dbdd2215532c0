//! One request: what a program does with each answer of `begin`.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Completed, Execution, InFlight, Interrupted, Permit, Store};
use parking_lot::Mutex;

use crate::Result;
use crate::logs::{Acks, Effects, Event, Events, Place};
use crate::plan::{self, Body, Order, Request};
use crate::rng::Rng;

/// How long a client waits for another client's result before it asks again.
const WAIT: Duration = Duration::from_millis(50);
/// The longest delay on the way to the provider, and the longest pause before a client asks again.
const LATENCY_US: u64 = 1_000;
const BACK_OFF_US: u64 = 2_000;

/// What all clients share.
pub(crate) struct Server {
    seed: u64,
    store: Store,
    effects: Effects,
    acks: Acks,
    events: Events,
    /// Orders that are known to have a record in the store: for these a changed body must be
    /// refused.
    started: Mutex<HashSet<u32>>,
    failure: Mutex<Option<String>>,
}

/// One working client.
struct Client<'s> {
    server: &'s Server,
    order: Order,
    body: Body,
    rng: Rng,
    /// Whether this client will once find the order invalid after getting its permit.
    refuses: bool,
}

/// How a request continues.
enum Progress {
    Answered,
    AskAgain,
}

impl Server {
    /// `done` are orders that were completed in the lifetime of an earlier process.
    pub(crate) fn open(place: &Place, seed: u64, done: HashSet<u32>) -> Result<Self> {
        Ok(Self {
            seed,
            store: plan::open(place.store(), seed)?,
            effects: Effects::open(place)?,
            acks: Acks::open(place)?,
            events: Events::open(place)?,
            started: Mutex::new(done),
            failure: Mutex::new(None),
        })
    }

    pub(crate) fn close(self) -> Result<()> {
        self.store.close()?;
        Ok(())
    }

    /// Asks until there is an answer.
    pub(crate) fn serve(&self, request: Request) -> Result<()> {
        let mut rng = Rng::new(self.seed, request.stream);
        let refuses = rng.one_in(16);
        let order = Order::new(self.seed, request.order);
        let mut client = Client { server: self, order, body: request.body, rng, refuses };
        if request.body == Body::Changed && !self.wait_until_started(request.order) {
            return Ok(());
        }
        while let Progress::AskAgain = client.ask()? {
            if self.has_failed() {
                break;
            }
        }
        Ok(())
    }

    /// Until it is started, a key is free for any body, so a changed one waits for that. `false` if
    /// it never happens.
    fn wait_until_started(&self, order: u32) -> bool {
        while !self.started.lock().contains(&order) {
            if self.has_failed() {
                return false;
            }
            thread::sleep(Duration::from_micros(100));
        }
        true
    }

    /// The first failure ends all clients.
    pub(crate) fn fail(&self, failure: String) {
        self.failure.lock().get_or_insert(failure);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.lock().is_some()
    }

    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}

impl Client<'_> {
    fn ask(&mut self) -> Result<Progress> {
        self.count(Event::Attempt)?;
        let begin =
            self.server.store.begin(&self.order.key()?, self.order.fingerprint(self.body))?;
        match begin {
            Begin::InFlight(in_flight) if self.body == Body::Original => self.conflict(in_flight),
            begin => self.act(begin),
        }
    }

    /// Half of the clients wait for the request under way, the others come back after a pause.
    fn conflict(&mut self, in_flight: InFlight) -> Result<Progress> {
        self.count(Event::Conflict)?;
        if self.rng.one_in(2) {
            return match in_flight.wait(WAIT)? {
                Begin::InFlight(_) => Ok(Progress::AskAgain),
                begin => self.act(begin),
            };
        }
        self.pause(BACK_OFF_US);
        Ok(Progress::AskAgain)
    }

    fn act(&mut self, begin: Begin) -> Result<Progress> {
        match (begin, self.body) {
            // A changed body that is let through is executed like any other, and found out later.
            (Begin::Fresh(permit), _) => self.fresh(permit),
            (Begin::Mismatch, Body::Changed) => {
                self.count(Event::Mismatch)?;
                Ok(Progress::Answered)
            }
            (Begin::Replay(completed), Body::Original) => {
                self.count(Event::Replayed)?;
                self.answer(&completed)
            }
            (Begin::Interrupted(interrupted), Body::Original) => self.interrupted(interrupted),
            (begin, body) => Err(format!("{body:?} body answered with {begin:?}").into()),
        }
    }

    fn fresh(&mut self, permit: Permit) -> Result<Progress> {
        if std::mem::take(&mut self.refuses) {
            permit.release();
            self.count(Event::Released)?;
            return Ok(Progress::AskAgain);
        }
        self.execute(permit.start()?)
    }

    fn execute(&mut self, execution: Execution) -> Result<Progress> {
        self.mark_started();
        if self.body == Body::Changed {
            self.count(Event::ChangedExecuted)?;
        }
        // The way to the provider takes time, so a kill may come before the effect as well as after
        // it.
        self.pause(LATENCY_US);
        self.server.effects.execute(self.order.number, execution.attempt())?;
        let receipt = self.order.receipt(self.body, execution.attempt());
        let completed = execution.complete(receipt)?;
        self.answer(&completed)
    }

    /// A process that was killed had started the order. Since we hold its key, nothing is executing
    /// it now, so the provider's answer is final.
    fn interrupted(&mut self, interrupted: Interrupted) -> Result<Progress> {
        self.mark_started();
        self.count(Event::Interrupted)?;
        let attempt = interrupted.attempt();
        if self.server.effects.contains(self.order.number, attempt) {
            let completed = interrupted.resolve(self.order.receipt(self.body, attempt))?;
            self.count(Event::Resolved)?;
            return self.answer(&completed);
        }
        if self.order.abandons {
            interrupted.abandon()?;
            self.count(Event::Abandoned)?;
            return Ok(Progress::AskAgain);
        }
        let execution = interrupted.retry()?;
        self.count(Event::Retried)?;
        self.execute(execution)
    }

    /// From now on the client knows the result, and the store is held to it.
    fn answer(&self, completed: &Completed) -> Result<Progress> {
        self.mark_started();
        self.server.acks.append(self.order.number, completed.result())?;
        Ok(Progress::Answered)
    }

    fn mark_started(&self) {
        // Only orders that are never abandoned meet a changed body, so this stays true.
        self.server.started.lock().insert(self.order.number);
    }

    fn count(&self, event: Event) -> Result<()> {
        Ok(self.server.events.append(self.order.number, event)?)
    }

    fn pause(&mut self, at_most_us: u64) {
        thread::sleep(Duration::from_micros(self.rng.below(at_most_us)));
    }
}
