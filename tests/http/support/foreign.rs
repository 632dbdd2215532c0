//! Clients that nobody here wrote, as programs.

use std::path::Path;
use std::process::Command;

/// A Python that has this module: the one on the path, or that of the distribution. In CI there must be one.
pub fn python(module: &str) -> Option<&'static str> {
    let has_it = |python: &&str| {
        let imported = Command::new(python).args(["-c", &format!("import {module}")]).output();
        imported.is_ok_and(|output| output.status.success())
    };
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has_it);
    if found.is_none() {
        assert!(std::env::var_os("IDEMSTORE_CI").is_none(), "a Python with {module} is needed");
        eprintln!("no Python has {module}, so its client is not tried");
    }
    found
}

/// What a script says to this argument, which must end well.
pub async fn run(program: &'static str, script: &str, argument: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    let argument = argument.to_owned();
    let run = move || Command::new(program).arg(script).arg(argument).output();
    let output = tokio::task::spawn_blocking(run).await.expect("it does not panic");
    let output = output.expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}
