//! Transactions and crashes.

use super::*;

/// A step of the crash tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Row and result, in one transaction.
    Row,
    /// A transaction that writes its row, and then fails.
    Refused,
    /// Row only, in a transaction without a key.
    Written,
    /// Started and completed through the log.
    Logged,
    Abandoned,
    /// Started, and left like that.
    Left,
}

const STEPS: [Step; 16] = [
    Step::Row,
    Step::Logged,
    Step::Refused,
    Step::Row,
    Step::Abandoned,
    Step::Left,
    Step::Row,
    Step::Logged,
    Step::Row,
    Step::Refused,
    Step::Written,
    Step::Logged,
    Step::Abandoned,
    Step::Row,
    Step::Left,
    Step::Row,
];

fn name(step: usize) -> String {
    format!("key {step}")
}

/// Of every length: stored with its record as well as apart from it.
fn result(step: usize) -> String {
    name(step).repeat(1 + step * 20)
}

/// The steps that were begun, and whether they were acknowledged.
type Progress = BTreeMap<usize, bool>;

/// Takes all steps until the disk fails, and records what was acknowledged.
fn work(store: &Store, progress: &mut Progress) -> Result<(), Box<dyn std::error::Error>> {
    for (step, kind) in STEPS.into_iter().enumerate() {
        progress.insert(step, false);
        take(store, step, kind)?;
        progress.insert(step, true);
        if step == 8 {
            store.settle()?;
        }
    }
    Ok(())
}

fn take(store: &Store, step: usize, kind: Step) -> Result<(), Box<dyn std::error::Error>> {
    let (name, result) = (name(step), result(step));
    let write = |transaction: &Transaction<'_>| -> Result<String, redb::Error> {
        write_row(transaction, &name, &result)?;
        Ok(result.clone())
    };
    if kind == Step::Written {
        store.transaction(write)?;
        return Ok(());
    }
    let Begin::Fresh(permit) = store.begin(&key(&name), Fingerprint::of(&name))? else {
        return Err("it is not fresh".into());
    };
    match kind {
        Step::Row => drop(permit.complete_with(write)?),
        Step::Refused => {
            let refused = permit.complete_with(|transaction| match write(transaction) {
                Ok(_) => Err::<&str, _>(None),
                Err(error) => Err(Some(error)),
            });
            match refused {
                Err(TransactionError::Operation(None)) => {}
                Err(error) => return Err(format!("{error:?}").into()),
                Ok(_) => panic!("it is refused"),
            }
        }
        Step::Logged => drop(permit.start()?.complete(&result).map_err(|error| error.to_string())?),
        Step::Abandoned => permit.start()?.abandon()?,
        Step::Left | Step::Written => drop(permit.start()?),
    }
    Ok(())
}

/// What each step must have left, and that it can be finished now, exactly once.
fn check(disk: SimDisk, clock: &ManualClock, progress: &Progress) {
    let store = builder(clock).open_on(disk).expect("the store opens after every crash");
    let rows = rows(&store);
    for (step, kind) in STEPS.into_iter().enumerate() {
        let name = name(step);
        let (asked, done) = (progress.contains_key(&step), progress.get(&step) == Some(&true));
        let row = rows.get(&name).map(String::as_str);
        let begin = store.begin(&key(&name), Fingerprint::of(&name)).expect("begin answers");
        let result_is_there = match &begin {
            Begin::Replay(completed) => {
                assert_eq!(completed.result(), result(step).as_bytes(), "{name}");
                asked
            }
            _ => false,
        };
        let right = match (kind, &begin) {
            // Each is there only if the other is.
            (Step::Row, Begin::Replay(_)) => result_is_there && row == Some(&*result(step)),
            (Step::Written, Begin::Fresh(_)) => match row {
                Some(row) => asked && row == result(step),
                None => !done,
            },
            (Step::Logged, Begin::Replay(_)) => result_is_there && row.is_none(),
            // A start that was not acknowledged may still have become durable.
            (Step::Row | Step::Logged | Step::Left, Begin::Fresh(_))
            | (Step::Logged | Step::Abandoned, Begin::Interrupted(_)) => !done && row.is_none(),
            (Step::Refused | Step::Abandoned, Begin::Fresh(_)) => row.is_none(),
            (Step::Left, Begin::Interrupted(_)) => asked && row.is_none(),
            _ => false,
        };
        assert!(right, "{kind:?}, step {step} of {progress:?}: {begin:?} and {row:?}");
        if kind == Step::Row
            && let Begin::Fresh(permit) = begin
        {
            complete_with_row(permit, &name, &result(step));
        }
    }
    let rows_of = |rows: &BTreeMap<String, String>, kind| {
        STEPS
            .iter()
            .enumerate()
            .filter(|(step, is)| **is == kind && rows.contains_key(&name(*step)))
            .count()
    };
    let written = rows_of(&rows, Step::Written);
    let rows = self::rows(&store);
    assert_eq!((rows_of(&rows, Step::Row), rows.len()), (6, 6 + written));
    store.close().expect("the store closes");
}

/// Takes all steps until the disk fails in this way. Returns whether it failed at all.
fn crash(fault: Fault, images: impl Fn(&SimDisk) -> Vec<SimDisk>) -> bool {
    let disk = SimDisk::new();
    let clock = manual_clock();
    let mut progress = Progress::new();
    disk.fail(fault);
    let worked = match builder(&clock).open_on(disk.clone()) {
        Ok(store) => {
            let worked = work(&store, &mut progress).is_ok();
            store.close().is_ok() && worked
        }
        Err(_) => false,
    };
    for image in images(&disk) {
        check(image, &clock, &progress);
    }
    !worked
}

fn cuts(disk: &SimDisk) -> Vec<SimDisk> {
    (0..size("CRASH_IMAGES", 6))
        .map(|image| {
            let mut seed = splitmix(image);
            disk.after_power_cut(|below| {
                seed = splitmix(seed);
                seed % below
            })
        })
        .collect()
}

#[test]
fn rows_and_results_agree_after_a_kill_at_every_write() {
    let mut writes = 0;
    let fault = |after| Fault { after, for_good: true, ..fault(Op::Any) };
    while crash(fault(writes), |disk| vec![disk.after_kill()]) {
        writes += 1;
    }
    assert!(100 < writes, "only {writes} writes");
}

#[test]
fn rows_and_results_agree_after_a_power_cut_at_every_write() {
    let mut writes = 0;
    let fault = |after| Fault { after, for_good: true, ..fault(Op::Any) };
    while crash(fault(writes), cuts) {
        writes += 1;
    }
    assert!(100 < writes, "only {writes} writes");
}

#[test]
fn rows_and_results_agree_after_every_failed_operation() {
    for on in [Op::Any, Op::Read, Op::Sync, Op::VaultSync, Op::SetLen] {
        for after in 0.. {
            let failed = crash(Fault { after, ..fault(on) }, |disk| {
                // The disk is well again, and what was written is there.
                disk.heal();
                vec![disk.clone()]
            });
            if !failed {
                assert!(on != Op::Any || 100 < after, "only {after} operations");
                break;
            }
        }
    }
}

#[test]
fn rows_and_results_agree_after_a_power_cut_during_recovery() {
    let (disk, clock) = (SimDisk::new(), manual_clock());
    let mut progress = Progress::new();
    let store = builder(&clock).open_on(disk.clone()).expect("the store opens");
    work(&store, &mut progress).expect("the disk is well");
    let crashed = disk.after_kill();
    for after in 0.. {
        let again = crashed.after_kill();
        again.fail(Fault { after, for_good: true, ..fault(Op::Any) });
        let opened = builder(&clock).open_on(again.clone()).is_ok();
        for image in cuts(&again) {
            check(image, &clock, &progress);
        }
        if opened {
            assert!(5 < after, "only {after} writes");
            break;
        }
    }
}

#[test]
fn rows_and_results_agree_with_many_threads_on_a_disk_that_fails() {
    let mut all = 0;
    for after in (0..200).step_by(4) {
        let bench = Bench::new();
        bench.disk.fail(Fault { after, for_good: true, ..fault(Op::Sync) });
        let acknowledged = std::sync::Mutex::new(Vec::new());
        thread::scope(|scope| {
            for thread in 0..6 {
                let (bench, acknowledged) = (&bench, &acknowledged);
                scope.spawn(move || {
                    for step in 0.. {
                        let name = format!("{thread} {step}");
                        let begin = bench.store.begin(&key(&name), Fingerprint::of("request"));
                        let Ok(Begin::Fresh(permit)) = begin else { return };
                        let done = if thread % 2 == 0 {
                            let write = |transaction: &Transaction<'_>| {
                                write_row(transaction, &name, &name).map(|()| &name)
                            };
                            permit.complete_with(write).is_ok()
                        } else {
                            permit.complete(&name).is_ok()
                        };
                        if !done {
                            return;
                        }
                        acknowledged.lock().expect("no thread panics").push(name);
                    }
                });
            }
        });
        let bench = bench.cut(|_| 0);
        let rows = rows(&bench.store);
        let acknowledged = acknowledged.into_inner().expect("no thread panics");
        for name in &acknowledged {
            assert_eq!(bench.begin(name, "request").replay().result(), name.as_bytes());
            let has_row = ["0", "2", "4"].contains(&&name[..1]);
            assert_eq!(rows.contains_key(name), has_row, "{name}");
        }
        for name in rows.keys() {
            bench.begin(name, "request").replay();
        }
        all += acknowledged.len();
    }
    assert!(200 < all, "only {all} were acknowledged");
}

const ACCOUNTS: TableDefinition<u64, u64> = TableDefinition::new("accounts");

/// Moves money from one account to the next; `None` if there is too little, after it has already
/// written.
fn transfer(transaction: &Transaction<'_>, seed: u64) -> Result<Option<String>, redb::Error> {
    let mut accounts = transaction.open_table(ACCOUNTS)?;
    let (to, from, cents) = (seed % 4, (seed + 1) % 4, seed % 60);
    let balance = accounts.get(to)?.map_or(0, |balance| balance.value()) + cents;
    accounts.insert(to, balance)?;
    let balance = accounts.get(from)?.map_or(0, |balance| balance.value());
    let Some(balance) = balance.checked_sub(cents) else { return Ok(None) };
    accounts.insert(from, balance)?;
    Ok(Some(format!("{balance}")))
}

#[test]
fn money_is_conserved_among_threads_with_a_background_thread() {
    let builder = Store::builder().log_bytes(64 * 1024).result_len_max(1024);
    let store = builder.open_on(SimDisk::new()).expect("the store opens");
    let fill = |transaction: &Transaction<'_>| -> Result<(), redb::Error> {
        let mut accounts = transaction.open_table(ACCOUNTS)?;
        (0..4).try_for_each(|account| accounts.insert(account, 100).map(drop))?;
        Ok(())
    };
    store.transaction(fill).expect("it is committed");
    let (applied, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let client = |thread: u64| {
        for step in 0..100 {
            // Two threads use the same keys.
            let name = key(&format!("{} {step}", thread % 2));
            if let Begin::Fresh(permit) = begin(&store, &name) {
                let seed = splitmix(step);
                let completed =
                    permit.complete_with(|transaction| match transfer(transaction, seed) {
                        Ok(receipt) => receipt.ok_or(None),
                        Err(error) => Err(Some(error)),
                    });
                let count = match completed {
                    Ok(_) => &applied,
                    Err(TransactionError::Operation(None)) => &refused,
                    Err(error) => panic!("{error:?}"),
                };
                count.fetch_add(1, Ordering::Relaxed);
            }
            let execution = begin(&store, &key(&format!("log {thread} {step}"))).started();
            execution.complete([7; 300]).expect("it completes");
        }
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || client(thread));
        }
    });
    assert!(applied.into_inner() <= 200);
    assert!(0 < refused.into_inner(), "there was always enough money");
    let reading = store.read_transaction().expect("the store is open");
    let accounts = reading.open_table(ACCOUNTS).expect("it is there");
    let balances = accounts.iter().expect("redb works");
    let balances = balances.map(|row| row.expect("redb works").1.value());
    assert_eq!(balances.sum::<u64>(), 400);
}

fn begin(store: &Store, key: &idemstore::Key) -> Begin {
    store.begin(key, Fingerprint::NONE).expect("begin answers")
}

/// The file is a redb file, and any program with redb can read the caller's tables.
#[test]
fn the_rows_are_in_a_file_of_redb() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let store = Store::open(directory.path()).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    complete_with_row(begin.fresh(), "k", "result");
    store.close().expect("the store closes");
    let database = redb::Database::open(directory.path().join("vault.redb")).expect("redb works");
    let reading = database.begin_read().expect("redb works");
    let rows = reading.open_table(ROWS).expect("it is there");
    assert_eq!(rows.get("k").expect("redb works").expect("it is there").value(), "result");
}
