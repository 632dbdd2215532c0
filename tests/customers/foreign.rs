//! Clients that nobody here wrote, as they retry by themselves: requests of Python with its `Retry`, and
//! the fetch of Node.

use std::path::Path;
use std::process::Command;

use super::process::Service;

/// Runs a client against a service of its own, by the first of these programs that the machine has. In CI
/// it must have one.
fn run(programs: &[&str], probe: &[&str], script: &str) {
    let has_it = |program: &&&str| {
        Command::new(program).args(probe).output().is_ok_and(|output| output.status.success())
    };
    let Some(program) = programs.iter().find(has_it) else {
        assert!(
            std::env::var_os("IDEMSTORE_CI").is_none(),
            "one is needed: {programs:?} {probe:?}"
        );
        eprintln!("{programs:?} are not there, so their client is not tried");
        return;
    };
    let directory = tempfile::tempdir().expect("there is room");
    let service = Service::start(directory.path(), "");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/customers").join(script);
    let output = Command::new(program)
        .arg(&script)
        .arg(format!("http://{}/api/v1", service.address))
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.trim(), "one customer for each key");
}

#[test]
fn requests_of_python_creates_one_customer_for_each_key() {
    // The Python on the path need not be that of the distribution.
    run(&["python3", "/usr/bin/python3"], &["-c", "import requests"], "requests_client.py");
}

#[test]
fn fetch_of_node_creates_one_customer_for_each_key() {
    run(&["node"], &["-e", "fetch"], "fetch_client.mjs");
}
