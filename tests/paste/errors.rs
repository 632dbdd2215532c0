//! The table of errors in the chapter on operations: it names each one that a user can meet.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const OPERATIONS: &str = include_str!("../../docs/guide/operations.md");

/// The variants of all error types in the files below a directory, and the types that have none.
fn read(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).expect("the sources are here") {
        let path = entry.expect("it is listed").path();
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            errors(&fs::read_to_string(&path).expect("it is text"), found);
        }
    }
}

fn name(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric()).unwrap_or(text.len());
    text.get(..end).expect("it ends between two letters")
}

fn errors(source: &str, found: &mut BTreeSet<String>) {
    let is_error = |name: &str| name.ends_with("Error") || name == "Bound";
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if let Some(unit) = line.strip_prefix("pub struct ").and_then(|it| it.strip_suffix(';')) {
            found.extend(is_error(unit).then(|| unit.to_owned()));
        }
        let Some(of) = line.strip_prefix("pub enum ").map(name).filter(|it| is_error(it)) else {
            continue;
        };
        let inside = lines.by_ref().take_while(|line| *line != "}");
        let variants = inside.filter_map(|line| line.strip_prefix("    "));
        let variants = variants.filter(|line| line.starts_with(char::is_uppercase));
        found.extend(variants.map(|line| format!("{of}::{}", name(line))));
    }
}

/// The names in the table: `OpenError::Io`, or a type for all of its variants.
fn table() -> BTreeSet<String> {
    let section = OPERATIONS.split("## On each error").nth(1).expect("the section is there");
    let section = section.split("\n## ").next().expect("it has an end");
    let mut named = BTreeSet::new();
    for row in section.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cell = row.split('|').next().expect("it has a first cell");
        let mut of = "";
        for error in cell.split(',').map(|part| part.trim_matches([' ', '`'])) {
            let (before, variant) = error.split_once("::").unwrap_or((of, error));
            of = before;
            // A type without a variant.
            let is_type = variant.ends_with("Error");
            let whole = if is_type { variant.to_owned() } else { format!("{of}::{variant}") };
            assert!(named.insert(whole), "{error} is in the table twice");
        }
    }
    named
}

#[test]
fn the_chapter_on_operations_says_what_to_do_on_each_error() {
    let mut all = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(60 < all.len(), "{all:#?}");
    let mut named = table();
    let types: Vec<_> = named.iter().filter(|name| !name.contains("::")).cloned().collect();
    for of in types {
        let of_type = |name: &&String| name.split("::").next() == Some(of.as_str());
        let variants: Vec<_> = all.iter().filter(of_type).cloned().collect();
        assert!(!variants.is_empty(), "there is no {of}");
        named.remove(&of);
        named.extend(variants);
    }
    let missing: Vec<_> = all.difference(&named).collect();
    let gone: Vec<_> = named.difference(&all).collect();
    assert!(missing.is_empty() && gone.is_empty(), "missing: {missing:#?}, gone: {gone:#?}");
}
