//! Third-party clients with their own retries: Python's requests with its `Retry`, and Node's
//! fetch.

use super::process::Service;
use super::programs::{node, python, said};

/// Runs a client against a separate service, if the machine has the client.
fn run(program: Option<&str>, script: &str) {
    let Some(program) = program else { return };
    let directory = tempfile::tempdir().expect("there is room");
    let service = Service::start(directory.path(), "");
    let said = said(program, script, &format!("http://{}/api/v1", service.address));
    assert_eq!(said.trim(), "one customer for each key");
}

#[test]
fn requests_of_python_creates_one_customer_for_each_key() {
    run(python("requests"), "tests/customers/requests_client.py");
}

#[test]
fn fetch_of_node_creates_one_customer_for_each_key() {
    run(node(), "tests/customers/fetch_client.mjs");
}
