//! Results: every length, byte for byte, and none that is too long.

use idemstore::{CompleteError, FinishError};

use crate::support::{Answers, Bench, Started, key};

const RESULT_LEN_MAX: usize = 16 * 1024;

fn result(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn results_of_every_length_come_back_byte_for_byte() {
    // Lengths around what is stored within a record, and up to what a store accepts.
    let lens = [0, 1, 2, 511, 512, 513, 514, 4096, RESULT_LEN_MAX - 1, RESULT_LEN_MAX];
    let mut bench = Bench::new();
    for len in lens {
        let execution = bench.begin(&format!("{len}"), "request").started();
        execution.complete(result(len)).expect("it completes");
    }
    for _ in 0..3 {
        for len in lens {
            let replay = bench.begin(&format!("{len}"), "request").replay();
            assert_eq!(replay.result(), result(len), "{len} bytes");
        }
        bench = bench.reopen();
    }
}

#[test]
fn a_result_that_is_too_long_gives_the_execution_back() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let before = bench.disk.bytes();
    let error = execution.complete(result(RESULT_LEN_MAX + 1)).expect_err("it is too long");
    let CompleteError::TooLarge { len, max, handle: execution } = error else { panic!("{error}") };
    assert_eq!((len, max), (RESULT_LEN_MAX + 1, RESULT_LEN_MAX));
    assert_eq!(bench.disk.bytes(), before);
    bench.begin("k", "request").in_flight();
    execution.complete(result(RESULT_LEN_MAX)).expect("it completes");
}

#[test]
fn a_result_that_is_too_long_gives_the_permit_back() {
    let bench = Bench::new();
    let permit = bench.begin("k", "request").fresh();
    let error = permit.complete(result(RESULT_LEN_MAX + 1)).expect_err("it is too long");
    let permit = error.into_handle().expect("nothing was written");
    permit.complete("short").expect("it completes");
    assert_eq!(bench.begin("k", "request").replay().result(), b"short");
}

#[test]
fn a_result_that_is_too_long_gives_the_interrupted_operation_back() {
    let bench = Bench::new();
    drop(bench.begin("k", "request").started());
    let interrupted = bench.begin("k", "request").interrupted();
    let error = interrupted.resolve(result(RESULT_LEN_MAX + 1)).expect_err("it is too long");
    let interrupted = error.into_handle().expect("nothing was written");
    interrupted.resolve("short").expect("it is resolved");
}

#[test]
fn a_result_that_is_too_long_leaves_a_detached_execution_detached() {
    let bench = Bench::new();
    bench.begin("k", "request").started().detach();
    let too_long = bench.store.complete(&key("k"), result(RESULT_LEN_MAX + 1));
    let too_large =
        matches!(too_long, Err(FinishError::TooLarge { len: 16385, max: RESULT_LEN_MAX }));
    assert!(too_large);
    bench.begin("k", "request").in_flight();
    bench.store.complete(&key("k"), "short").expect("it completes");
}
