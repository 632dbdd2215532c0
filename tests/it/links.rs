//! The links between the documents: each leads to an existing file, and to an existing heading in
//! it.

use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 4] = [".", "docs", "docs/guide", "examples/customers_api"];

fn documents(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("fuzz/README.md"), root.join("tests/traced/README.md")];
    for directory in DOCUMENTS {
        for entry in fs::read_dir(root.join(directory)).expect("it is there") {
            let path = entry.expect("it is listed").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The text without its code, in which brackets aren't links.
fn prose(text: &str) -> String {
    let blocks = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    blocks.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The targets of the links in a document.
fn targets(text: &str) -> Vec<String> {
    let text = prose(text);
    let links = text.match_indices("](").filter_map(|(at, two)| {
        let rest = &text[at + two.len()..];
        rest.split_once(')').map(|(target, _)| target.split_whitespace().collect())
    });
    let named = text.lines().filter_map(|line| {
        let (name, target) = line.strip_prefix('[')?.split_once("]: ")?;
        (!name.contains(']')).then(|| target.trim().to_owned())
    });
    links.chain(named).collect()
}

/// The anchor of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    kept.map(|char| if char == ' ' { '-' } else { char }).collect()
}

fn has_heading(path: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(path).expect("it is text");
    text.lines().any(|line| line.starts_with('#') && slug(line.trim_start_matches('#')) == wanted)
}

#[test]
fn each_link_between_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut followed, mut dead) = (0, Vec::new());
    for document in documents(root) {
        let text = fs::read_to_string(&document).expect("it is text");
        for target in targets(&text) {
            if target.contains("://") || target.starts_with("mailto:") || target.contains("::") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let directory = document.parent().expect("it is in a directory");
            let path = if file.is_empty() { document.clone() } else { directory.join(file) };
            let is_there = path.exists() && (heading.is_empty() || has_heading(&path, heading));
            followed += 1;
            if !is_there {
                dead.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
    assert!(50 < followed, "only {followed} links were found");
}

#[test]
fn a_heading_is_called_as_its_link_calls_it() {
    assert_eq!(
        slug(" `start` and `complete`, or `complete` alone"),
        "start-and-complete-or-complete-alone"
    );
    assert_eq!(slug("What is not promised"), "what-is-not-promised");
    assert_eq!(targets("[a](b.md#c) `[x](y)`\n```\n[d](e)\n```\n[f]: g.md"), ["b.md#c", "g.md"]);
}
