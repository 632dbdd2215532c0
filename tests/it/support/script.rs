//! A run through everything that writes, so that it can be cut anywhere; and random runs.

pub mod drawn;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(feature = "transaction")]
use idemstore::redb::{self, TableDefinition};
use idemstore::sim::{Disk, OpenOn};
use idemstore::{Begin, Fingerprint, ManualClock, Store};

use super::oracle::{Oracle, Truth, Unsaid};
use super::{RETENTION_MS, SimDisk, builder, key};

/// The caller's own table, with a row for each key that was completed together with it.
#[cfg(feature = "transaction")]
pub const ROWS: TableDefinition<'_, &str, u64> = TableDefinition::new("rows");

/// The oracle, shared with the thread that checks the disk while a call is under way.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Oracle>>);

impl From<Oracle> for Told {
    fn from(oracle: Oracle) -> Self {
        Self(Arc::new(Mutex::new(oracle)))
    }
}

impl Told {
    pub fn lock(&self) -> MutexGuard<'_, Oracle> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call that should put a key into this state, and records its answer.
    pub fn call<T, E: std::fmt::Display>(
        &self,
        name: &str,
        next: Truth,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Unsaid> {
        self.lock().expect(name, next);
        let said = call().map_err(|error| Unsaid(error.to_string()))?;
        self.lock().acknowledge(name);
        Ok(said)
    }
}

/// A store that the script works on, and what its callers were told.
struct Run {
    store: Store,
    told: Told,
}

/// Creates a store and makes every kind of write, until a call fails.
pub fn run<D: Disk + Clone>(disk: &D, clock: &ManualClock, told: &Told) -> Result<(), Unsaid> {
    run_and_show(disk, clock, told, |_| ())
}

/// Like [`run`], and shows the store on which a call has failed before it is let go.
pub fn run_and_show<D: Disk + Clone>(
    disk: &D,
    clock: &ManualClock,
    told: &Told,
    failed: impl Fn(&Store),
) -> Result<(), Unsaid> {
    let open = || builder(clock).open_on(disk.clone()).map_err(|error| Unsaid(error.to_string()));
    let work = |part: fn(&Run, &ManualClock) -> Result<(), Unsaid>| {
        let run = Run { store: open()?, told: told.clone() };
        match catch_unwind(AssertUnwindSafe(|| part(&run, clock))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(unsaid)) => {
                failed(&run.store);
                Err(unsaid)
            }
            Err(panic) => {
                failed(&run.store);
                resume_unwind(panic)
            }
        }
    };
    work(Run::first)?;
    // The remains of a compaction that was killed. The next open removes them.
    let mut left = disk.clone();
    let made = left.enter(false).and_then(|()| left.create("vault.redb.compact"));
    drop(made.map_err(|error| Unsaid(error.to_string()))?);
    work(Run::second)
}

/// Creates a store with a log of at most this length, and completes keys with results of this
/// length, until a call fails.
/// call fails.
pub fn fill(
    disk: &SimDisk,
    clock: &ManualClock,
    told: &Told,
    log_bytes: u64,
    results: (u8, usize),
) -> Result<(), Unsaid> {
    let builder = builder(clock).log_bytes(log_bytes).result_len_max(results.1);
    let store = builder.open_on(disk.clone()).map_err(|error| Unsaid(error.to_string()))?;
    let run = Run { store, told: told.clone() };
    for number in 0..results.0 {
        run.complete(&format!("filling {number}"), vec![number; results.1])?;
    }
    say(run.store.clone().close())
}

fn say<T, E: std::fmt::Display>(said: Result<T, E>) -> Result<(), Unsaid> {
    said.map(drop).map_err(|error| Unsaid(error.to_string()))
}

impl Run {
    fn first(&self, _: &ManualClock) -> Result<(), Unsaid> {
        self.single_calls()?;
        self.many()?;
        self.long_results("long")?;
        self.equal_lengths()?;
        self.own_rows("first")?;
        say(self.store.compact())?;
        // The log is reused, so only the smaller vault has what the log held before.
        self.long_results("long again")?;
        self.single_after_interruption()?;
        say(self.store.clone().close())
    }

    fn second(&self, clock: &ManualClock) -> Result<(), Unsaid> {
        self.forgotten()?;
        self.own_rows("second")?;
        // All of the above has expired, and some of it is swept.
        clock.advance(Duration::from_millis(RETENTION_MS));
        self.told.lock().expire();
        say(self.store.sweep())?;
        self.anew()?;
        say(self.store.clone().close())
    }

    fn begin(&self, name: &str) -> Result<Begin, Unsaid> {
        let begin = self.store.begin(&key(name), Fingerprint::of(name));
        begin.map_err(|error| Unsaid(error.to_string()))
    }

    fn permit(&self, name: &str) -> Result<idemstore::Permit, Unsaid> {
        match self.begin(name)? {
            Begin::Fresh(permit) => Ok(permit),
            other => panic!("{name} is not fresh: {other:?}"),
        }
    }

    fn start(&self, name: &str) -> Result<idemstore::Execution, Unsaid> {
        let permit = self.permit(name)?;
        self.told.call(name, interrupted(1, None), || permit.start())
    }

    fn complete(&self, name: &str, result: Vec<u8>) -> Result<(), Unsaid> {
        let permit = self.permit(name)?;
        let completed = Truth::Completed(result.clone());
        let complete = || permit.complete(result).map_err(|error| error.to_string());
        self.told.call(name, completed, complete).map(drop)
    }

    /// Every call of every handle.
    fn single_calls(&self) -> Result<(), Unsaid> {
        let told = &self.told;
        let execution = self.start("completed")?;
        let result = b"result".to_vec();
        told.call("completed", Truth::Completed(result.clone()), || execution.complete(result))?;
        self.complete("unstarted", b"result".to_vec())?;
        let execution = self.start("abandoned")?;
        told.call("abandoned", Truth::Free, || execution.abandon())?;
        let mut execution = self.start("stepwise")?;
        for checkpoint in ["step 1", &"step 2 ".repeat(100), "step 3"] {
            let checkpoint = checkpoint.as_bytes().to_vec();
            let next = interrupted(1, Some(&checkpoint));
            told.call("stepwise", next, || execution.checkpoint(&checkpoint))?;
        }
        drop(execution);
        let execution = self.start("tombstone")?;
        let long = vec![7; 20_000];
        told.call("tombstone", Truth::NotKept(20_000), || execution.complete_digest(long))?;
        drop(self.start("retried")?);
        drop(self.start("given up")?);
        say(self.store.settle())
    }

    fn single_after_interruption(&self) -> Result<(), Unsaid> {
        let told = &self.told;
        let Begin::Interrupted(retried) = self.begin("retried")? else { panic!("it was dropped") };
        let execution = told.call("retried", interrupted(2, None), || retried.retry())?;
        let result = b"second attempt".to_vec();
        told.call("retried", Truth::Completed(result.clone()), || execution.complete(result))?;
        let Begin::Interrupted(given_up) = self.begin("given up")? else {
            panic!("it was dropped")
        };
        told.call("given up", Truth::Free, || given_up.abandon())
    }

    /// Batches, each of whose operations becomes durable on its own until the call returns for all.
    fn many(&self) -> Result<(), Unsaid> {
        let names: Vec<_> = (0..6).map(|number| format!("of many {number}")).collect();
        let mut permits = Vec::new();
        for name in &names {
            permits.push(self.permit(name)?);
            self.told.lock().expect(name, interrupted(1, None));
        }
        let mut executions = Vec::new();
        for (name, execution) in names.iter().zip(self.store.start_many(permits)) {
            executions.push(execution.map_err(|error| Unsaid(error.to_string()))?);
            self.told.lock().acknowledge(name);
            self.told.lock().expect(name, Truth::Completed(name.repeat(200).into_bytes()));
        }
        let results = executions.into_iter().zip(names.iter().map(|name| name.repeat(200)));
        for (name, completed) in names.iter().zip(self.store.complete_many(results)) {
            say(completed)?;
            self.told.lock().acknowledge(name);
        }
        Ok(())
    }

    /// More than both segments of the log can hold.
    fn long_results(&self, name: &str) -> Result<(), Unsaid> {
        for number in 0..9 {
            self.complete(&format!("{name} {number}"), vec![number; 9_000])?;
        }
        Ok(())
    }

    /// Fills a segment again with frames of the same length as before, so that old frames begin
    /// where the new ones end. What one of the old ones says is no longer true.
    fn equal_lengths(&self) -> Result<(), Unsaid> {
        say(self.store.settle())?;
        let fill = |numbers: Range<u8>| {
            numbers.into_iter().try_for_each(|number| {
                self.complete(&format!("equal {number:02}"), vec![number; 4_000])
            })
        };
        // Six in each segment, which leaves room for freeing a key.
        fill(0..12)?;
        let old = "equal 03";
        self.told.call(old, Truth::Free, || self.store.forget(&key(old)))?;
        fill(12..15)
    }

    /// Results that are stored together with a row of the caller's.
    #[cfg(feature = "transaction")]
    fn own_rows(&self, when: &str) -> Result<(), Unsaid> {
        for number in 0..3 {
            let name = format!("own {when} {number}");
            let permit = self.permit(&name)?;
            let completed = Truth::Completed(b"with a row".to_vec());
            self.told.call(&name, completed, || {
                permit.complete_with(|transaction| {
                    transaction.open_table(ROWS)?.insert(&*name, number)?;
                    Ok::<_, redb::Error>("with a row")
                })
            })?;
            let refused = format!("refused {when} {number}");
            let permit = self.permit(&refused)?;
            let said = permit.complete_with(|transaction| {
                transaction.open_table(ROWS)?.insert(&*refused, number)?;
                Err::<&str, _>(redb::Error::DatabaseAlreadyOpen)
            });
            if !matches!(said, Err(idemstore::TransactionError::Operation(_))) {
                return say(said);
            }
        }
        Ok(())
    }

    #[cfg(not(feature = "transaction"))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "there are no such rows")]
    fn own_rows(&self, _: &str) -> Result<(), Unsaid> {
        Ok(())
    }

    fn forgotten(&self) -> Result<(), Unsaid> {
        for name in ["unstarted", "tombstone"] {
            self.told.call(name, Truth::Free, || self.store.forget(&key(name)))?;
        }
        self.complete("unstarted", b"once more".to_vec())
    }

    /// Keys that were used before, and have expired.
    fn anew(&self) -> Result<(), Unsaid> {
        let execution = self.start("completed")?;
        let result = b"another result".to_vec();
        let completed = Truth::Completed(result.clone());
        self.told.call("completed", completed, || execution.complete(result))?;
        drop(self.start("stepwise")?);
        self.complete("long 3", vec![0xFF; 9_000])
    }
}

fn interrupted(attempt: u32, checkpoint: Option<&[u8]>) -> Truth {
    Truth::Interrupted { attempt, checkpoint: checkpoint.map(<[u8]>::to_vec) }
}
