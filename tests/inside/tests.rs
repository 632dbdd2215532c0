//! The fuzzer's corpora, run as tests. The published package doesn't contain them.

use std::fs;
use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        return;
    }
    let mut inputs = 0;
    for entry in fs::read_dir(fuzz.join("corpus").join(target)).expect("there is a corpus") {
        run(&fs::read(entry.expect("it is listed").path()).expect("it can be read"));
        inputs += 1;
    }
    assert!(0 < inputs, "the corpus is empty");
}

#[test]
fn records_and_changes_come_back_for_what_the_fuzzer_has_found() {
    replay("codec", super::codec);
}

#[test]
fn no_frame_is_lost_without_a_word_for_what_the_fuzzer_has_found() {
    replay("frames", super::frames);
}
