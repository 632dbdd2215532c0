//! Read transactions.

use super::*;

#[test]
fn a_reader_sees_what_is_committed_and_nothing_else() {
    let bench = Bench::new();
    complete_with_row(bench.begin("first", "request").fresh(), "first", "row");
    let before = bench.store.read_transaction().expect("the store is open");
    let has = |transaction: &redb::ReadTransaction, name| {
        let rows = transaction.open_table(ROWS).expect("it is there");
        rows.get(name).expect("redb works").is_some()
    };
    let mut during = None;
    let permit = bench.begin("second", "request").fresh();
    let completed = permit.complete_with(|transaction| {
        put(transaction, "second", "row");
        during = Some(bench.store.read_transaction().expect("the store is open"));
        Ok::<_, Infallible>("result")
    });
    completed.expect("it is committed");
    let after = bench.store.read_transaction().expect("the store is open");
    let during = during.expect("the closure has run");
    assert!(has(&before, "first") && has(&during, "first") && has(&after, "first"));
    assert!(!has(&before, "second") && !has(&during, "second") && has(&after, "second"));
    // A long read holds up no other call, and sees the same data all the time.
    for step in 0..50 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
        bench.store.settle().expect("it settles");
    }
    assert!(has(&before, "first") && !has(&before, "second"));
    let rows = before.open_table(ROWS).expect("it is there");
    assert_eq!(rows.iter().expect("redb works").count(), 1);
}

#[test]
fn a_store_that_is_closed_cannot_be_read() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
    }
    let reading = bench.store.read_transaction().expect("the store is open");
    let table = reading.open_table(ROWS).expect("it is there");
    assert_eq!(read_on(&reading).expect("it is open"), 20);
    bench.store.clone().close().expect("the store closes");
    assert!(matches!(bench.store.read_transaction(), Err(Error::Closed)));
    read_on(&reading).expect_err("the store is closed");
    table.get("1").map(drop).expect_err("the store is closed");
    drop((table, reading));
    let bench = Bench::on(bench.disk, bench.clock);
    assert_eq!(rows(&bench.store).len(), 20);
}

#[test]
fn a_store_whose_last_reader_is_gone_is_opened_again() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let open = || Store::builder().log_bytes(64 * 1024).result_len_max(1024).open(directory.path());
    let store = open().expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    complete_with_row(begin.fresh(), "k", "result");
    let reading = store.read_transaction().expect("the store is open");
    store.close().expect("the store closes");
    read_on(&reading).expect_err("the store is closed");
    drop(reading);
    let store = open().expect("the store opens again");
    assert_eq!(row(&store, "k").as_deref(), Some("result"));
}

#[test]
fn a_reader_of_a_vault_that_is_compacted_reads_no_wrong_rows() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(1_000));
    }
    let reading = bench.store.read_transaction().expect("the store is open");
    bench.store.compact().expect("it is compacted");
    if let Ok(count) = read_on(&reading) {
        assert_eq!(count, 20);
    }
    complete_with_row(bench.begin("later", "request").fresh(), "later", "row");
    assert_eq!(rows(&bench.store).len(), 21);
}
