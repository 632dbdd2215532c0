//! What a block declares in its first line: `// Needs: idemstore (typed), serde (derive)`.

use crate::block::Block;
use crate::project;

/// Names that exist only with a feature of idemstore.
const OF_FEATURES: [(&str, &str); 6] = [
    ("idemstore::http", "tower"),
    ("idemstore::redb", "transaction"),
    (".complete_with(", "transaction"),
    (".complete_as(", "typed"),
    (".resolve_as(", "typed"),
    (".decode(", "typed"),
];

/// What the block needs without declaring it, and what it declares without needing it.
pub fn faults(block: &Block) -> Vec<String> {
    let first = block.code.lines().next().unwrap_or_default();
    let said = first.strip_prefix("// Needs: ").unwrap_or_default();
    let crates = project::dependencies();
    let used = crates.iter().filter(|(name, _)| uses(&block.code, name));
    let used = used.map(|(name, _)| name.as_str());
    let idemstore = said.split("), ").find_map(|part| part.strip_prefix("idemstore ("));
    let features: Vec<_> =
        idemstore.unwrap_or_default().trim_end_matches(')').split(", ").collect();
    let missing = OF_FEATURES
        .iter()
        .filter(|(part, feature)| block.code.contains(part) && !features.contains(feature));
    let missing = missing.map(|(_, feature)| format!("the feature `{feature}` of idemstore"));
    let unsaid = used.clone().filter(|name| !names(said, name)).map(|name| format!("`{name}`"));
    let faults = missing.chain(unsaid).map(|need| format!("does not say that it needs {need}"));
    let unused = crates.iter().map(|(name, _)| name.as_str());
    let unused = unused.filter(|name| names(said, name) && used.clone().all(|it| it != *name));
    let unused = unused.map(|name| format!("says that it needs `{name}`"));
    faults.chain(unused).map(|fault| format!("{}: {fault}", block.at())).collect()
}

/// Whether the declaration names this crate.
fn names(said: &str, name: &str) -> bool {
    // The words in brackets are features.
    let crates = said.split('(').filter_map(|part| part.rsplit(')').next());
    crates.flat_map(|part| part.split([',', ' '])).any(|word| word == name)
}

/// Whether the code has a path that begins with the name of this crate.
pub fn uses(code: &str, name: &str) -> bool {
    let path = format!("{}::", name.replace('-', "_"));
    let is_inner = |before: char| before.is_alphanumeric() || before == '_' || before == ':';
    let mut found = code.match_indices(&path).map(|(at, _)| code.get(..at));
    found.any(|before| !before.is_some_and(|before| before.ends_with(is_inner)))
}

#[test]
fn a_crate_is_told_by_the_start_of_a_path() {
    assert!(uses("use tower::Layer;", "tower") && uses("#[tokio::main]", "tokio"));
    assert!(uses("tower_http::timeout::TimeoutLayer", "tower-http"));
    assert!(!uses("use axum::tower::Layer;", "tower") && !uses("my_tower::x()", "tower"));
    let said = "idemstore (typed, tower), serde (derive), axum";
    assert!(names(said, "serde") && names(said, "axum") && !names(said, "tower"));
}

#[test]
fn what_a_block_needs_and_does_not_say_is_found() {
    let block = |code: &str| Block {
        document: "x.md".to_owned(),
        line: 1,
        name: "x_1".to_owned(),
        kind: crate::block::Kind::Whole,
        code: code.to_owned(),
    };
    let code = "use serde::Serialize;\nfn main() { it.decode(); }\n";
    assert_eq!(faults(&block(code)).len(), 2);
    let whole = format!("// Needs: idemstore (tracing, typed), serde (derive)\n{code}");
    assert_eq!(faults(&block(&whole)), [""; 0]);
    assert_eq!(faults(&block("// Needs: axum\n")).len(), 1);
}
