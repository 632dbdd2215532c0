//! Third-party clients, run as programs.

use std::path::Path;
use std::process::Command;

/// The first of these programs that the machine has, tested with these arguments. In CI there must
/// be one.
fn program(wanted: &[&'static str], probe: &[&str]) -> Option<&'static str> {
    let has_it = |program: &&str| {
        let probed = Command::new(program).args(probe).output();
        probed.is_ok_and(|output| output.status.success())
    };
    let found = wanted.iter().copied().find(has_it);
    if found.is_none() {
        assert!(std::env::var_os("IDEMSTORE_CI").is_none(), "one is needed: {wanted:?} {probe:?}");
        eprintln!("{wanted:?} are not there, so their client is not tried");
    }
    found
}

/// A Python that has this module: the one on the path, or the distribution's.
pub fn python(module: &str) -> Option<&'static str> {
    program(&["python3", "/usr/bin/python3"], &["-c", &format!("import {module}")])
}

/// A Node that has `fetch`.
pub fn node() -> Option<&'static str> {
    program(&["node"], &["-e", "fetch"])
}

/// The output of a script in this repository for this argument. It must succeed.
pub fn said(program: &str, script: &str, argument: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let output = Command::new(program).arg(script).arg(argument).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}
