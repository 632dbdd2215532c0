//! The module rules: which module may import which. It reads the sources, so it runs where they
//! are.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module of `src`, from the bottom up: each may import only those before it. A total order
/// rules out cycles.
const ORDER: [&str; 30] = [
    "canary",
    "sync",
    "limits",
    "error",
    "key",
    "observe",
    "clock",
    "rules",
    "local::change",
    "local::secret",
    "local::origin",
    "local::wakers",
    "local::wake",
    "local::helper",
    "local::room",
    "local::codec",
    "local::disk",
    "local::files",
    "local::log",
    "local::index",
    "local::vault",
    "local::journal",
    "local::sweeper",
    "local",
    "handle",
    "store",
    "run",
    "typed",
    "http",
    "sim",
];

/// What the rules shared by all engines may import: keys, times, and the building blocks of a lock.
const RULES_KNOW: [&str; 3] = ["sync", "key", "clock"];

fn place(module: &str) -> usize {
    ORDER.iter().position(|known| *known == module).unwrap_or_else(|| {
        panic!("{module} has no place in the house: put it into `ORDER`, above all that it imports")
    })
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources are here") {
        let path = entry.expect("it is listed").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The module that a file belongs to; `None` for the root, and for tests.
fn module_of(path: &Path) -> Option<String> {
    let parts: Vec<_> = path.iter().map(|part| part.to_str().expect("it is text")).collect();
    let name = |part: &str| part.trim_end_matches(".rs").to_owned();
    match parts.as_slice() {
        [.., "tests.rs"] | ["lib.rs" | "guide.rs"] | [] => None,
        // The engine is what its parts form together.
        ["local", "mod.rs" | "engine.rs"] => Some("local".to_owned()),
        ["local", part, ..] => Some(format!("local::{}", name(part))),
        [part, ..] => Some(name(part)),
    }
}

/// The code of a file without its tests and its comments.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().expect("there is a first part");
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that come after `crate::`, with those of `local` by name.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, prefix) in code.match_indices("crate::") {
        // Not `$crate::` or `pub(crate)`.
        let rest = &code[at + prefix.len()..];
        for path in paths(rest) {
            let mut parts = path.split("::");
            let first = parts.next().expect("a path has a first part");
            let module = match (first, parts.next()) {
                ("local", Some(part)) if part.starts_with(char::is_lowercase) => {
                    format!("local::{part}")
                }
                _ if first.starts_with(char::is_lowercase) => first.to_owned(),
                // A type of the root: what users see of it stands above.
                _ => continue,
            };
            found.insert(module);
        }
    }
    found
}

/// The paths of an import, as far as their second part: `a::b`, `{a::b, c}` and `a::{b, c}`.
fn paths(rest: &str) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == ':';
    let end = rest.find(|letter| !is_part(letter)).unwrap_or(rest.len());
    let (head, tail) = rest.split_at(end);
    let Some(group) = tail.strip_prefix('{') else { return vec![head.to_owned()] };
    let (mut depth, mut items, mut item) = (1, Vec::new(), String::new());
    for letter in group.chars() {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => items.push(std::mem::take(&mut item)),
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && (is_part(letter)) {
            item.push(letter);
        }
    }
    items.push(item);
    items.iter().filter(|item| !item.is_empty()).map(|item| format!("{head}{item}")).collect()
}

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut seen, mut upward) = (BTreeSet::new(), Vec::new());
    for path in files {
        let relative = path.strip_prefix(&root).expect("it is within");
        let Some(module) = module_of(relative) else { continue };
        let code = code_of(&fs::read_to_string(&path).expect("it is text"));
        for imported in imports(&code) {
            if imported == module || module == "local" && imported.starts_with("local") {
                continue;
            }
            if place(&module) <= place(&imported) {
                upward.push(format!("{}: {module} -> {imported}", relative.display()));
            }
            if module == "rules" {
                assert!(RULES_KNOW.contains(&&*imported), "the rules know of {imported}");
            }
            seen.insert((module.clone(), imported));
        }
    }
    assert!(upward.is_empty(), "these imports point up:\n{}", upward.join("\n"));
    assert!(100 < seen.len(), "only {} imports were found", seen.len());
}

#[test]
fn imports_are_found_in_each_form() {
    let found = |code: &str| imports(code).into_iter().collect::<Vec<_>>();
    assert_eq!(found("use crate::key::Key;"), ["key"]);
    assert_eq!(found("use crate::local::log::{Log, commit::{Place, wait}};"), ["local::log"]);
    assert_eq!(
        found("use crate::local::{Engine, files, log};"),
        ["local", "local::files", "local::log"]
    );
    assert_eq!(
        found("use crate::{\n    error::Error,\n    local::vault::Transaction,\n};"),
        ["error", "local::vault"]
    );
    assert_eq!(found("crate::sync::Arc::new(crate::Store)"), ["sync"]);
}

/// The most lines that a file and a function may have.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn files_and_functions_can_be_read_at_once() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let (mut functions, mut longest) = (0, (0, String::new()));
    for path in files {
        let text = fs::read_to_string(&path).expect("it is text");
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
        for (name, lines) in functions_of(&text) {
            functions += 1;
            longest = longest.max((lines, format!("{name} in {}", path.display())));
        }
    }
    assert!(500 < functions, "only {functions} functions were found");
    let (lines, name) = longest;
    assert!(lines <= FUNCTION_LINES_MAX, "{name} has {lines} lines");
}

/// The functions of a file whose closing brace is indented like their first line, and their
/// lengths.
fn functions_of(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let head = lines[at..].iter().find(|line| line.ends_with(['{', '}', ';']));
        // A comment, a declaration without a body, or a function on a single line.
        if line.trim_start().starts_with("//") || !head.is_some_and(|head| head.ends_with('{')) {
            continue;
        }
        let words: Vec<_> = line.split_whitespace().take_while(|word| *word != "{").collect();
        let Some(name) =
            words.iter().position(|word| *word == "fn").and_then(|at| words.get(at + 1))
        else {
            continue;
        };
        let is_end = |end: &&str| end.trim() == "}" && indent(end) == indent(line);
        if let Some(len) = lines[at..].iter().position(is_end) {
            found.push(((*name).to_owned(), len + 1));
        }
    }
    found
}
