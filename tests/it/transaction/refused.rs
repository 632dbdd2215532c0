//! Transactions that are not stored.

use super::inside::is_refused;
use super::*;

#[test]
fn a_closure_that_fails_stores_nothing() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let refused = permit.complete_with(|transaction| {
        put(transaction, "k", "row");
        Err::<Vec<u8>, _>(String::from("too little money"))
    });
    match refused {
        Err(TransactionError::Operation(error)) => assert_eq!(error, "too little money"),
        other => panic!("{other:?}"),
    }
    check_nothing_stored(&bench, "k");
}

#[test]
fn a_closure_that_panics_stores_nothing() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        permit.complete_with(|transaction| -> Result<&str, Infallible> {
            // One table is open when it panics, and one is closed.
            let _rows = transaction.open_table(ROWS).expect("it opens");
            transaction.open_table(COUNTS).expect("it opens").insert("rows", 1).expect("it is");
            panic!("17 is no number")
        })
    }));
    let panic = panicked.expect_err("the caller is told");
    assert_eq!(panic.downcast_ref(), Some(&"17 is no number"));
    check_nothing_stored(&bench, "k");
    bench.begin("l", "request").started().complete("result").expect("it completes");
    let bench = bench.reopen();
    bench.begin("l", "request").replay();
}

#[test]
fn a_transaction_can_be_made_while_its_thread_panics() {
    struct Last<'b>(&'b Bench, Option<Permit>);

    impl Drop for Last<'_> {
        fn drop(&mut self) {
            let permit = self.1.take().expect("it is dropped once");
            complete_with_row(permit, "k", "last words");
            let refused = self.0.store.transaction(|_| Err::<(), _>("refused"));
            assert!(matches!(refused, Err(TransactionError::Operation("refused"))));
        }
    }

    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _last = Last(&bench, Some(permit));
        panic!("17 is no number");
    }));
    assert!(panicked.is_err());
    let bench = bench.cut(|_| 0);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("last words"));
    assert_eq!(bench.begin("k", "request").replay().result(), b"last words");
}

#[test]
fn a_panic_in_a_write_without_a_key_stores_nothing() {
    let bench = Bench::new();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        bench.store.transaction(|transaction| -> Result<(), Infallible> {
            put(transaction, "k", "row");
            panic!("17 is no number")
        })
    }));
    assert!(panicked.is_err());
    check_nothing_stored(&bench, "k");
}

#[test]
fn what_is_not_committed_takes_no_room() {
    let bench = Bench::new();
    let refuse = |panics: bool| {
        let refused = catch_unwind(AssertUnwindSafe(|| {
            bench.begin("k", "request").fresh().complete_with(|transaction| {
                put(transaction, "k", &"row".repeat(20_000));
                assert!(!panics, "17 is no number");
                Err::<&str, _>("refused")
            })
        }));
        assert_eq!(refused.is_err(), panics);
    };
    refuse(false);
    let before = bench.store.stats().file_bytes;
    for step in 0..200 {
        refuse(step % 2 == 0);
    }
    assert_eq!(bench.store.stats().file_bytes, before);
}

#[test]
fn a_result_that_is_too_long_stores_nothing() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let refused = permit.complete_with(|transaction| {
        put(transaction, "k", "row");
        Ok::<_, Infallible>(vec![7; RESULT_LEN_MAX + 1])
    });
    let Err(TransactionError::TooLarge { len, max }) = refused else { panic!("{refused:?}") };
    assert_eq!((len, max), (RESULT_LEN_MAX + 1, RESULT_LEN_MAX));
    check_nothing_stored(&bench, "k");
}

/// One of the ways to open one of the store's own tables.
type AskReserved = fn(&Transaction<'_>, &str) -> Result<(), TableError>;

const ASK_RESERVED: [AskReserved; 3] = [
    |transaction, name| transaction.open_table(TableDefinition::<&str, &str>::new(name)).map(drop),
    |transaction, name| {
        let table = MultimapTableDefinition::<&str, &str>::new(name);
        transaction.open_multimap_table(table).map(drop)
    },
    |transaction, name| {
        transaction.delete_table(TableDefinition::<&str, &str>::new(name)).map(drop)
    },
];

#[test]
fn the_tables_of_the_store_are_its_own() {
    for name in ["records", "results", "meta"] {
        for ask in ASK_RESERVED {
            for ignore in [false, true] {
                let bench = Bench::new();
                bench.complete("completed", "request", "result");
                let operation = |transaction: &Transaction<'_>| {
                    put(transaction, "k", "row");
                    let asked = ask(transaction, name);
                    let refused = matches!(&asked, Err(TableError::TableAlreadyOpen(table, _)) if table == name);
                    assert!(refused, "{asked:?}");
                    put(transaction, "l", "row");
                    if ignore { Ok("result") } else { asked.map(|()| "result") }
                };
                let permit = bench.begin("k", "request").fresh();
                let refused = permit.complete_with(operation);
                assert!(matches!(refused, Err(TransactionError::ReservedTable)), "{refused:?}");
                let refused = bench.store.transaction(operation);
                assert!(matches!(refused, Err(TransactionError::ReservedTable)), "{refused:?}");
                check_nothing_stored(&bench, "k");
                assert_eq!(row(&bench.store, "l"), None);
                bench.begin("completed", "request").replay();
            }
        }
    }
}

#[test]
fn a_closure_that_leaks_a_table_stores_nothing_and_ends_the_store() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    let permit = bench.begin("k", "request").fresh();
    let refused = permit.complete_with(|transaction| {
        let table = transaction.open_table(TableDefinition::<&str, &str>::new("leaked"));
        std::mem::forget(table.expect("it is the caller's"));
        put(transaction, "k", "row");
        Ok::<_, Infallible>("result")
    });
    assert!(matches!(refused, Err(TransactionError::Unfinished)), "{refused:?}");
    // redb would block all later writes, so the store must let none through.
    let poisoned = bench.store.transaction(|_| Ok::<_, Infallible>(()));
    let poisoned = matches!(poisoned, Err(TransactionError::Store(Error::Poisoned(_))));
    assert!(poisoned && matches!(bench.store.settle(), Err(Error::Poisoned(_))));
    bench.begin("completed", "request").replay();
    let bench = bench.kill();
    assert_eq!(row(&bench.store, "k"), None);
    bench.begin("completed", "request").replay();
    bench.begin("k", "another").fresh();
}

#[test]
fn a_panic_reaches_the_caller_though_the_disk_fails_too() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        permit.complete_with(|transaction| -> Result<&str, Infallible> {
            bench.disk.fail(Fault { for_good: true, ..fault(Op::Any) });
            let definition = TableDefinition::<u64, &[u8]>::new("large");
            let mut table = transaction.open_table(definition).expect("it is the caller's");
            // More than redb keeps in memory.
            for row in 0..20 {
                drop(table.insert(row, &*vec![7; 900_000]));
            }
            panic!("the closure's own");
        })
    }));
    let panic = panicked.expect_err("the closure has panicked");
    assert_eq!(panic.downcast_ref(), Some(&"the closure's own"));
}

#[test]
fn a_handle_that_is_completed_inside_still_works_outside() {
    let bench = Bench::new();
    let execution = bench.begin("executing", "request").started();
    bench.begin("detached", "request").started().detach();
    let mut given_back = None;
    inside(&bench, || {
        let error = execution.complete("result").expect_err("it would wait for itself");
        given_back = error.into_handle();
        is_refused(bench.store.complete(&key("detached"), "result"));
        is_refused(bench.store.abandon(&key("detached")));
    });
    given_back.expect("the handle comes back").complete("result").expect("it completes");
    bench.begin("detached", "request").in_flight();
    bench.store.complete(&key("detached"), "result").expect("it completes");
}

#[test]
fn a_panic_goes_before_a_table_of_the_store() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        permit.complete_with(|transaction| -> Result<&str, Infallible> {
            let asked = transaction.open_table(TableDefinition::<u64, &[u8]>::new("results"));
            asked.expect("it is not for the caller");
            Ok("result")
        })
    }));
    assert!(panicked.is_err());
    check_nothing_stored(&bench, "k");
}

#[test]
fn names_like_those_of_the_store_are_the_callers() {
    let bench = Bench::new();
    for name in ["Records", "record", "meta2", "results ", "rows"] {
        let table = TableDefinition::<&str, &str>::new(name);
        let written = bench.store.transaction(|transaction| {
            transaction.open_table(table)?.insert("k", name)?;
            Ok::<_, redb::Error>(())
        });
        written.expect("it is committed");
    }
}
