//! What is stored together.

use super::*;

#[test]
fn a_row_and_a_result_are_stored_together() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    bench.tick(5);
    let completed = complete_with_row(permit, "k", "result");
    assert_eq!(completed.result(), b"result");
    assert_eq!(completed.attempt(), 1);
    assert_eq!(completed.begun_at().as_unix_ms(), START_MS);
    assert_eq!(completed.completed_at().as_unix_ms(), START_MS + 5);
    assert_eq!(completed.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
    for restart in [Bench::reopen, Bench::kill, |bench: Bench| bench.cut(|_| 0)] {
        // Unsynced changes are gone, and this isn't one of them.
        let image = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
        let image = restart(image);
        assert_eq!(row(&image.store, "k").as_deref(), Some("result"));
        let replay = image.begin("k", "request").replay();
        assert_eq!(replay.result(), b"result");
        assert_eq!(replay.completed_at(), completed.completed_at());
        assert_eq!(replay.expires_at(), completed.expires_at());
        assert!(image.begin("k", "another").mismatches());
    }
}

#[test]
fn a_transaction_is_settled_at_once() {
    let bench = Bench::new();
    let before = bench.store.stats();
    complete_with_row(bench.begin("k", "request").fresh(), "k", "result");
    let after = bench.store.stats();
    assert_eq!((after.unsettled_changes, after.in_flight), (0, 0));
    assert_eq!((after.records, after.live, after.interrupted), (1, 1, 0));
    // It bypassed the log.
    assert_eq!((after.batches, after.changes), (before.batches, before.changes));
}

#[test]
fn results_of_every_length_come_back_byte_for_byte() {
    let lens = [0, 1, 511, 512, 513, RESULT_LEN_MAX - 1, RESULT_LEN_MAX];
    let mut bench = Bench::new();
    let result = |len: usize| (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    for len in lens {
        let permit = bench.begin(&format!("{len}"), "request").fresh();
        let completed = permit.complete_with(|_| Ok::<_, Infallible>(result(len)));
        assert_eq!(completed.expect("it is committed").result(), result(len));
    }
    for _ in 0..2 {
        for len in lens {
            let replay = bench.begin(&format!("{len}"), "request").replay();
            assert_eq!(replay.result(), result(len), "{len} bytes");
        }
        bench = bench.reopen();
    }
}

#[test]
fn a_retention_of_its_own_counts() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh().with_retention(Duration::from_millis(7));
    complete_with_row(permit, "k", "result");
    bench.tick(6);
    bench.begin("k", "request").replay();
    bench.tick(1);
    bench.begin("k", "request").fresh();
}

#[test]
fn multimaps_and_deleted_tables_are_part_of_it() {
    const TAGS: MultimapTableDefinition<&str, &str> = MultimapTableDefinition::new("tags");
    let bench = Bench::new();
    let write = |refuse: bool| {
        bench.store.transaction(|transaction| {
            let mut tags = transaction.open_multimap_table(TAGS).expect("it opens");
            let tag = if refuse { "refused" } else { "taken" };
            tags.insert("k", tag).expect("it is written");
            drop(tags);
            // From a missing table nothing is deleted, and from an existing one everything.
            let deleted = transaction.delete_table(ROWS).expect("redb works");
            if refuse { Err("refused") } else { Ok(deleted) }
        })
    };
    assert!(!write(false).expect("it is committed"));
    bench
        .store
        .transaction(|transaction| {
            put(transaction, "k", "row");
            Ok::<_, Infallible>(())
        })
        .expect("it is committed");
    write(true).expect_err("it is refused");
    let reading = bench.store.read_transaction().expect("the store is open");
    let tags = reading.open_multimap_table(TAGS).expect("it is there");
    let tags: Vec<_> = tags
        .get("k")
        .expect("redb works")
        .map(|tag| tag.expect("redb works").value().to_owned())
        .collect();
    assert_eq!(tags, ["taken"]);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("row"));
    assert!(write(false).expect("it is committed"));
    let reading = bench.store.read_transaction().expect("the store is open");
    assert!(matches!(reading.open_table(ROWS), Err(TableError::TableDoesNotExist(_))));
}

#[test]
fn what_is_written_without_a_key_is_stored_or_not() {
    let bench = Bench::new();
    let written = bench.store.transaction(|transaction| {
        put(transaction, "a", "row");
        Ok::<_, Infallible>(17)
    });
    assert_eq!(written.expect("it is committed"), 17);
    let refused = bench.store.transaction(|transaction| {
        put(transaction, "b", "row");
        Err::<(), _>("refused")
    });
    assert!(matches!(refused, Err(TransactionError::Operation("refused"))), "{refused:?}");
    assert_eq!(bench.store.stats().records, 0);
    let bench = bench.cut(|_| 0);
    assert_eq!(rows(&bench.store).into_keys().collect::<Vec<_>>(), ["a"]);
}

#[test]
fn the_last_handle_of_a_store_completes_and_closes_it() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let Bench { disk, clock, store, .. } = bench;
    drop(store);
    complete_with_row(permit, "k", "result");
    // The directory is no longer locked.
    let bench = Bench::on(disk, clock);
    assert_eq!(row(&bench.store, "k").as_deref(), Some("result"));
    bench.begin("k", "request").replay();
}

#[test]
fn backup_and_compact_keep_rows_and_results() {
    let bench = Bench::new();
    for step in 0..20 {
        let name = format!("{step}");
        complete_with_row(bench.begin(&name, "request").fresh(), &name, &name.repeat(500));
    }
    let backup = SimDisk::new();
    bench.store.backup_on(backup.clone()).expect("it is backed up");
    bench.store.compact().expect("it is compacted");
    complete_with_row(bench.begin("later", "request").fresh(), "later", "result");
    let copy = Bench::on(backup, bench.clock.clone());
    assert_eq!((rows(&copy.store).len(), rows(&bench.store).len()), (20, 21));
    let bench = bench.cut(|_| 0);
    for step in 0..20 {
        let name = format!("{step}");
        for bench in [&copy, &bench] {
            assert_eq!(row(&bench.store, &name), Some(name.repeat(500)));
            let replay = bench.begin(&name, "request").replay();
            assert_eq!(replay.result(), name.repeat(500).as_bytes());
        }
    }
    bench.begin("later", "request").replay();
    copy.begin("later", "request").fresh();
}
