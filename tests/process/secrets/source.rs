//! What the sources say: which types are public, and which variants they have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Public traits and modules: they have no values that could be shown.
const NO_TYPES: [&str; 3] = ["Clock", "Completable", "Startable"];

/// Every file of the crate's own code, with its path.
pub fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    files
}

fn collect(directory: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("the sources are here") {
        let path = entry.expect("it is listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let text = fs::read_to_string(&path).expect("it is text");
            files.push((path.display().to_string(), text));
        }
    }
}

/// The types that `src/lib.rs` makes public.
pub fn public_types() -> BTreeSet<String> {
    let mut types = BTreeSet::new();
    let mut enabled = true;
    let mut used = String::new();
    for line in include_str!("../../../src/lib.rs").lines() {
        if let Some(feature) = feature(line) {
            enabled = has(feature);
        } else if line.starts_with("pub use") || !used.is_empty() {
            used.push_str(line);
            used.push(' ');
            if line.ends_with(';') {
                if enabled {
                    types.extend(words(&used).filter(|word| is_type(word)).map(str::to_owned));
                }
                (enabled, used) = (true, String::new());
            }
        } else {
            enabled = true;
        }
    }
    types
}

/// The variants of all public enums, each with the name of its type.
pub fn public_variants() -> BTreeSet<(String, String)> {
    let types = public_types();
    let mut variants = BTreeSet::new();
    for (_, text) in files() {
        let mut within: Option<String> = None;
        let mut enabled = true;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub enum ") {
                within = words(rest).next().map(str::to_owned).filter(|name| types.contains(name));
            } else if line == "}" {
                within = None;
            } else if let (Some(feature), Some(_)) = (feature(line.trim()), &within) {
                enabled = has(feature);
            } else if let (Some(name), Some(variant)) = (&within, variant(line))
                && std::mem::replace(&mut enabled, true)
            {
                variants.insert((name.clone(), variant.to_owned()));
            }
        }
    }
    variants
}

/// The variant that begins in this line of an enum, as `rustfmt` formats it.
fn variant(line: &str) -> Option<&str> {
    let inner = line.strip_prefix("    ")?;
    inner.starts_with(|first: char| first.is_ascii_uppercase()).then(|| words(inner).next())?
}

fn feature(line: &str) -> Option<&str> {
    line.strip_prefix("#[cfg(feature = \"")?.strip_suffix("\")]")
}

fn has(feature: &str) -> bool {
    match feature {
        "metrics" => cfg!(feature = "metrics"),
        "typed" => cfg!(feature = "typed"),
        "tower" => cfg!(feature = "tower"),
        "tracing" => cfg!(feature = "tracing"),
        "transaction" => cfg!(feature = "transaction"),
        other => panic!("{other} is a feature that this test does not know"),
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Constants are all upper case, modules and functions all lower.
fn is_type(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.contains(|c: char| c.is_ascii_lowercase())
        && !NO_TYPES.contains(&word)
}
