//! The clients in the contract, run unchanged against the program of the chapter.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::chapter::of_language;
use super::client::ACME;
use super::programs::{node, python};
use super::service::{PATIENCE, Place};

const CONTRACT: &str = include_str!("../../docs/guide/http-contract.md");

/// Pays one order, and prints the final answer.
const PYTHON: &str = r#"
import sys

url, token, key, cents = sys.argv[1:]
session = requests.Session()
session.headers["Authorization"] = f"Bearer {token}"
answer = pay(session, url, {"key": key, "cents": int(cents)})
print(answer.status_code, answer.headers.get("Idempotent-Replayed"), answer.text)
"#;

const NODE: &str = r#"
const [url, token, key, cents] = process.argv.slice(2);
const { answer, text } = await pay(url, token, { key, cents: Number(cents) });
console.log(answer.status, answer.headers.get("idempotent-replayed"), text);
"#;

struct Client {
    program: &'static str,
    script: &'static str,
    text: String,
    /// What it prints for a missing header.
    none: &'static str,
}

/// The clients that this machine can run. In CI it must be able to run both.
fn clients() -> Vec<Client> {
    let mut clients = Vec::new();
    if let Some(program) = python("requests") {
        let text = of_language(CONTRACT, "python") + PYTHON;
        clients.push(Client { program, script: "client.py", text, none: "None" });
    }
    if let Some(program) = node() {
        let text = of_language(CONTRACT, "javascript") + NODE;
        clients.push(Client { program, script: "client.mjs", text, none: "null" });
    }
    clients
}

impl Client {
    fn command(&self, directory: &Path, address: &str, key: &str, cents: u64) -> Command {
        let script = directory.join(self.script);
        fs::write(&script, &self.text).expect("there is room");
        let mut command = Command::new(self.program);
        command.arg(script).args([&format!("http://{address}/payments"), ACME, key]);
        command.arg(cents.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn the_clients_take_what_is_final_and_go_on_where_it_is_not() {
    for client in clients() {
        let place = Place::with();
        let service = place.start(Duration::ZERO);
        let scripts = tempfile::tempdir().expect("there is room");
        let address = service.address.to_string();
        let run = |key, cents| {
            let output = client.command(scripts.path(), &address, key, cents).output();
            said(&output.expect("it starts"))
        };
        let none = client.none;
        let payment = |id, cents| format!(r#"{{"id":{id},"merchant":1,"cents":{cents}}}"#);
        assert_eq!(run("order-1", 250), format!("201 {none} {}", payment(1, 250)));
        assert_eq!(run("order-1", 250), format!("201 true {}", payment(1, 250)));
        assert!(run("order-1", 999).starts_with(&format!("422 {none} ")));
        assert!(run("order-2", 0).starts_with(&format!("400 {none} ")));
        assert_eq!(run("order-3", 40_200), format!("402 {none} the card was declined"));
        // The first attempt gets 502, and the second one gets the bank's receipt.
        assert_eq!(run("order-4", 50_400), format!("201 true {}", payment(2, 50_400)));
        assert_eq!(place.charges(), 2);
    }
}

/// The service is killed while the client waits for its charge, and comes back at the same address.
#[test]
fn the_clients_go_on_over_a_kill() {
    for client in clients() {
        let place = Place::with();
        let service = place.start(PATIENCE);
        let scripts = tempfile::tempdir().expect("there is room");
        let address = service.address.to_string();
        let waiting = client.command(scripts.path(), &address, "order-1", 250).spawn();
        place.wait_for_charges(1);
        service.kill();
        let service = place.start_at(&address, Duration::ZERO);
        let output = waiting.expect("it starts").wait_with_output().expect("it ends");
        assert_eq!(said(&output), r#"201 true {"id":1,"merchant":1,"cents":250}"#);
        assert_eq!(place.charges(), 1);
        drop(service);
    }
}

/// A second client process sends the same order while the first one's request is handled.
#[test]
fn the_clients_come_back_after_a_conflict() {
    for client in clients() {
        let place = Place::with();
        // Longer than a retry waits within the service.
        let service = place.start(Duration::from_secs(4));
        let scripts = tempfile::tempdir().expect("there is room");
        let address = service.address.to_string();
        let command = || client.command(scripts.path(), &address, "order-1", 250);
        let first = command().spawn().expect("it starts");
        place.wait_for_charges(1);
        let second = said(&command().output().expect("it starts"));
        let first = said(&first.wait_with_output().expect("it ends"));
        let payment = r#"{"id":1,"merchant":1,"cents":250}"#;
        assert_eq!(first, format!("201 {} {payment}", client.none));
        assert_eq!(second, format!("201 true {payment}"));
        assert_eq!(place.charges(), 1);
    }
}
