//! Random runs from a seed: the same calls as in the fixed script, in any order, on keys in any
//! state.

use std::collections::BTreeMap;
use std::time::Duration;

#[cfg(feature = "transaction")]
use idemstore::redb::{self, TableDefinition};
use idemstore::sim::{BackupOn, Disk, OpenOn};
use idemstore::{Begin, Interrupted, ManualClock, Permit, Store};

use super::super::choice::by_seed;
use super::super::{RETENTION_MS, SimDisk, builder, key};
use super::{Run, Told, Truth, Unsaid, interrupted, say};

/// Keys that are used again and again.
const KEYS: u64 = 10;
/// Lengths of results and of checkpoints. From 600 bytes on they get a separate row, and three of
/// the longest fill a segment of the log.
const LENS: [usize; 7] = [0, 6, 400, 600, 2_000, 4_000, 9_000];

/// The caller's own table, written without any key.
#[cfg(feature = "transaction")]
const NOTES: TableDefinition<'_, u64, u64> = TableDefinition::new("notes");

/// What was done, by name, with the number of times.
pub type Tally = BTreeMap<&'static str, u64>;

/// Creates a store and makes random calls from this seed, until one fails.
pub fn run<D: Disk + Clone>(
    seed: u64,
    disk: &D,
    clock: &ManualClock,
    told: &Told,
) -> Result<Tally, Unsaid> {
    let mut drawn = Drawn {
        choose: Box::new(by_seed(seed)),
        clock: clock.clone(),
        made: 0,
        tally: Tally::new(),
    };
    for _ in 0..2 + drawn.below(3) {
        let store = builder(clock).open_on(disk.clone()).map_err(|it| Unsaid(it.to_string()))?;
        let run = Run { store, told: told.clone() };
        for _ in 0..6 + drawn.below(18) {
            drawn.step(&run)?;
        }
        // Half of the handles are simply dropped, and leave their keys to the next open.
        if drawn.below(2) == 0 {
            drawn.count("close");
            say(run.store.clone().close())?;
        } else {
            drawn.count("let go");
        }
    }
    Ok(drawn.tally)
}

struct Drawn {
    choose: Box<dyn FnMut(u64) -> u64 + Send>,
    clock: ManualClock,
    /// Keys that were created to be used once.
    made: u64,
    tally: Tally,
}

impl Drawn {
    fn below(&mut self, end: u64) -> u64 {
        (self.choose)(end)
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// A key that has not been used.
    fn new_name(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind} {}", self.made)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let (len, byte) = (LENS[self.below(LENS.len() as u64) as usize], self.below(256) as u8);
        vec![byte; len]
    }

    fn step(&mut self, run: &Run) -> Result<(), Unsaid> {
        match self.below(32) {
            0..=16 => self.some_key(run),
            17..=20 => self.own(run),
            21 => self.refused(run),
            22 => self.note(run),
            23 => self.beside(run),
            24 => self.many(run),
            25..=27 => {
                self.count("settle");
                say(run.store.settle())
            }
            28 => {
                self.count("sweep");
                say(run.store.sweep())
            }
            29 => {
                self.count("compact");
                say(run.store.compact())
            }
            30 => self.backup(run),
            _ => {
                self.count("expiry");
                self.clock.advance(Duration::from_millis(RETENTION_MS));
                run.told.lock().expire();
                Ok(())
            }
        }
    }

    /// Anything that the state of a key allows.
    fn some_key(&mut self, run: &Run) -> Result<(), Unsaid> {
        let name = format!("key {}", self.below(KEYS));
        match run.begin(&name)? {
            Begin::Fresh(permit) => self.fresh(run, &name, permit),
            Begin::Interrupted(interrupted) => self.interrupted(run, &name, interrupted),
            Begin::Replay(_) | Begin::NotKept(_) if self.below(3) == 0 => {
                self.count("forget");
                run.told.call(&name, Truth::Free, || run.store.forget(&key(&name))).map(drop)
            }
            Begin::Replay(_) | Begin::NotKept(_) => Ok(()),
            other => panic!("nobody holds {name}, and it is {other:?}"),
        }
    }

    fn fresh(&mut self, run: &Run, name: &str, permit: Permit) -> Result<(), Unsaid> {
        if self.below(4) == 0 {
            self.count("complete at once");
            let result = self.bytes();
            let complete = || permit.complete(&result).map_err(|error| error.to_string());
            return run.told.call(name, Truth::Completed(result.clone()), complete).map(drop);
        }
        self.count("start");
        let execution = run.told.call(name, interrupted(1, None), || permit.start())?;
        self.executing(run, name, execution)
    }

    fn executing(
        &mut self,
        run: &Run,
        name: &str,
        mut execution: idemstore::Execution,
    ) -> Result<(), Unsaid> {
        for _ in 0..self.below(3) {
            self.count("checkpoint");
            let checkpoint = self.bytes();
            let next = interrupted(execution.attempt(), Some(&checkpoint));
            run.told.call(name, next, || execution.checkpoint(&checkpoint))?;
        }
        match self.below(8) {
            0..=3 => {
                self.count("complete");
                let result = self.bytes();
                let complete = || execution.complete(&result).map_err(|error| error.to_string());
                run.told.call(name, Truth::Completed(result.clone()), complete).map(drop)
            }
            4 => {
                self.count("tombstone");
                let bytes = self.bytes();
                let buried = Truth::NotKept(bytes.len() as u64);
                run.told.call(name, buried, || execution.complete_digest(&bytes)).map(drop)
            }
            5 => {
                self.count("abandon");
                run.told.call(name, Truth::Free, || execution.abandon()).map(drop)
            }
            _ => {
                self.count("drop");
                Ok(())
            }
        }
    }

    fn interrupted(&mut self, run: &Run, name: &str, handle: Interrupted) -> Result<(), Unsaid> {
        match self.below(6) {
            0..=2 => {
                self.count("retry");
                let next = interrupted(handle.attempt() + 1, handle.last_checkpoint());
                let execution = run.told.call(name, next, || handle.retry())?;
                self.executing(run, name, execution)
            }
            3..=4 => {
                self.count("resolve");
                let result = self.bytes();
                let resolve = || handle.resolve(&result).map_err(|error| error.to_string());
                run.told.call(name, Truth::Completed(result.clone()), resolve).map(drop)
            }
            _ => {
                self.count("give up");
                run.told.call(name, Truth::Free, || handle.abandon()).map(drop)
            }
        }
    }

    /// A result that is stored together with a row of the caller's. Its key is used only once: the
    /// row outlives its retention.
    #[cfg(feature = "transaction")]
    fn own(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.count("complete with");
        let (name, result) = (self.new_name("own"), self.bytes());
        let permit = run.permit(&name)?;
        run.told.call(&name, Truth::Completed(result.clone()), || {
            permit.complete_with(|transaction| {
                transaction.open_table(super::ROWS)?.insert(&*name, 1)?;
                Ok::<_, redb::Error>(&result)
            })
        })?;
        Ok(())
    }

    #[cfg(feature = "transaction")]
    fn refused(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.count("refused");
        let name = self.new_name("refused");
        let said = run.permit(&name)?.complete_with(|transaction| {
            transaction.open_table(super::ROWS)?.insert(&*name, 1)?;
            Err::<&str, _>(redb::Error::DatabaseAlreadyOpen)
        });
        if matches!(said, Err(idemstore::TransactionError::Operation(_))) {
            Ok(())
        } else {
            say(said)
        }
    }

    #[cfg(feature = "transaction")]
    fn note(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.count("write");
        let note = self.below(100);
        say(run.store.transaction(|transaction| {
            transaction.open_table(NOTES)?.insert(note, note)?;
            Ok::<_, redb::Error>(())
        }))
    }

    /// Calls for a key while a transaction is under way, whose mark comes after them. At most one
    /// key: the log must have room, since it can't be settled meanwhile.
    #[cfg(feature = "transaction")]
    fn beside(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.count("beside");
        let mut said = Ok(());
        say(run.store.transaction(|transaction| {
            transaction.open_table(NOTES)?.insert(0, 0)?;
            let other = || self.some_key(run);
            said = std::thread::scope(|scope| scope.spawn(other).join())
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok::<_, redb::Error>(())
        }))?;
        said
    }

    #[cfg(not(feature = "transaction"))]
    fn own(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.some_key(run)
    }

    #[cfg(not(feature = "transaction"))]
    fn refused(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.some_key(run)
    }

    #[cfg(not(feature = "transaction"))]
    fn beside(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.some_key(run)
    }

    #[cfg(not(feature = "transaction"))]
    fn note(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.some_key(run)
    }

    /// A batch, each of whose operations becomes durable on its own until the call returns for all.
    fn many(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.count("many");
        let names: Vec<_> = (0..2 + self.below(5)).map(|_| self.new_name("of many")).collect();
        let mut permits = Vec::new();
        for name in &names {
            permits.push(run.permit(name)?);
            run.told.lock().expect(name, interrupted(1, None));
        }
        let mut executions = Vec::new();
        for (name, execution) in names.iter().zip(run.store.start_many(permits)) {
            let execution = execution.map_err(|error| Unsaid(error.to_string()))?;
            run.told.lock().acknowledge(name);
            let result = self.bytes();
            run.told.lock().expect(name, Truth::Completed(result.clone()));
            executions.push((execution, result));
        }
        for (name, completed) in names.iter().zip(run.store.complete_many(executions)) {
            say(completed)?;
            run.told.lock().acknowledge(name);
        }
        Ok(())
    }

    /// A copy equals the store.
    fn backup(&mut self, run: &Run) -> Result<(), Unsaid> {
        self.count("backup");
        let copy = SimDisk::new();
        say(run.store.backup_on(copy.clone()))?;
        let copied = builder(&self.clock).open_on(copy.after_power_cut(|_| 0));
        let copied: Store = copied.map_err(|error| Unsaid(error.to_string()))?;
        drop(run.told.lock().check(&copied));
        Ok(())
    }
}
