//! What the README and the guide show, pasted into a new crate as a reader would do it.

#![expect(
    unreachable_pub,
    clippy::expect_used,
    reason = "a test that cannot go on has failed, and it has no users"
)]

mod block;
mod errors;
mod needs;
#[expect(dead_code, reason = "a program has a `main`, and its tests do without")]
mod orders;
mod project;

use std::fs;
use std::path::Path;

use block::{Block, Document, Kind};

/// The README and all chapters of the guide.
fn documents() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_dir(root.join("docs/guide")).expect("the guide is here");
    let chapters = guide.map(|entry| entry.expect("it is listed").path());
    let chapters = chapters.filter(|path| path.extension().is_some_and(|it| it == "md"));
    let mut paths: Vec<_> = chapters.chain([root.join("README.md")]).collect();
    paths.sort();
    let read = |path: &Path| {
        let name = path.strip_prefix(root).expect("it is below the root");
        let text = fs::read_to_string(path).expect("it is text");
        Document::read(name.to_str().expect("its name is text"), &text)
    };
    paths.iter().map(|path| read(path)).collect()
}

/// Every block that a reader can paste.
fn blocks() -> Vec<Block> {
    let blocks = documents().into_iter().flat_map(|document| document.blocks);
    blocks.filter(|block| block.kind != Kind::Excerpt).collect()
}

#[test]
fn each_block_says_that_it_is_rust_and_nothing_that_is_not_known() {
    for document in documents() {
        assert_eq!(document.faults, [""; 0]);
        let strange = document.strange_excerpts();
        assert_eq!(strange, [""; 0], "these are ignored, and in no file that the document has");
    }
}

#[test]
fn no_line_is_hidden_from_who_reads_the_file() {
    for document in documents() {
        let hidden: Vec<_> = document.blocks.iter().flat_map(Block::hidden_lines).collect();
        assert_eq!(hidden, [""; 0], "rustdoc does not show these lines");
    }
}

#[test]
fn each_block_of_the_guide_names_the_crates_and_features_that_it_needs() {
    let mut faults = Vec::new();
    let is_stated = |block: &&Block| block.kind == Kind::Whole && block.document != "README.md";
    for block in blocks().iter().filter(is_stated) {
        faults.extend(needs::faults(block));
    }
    assert_eq!(faults, [""; 0]);
}

#[test]
fn each_block_compiles_as_pasted() {
    let blocks = blocks();
    assert!(8 < blocks.len(), "{}", blocks.len());
    project::check(&blocks);
}

#[test]
fn the_chapter_on_testing_shows_the_tests_that_are_run_here() {
    let chapter = blocks().into_iter().find(|block| block.document == "docs/guide/testing.md");
    assert_eq!(chapter.expect("it has a block").code, include_str!("orders.rs"));
}

#[test]
fn two_chapters_show_examples_that_can_be_run() {
    let shown = [
        ("docs/guide/async.md", include_str!("../../examples/async_service.rs")),
        ("docs/guide/business-data.md", include_str!("../../examples/business_data.rs")),
    ];
    let blocks = blocks();
    for (document, example) in shown {
        let chapter = blocks.iter().find(|block| block.document == document);
        let chapter = &chapter.expect("it has a block").code;
        // A block starts with the crates that it needs, and an example with how to run it.
        let (needs, pasted) = chapter.split_once('\n').expect("it has lines");
        let (how, run) = example.split_once("\n\n").expect("it has a heading");
        assert!(needs.starts_with("// Needs: ") && how.starts_with("//! "), "{document}");
        assert_eq!(pasted, run, "{document}");
    }
}
