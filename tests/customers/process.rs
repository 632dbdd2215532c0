//! The service as a separate process: under concurrent requests, killed, and shut down.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use super::client::{Answer, get, post, request, send, send_at_once};
use super::example::server::{Flags, serve};

const FLAGS: &str = "CUSTOMERS_API_FLAGS";
pub const CUSTOMERS: &str = "/api/v1/customers";

/// Not a test: the processes that the tests start run this.
#[test]
fn the_service_itself() {
    let Ok(flags) = std::env::var(FLAGS) else { return };
    let flags = Flags::parse_from(std::iter::once("customers_api").chain(flags.split(' ')));
    let runtime = tokio::runtime::Runtime::new().expect("it starts");
    runtime.block_on(serve(flags)).expect("it serves");
}

/// The service in a separate process, which ends when this is dropped.
pub struct Service {
    child: Child,
    pub address: SocketAddr,
}

impl Service {
    /// Starts it on a store in this directory.
    pub fn start(directory: &Path, flags: &str) -> Self {
        let store = directory.join("store");
        let flags = format!("--listen 127.0.0.1:0 --store {} {flags}", store.display());
        let mut child = Command::new(std::env::current_exe().expect("this is a program"))
            .args(["--exact", "process::the_service_itself", "--nocapture"])
            .env(FLAGS, flags.trim())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
        let (sender, address) = mpsc::channel();
        // The pipe is read to its end, so that the service never waits for a reader.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("listening on http://") {
                    sender.send(address.parse().expect("it is an address")).ok();
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(60)).expect("it listens");
        Self { child, address }
    }

    pub fn send(&self, request: &str) -> Answer {
        send(self.address, request).expect("the server answers")
    }

    /// Waits until a request with a key is under way.
    fn wait_for_a_request(&self) {
        wait_until(|| self.send(&get("/health")).body == r#"{"in_flight":1}"#);
    }

    pub fn kill(mut self) {
        self.child.kill().expect("it was running");
        self.child.wait().expect("it has ended");
    }

    /// Asks it to shut down, and waits until it has.
    pub fn terminate(mut self) -> bool {
        let process = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &process]).status().expect("it runs");
        assert!(told.success());
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits for something that must come, at most for a minute.
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("there is room");
    let path = directory.path().to_owned();
    (directory, path)
}

/// The names of all customers.
fn customers(service: &Service) -> Vec<String> {
    let listed = service.send(&get(CUSTOMERS)).body;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("it is JSON");
    let listed = listed.as_array().expect("it is a list").iter();
    listed.map(|customer| customer["name"].as_str().unwrap_or("-").to_owned()).collect()
}

#[test]
fn of_64_requests_at_once_one_runs() {
    for start in ["before-handler", "by-handler"] {
        let (_directory, path) = directory();
        let service = Service::start(&path, &format!("--start {start} --delay 2s"));
        let request = post(CUSTOMERS, "key", r#"{"name":"Ann"}"#);
        let answers = send_at_once(service.address, &request, 64);
        let count = |status| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((count(201), count(409)), (1, 63), "{start}");
        let told: Vec<_> = answers.iter().filter(|answer| answer.status == 409).collect();
        assert!(told.iter().all(|answer| answer.headers.contains_key("retry-after")));
        assert_eq!(customers(&service), ["Ann"]);
    }
}

#[test]
fn of_64_requests_at_once_all_have_its_answer_if_they_wait() {
    for start in ["before-handler", "by-handler"] {
        let (_directory, path) = directory();
        let service = Service::start(&path, &format!("--start {start} --delay 300ms --wait"));
        let request = post(CUSTOMERS, "key", r#"{"name":"Ann"}"#);
        let answers = send_at_once(service.address, &request, 64);
        let replays = answers.iter().filter(|answer| answer.is_replayed()).count();
        assert_eq!(replays, 63, "{start}");
        let first = answers[0].clone().like_the_first();
        assert_eq!(first.status, 201);
        assert!(answers.into_iter().all(|answer| answer.like_the_first() == first));
        assert_eq!(customers(&service), ["Ann"]);
    }
}

/// A kill in the first half of the handler, before it has done anything, and in the second half,
/// after it has: the retry finds out which, and there is one customer.
#[test]
fn a_kill_in_mid_handler_costs_no_customer_and_makes_none_twice() {
    for start in ["before-handler", "by-handler"] {
        for (when, is_replayed) in [("before the effect", false), ("after the effect", true)] {
            let (_directory, path) = directory();
            let service = Service::start(&path, &format!("--start {start} --delay 3s"));
            let request = post(CUSTOMERS, "key", r#"{"name":"Ann"}"#);
            let address = service.address;
            let sent = request.clone();
            let client = thread::spawn(move || send(address, &sent));
            let log = path.join("objects.log");
            if is_replayed {
                // The effect becomes visible in the middle of the handler.
                wait_until(|| std::fs::metadata(&log).expect("it is there").len() != 0);
            } else {
                service.wait_for_a_request();
            }
            service.kill();
            assert_eq!(
                client.join().expect("it does not panic"),
                None,
                "the client is told nothing"
            );

            let service = Service::start(&path, &format!("--start {start}"));
            let retried = service.send(&request);
            assert_eq!(
                (retried.status, retried.is_replayed()),
                (201, is_replayed),
                "{when}, {start}"
            );
            let again = service.send(&request);
            assert!(again.is_replayed());
            assert_eq!(again.like_the_first(), retried.like_the_first());
            assert_eq!(customers(&service), ["Ann"], "{when}, {start}");
        }
    }
}

#[test]
fn a_service_that_is_told_to_end_finishes_what_has_started() {
    let (_directory, path) = directory();
    let service = Service::start(&path, "--delay 1s");
    let request = post(CUSTOMERS, "key", r#"{"name":"Ann"}"#);
    let (address, sent) = (service.address, request.clone());
    let client = thread::spawn(move || send(address, &sent));
    service.wait_for_a_request();
    assert!(service.terminate(), "it ends well");
    let answer = client.join().expect("it does not panic").expect("the client has its answer");
    assert_eq!(answer.status, 201);
    let service = Service::start(&path, "");
    assert_eq!(service.send(&request).like_the_first(), answer.like_the_first());
}

#[test]
fn a_part_of_a_line_that_a_kill_has_left_is_cut_off() {
    let (_directory, path) = directory();
    let service = Service::start(&path, "");
    service.send(&post(CUSTOMERS, "one", r#"{"name":"Ann"}"#));
    service.kill();
    let log = path.join("objects.log");
    let whole = std::fs::read(&log).expect("it is there");
    std::fs::write(&log, [&whole[..], br#"{"tenant":"pub"#].concat()).expect("it is written");
    let service = Service::start(&path, "");
    service.send(&post(CUSTOMERS, "two", r#"{"name":"Bob"}"#));
    service.kill();
    let service = Service::start(&path, "");
    assert_eq!(customers(&service), ["Ann", "Bob"]);
}

#[test]
fn a_request_without_a_key_is_refused_where_keys_are_required() {
    for start in ["before-handler", "by-handler"] {
        let (_directory, path) = directory();
        let service = Service::start(&path, &format!("--start {start} --require-key"));
        let made = service.send(&post(CUSTOMERS, "key", r#"{"name":"Ann"}"#));
        assert_eq!(made.status, 201);
        for (method, to) in [("POST", CUSTOMERS), ("PUT", "/api/v1/customers/1")] {
            let refused = service.send(&request(method, to, &[], r#"{"name":"Bob"}"#));
            assert_eq!(refused.status, 400, "{method}");
            assert!(refused.body.contains("#variant.KeyMissing"), "{}", refused.body);
        }
        assert_eq!(customers(&service), ["Ann"]);
        let deleted = service.send(&request("DELETE", "/api/v1/customers/1", &[], ""));
        assert_eq!(deleted.status, 204);

        let (_directory, path) = directory();
        let service = Service::start(&path, &format!("--start {start}"));
        for (method, to, status) in [("POST", CUSTOMERS, 201), ("PUT", "/api/v1/customers/1", 200)]
        {
            let taken = service.send(&request(method, to, &[], r#"{"name":"Bob"}"#));
            assert_eq!(taken.status, status, "{method}");
        }
        assert_eq!(customers(&service), ["Bob"]);
    }
}

/// A tenant with another tenant's key gets a separate object, even if it was killed before its
/// answer.
#[test]
fn two_tenants_with_the_same_key_have_an_object_each_after_a_kill() {
    for start in ["before-handler", "by-handler"] {
        let (_directory, path) = directory();
        let service = Service::start(&path, &format!("--start {start} --delay 4s"));
        let as_tenant = |tenant: &str| {
            let token = format!("Bearer {tenant}");
            let headers = [("Authorization", token.as_str()), ("Idempotency-Key", "key")];
            request("POST", CUSTOMERS, &headers, r#"{"name":"Ann"}"#)
        };
        let listed = |service: &Service, tenant: &str| {
            let token = format!("Bearer {tenant}");
            service.send(&request("GET", CUSTOMERS, &[("Authorization", &token)], "")).body
        };
        let (address, sent) = (service.address, as_tenant("acme"));
        let client = thread::spawn(move || send(address, &sent));
        // One tenant's object is visible, and the other's request has not begun.
        wait_until(|| listed(&service, "acme") != "[]");
        service.kill();
        assert_eq!(client.join().expect("it does not panic"), None);
        let service = Service::start(&path, &format!("--start {start}"));
        let (other, one) = (service.send(&as_tenant("globex")), service.send(&as_tenant("acme")));
        assert_eq!((other.status, other.is_replayed()), (201, false), "{start}");
        assert_eq!((one.status, one.is_replayed()), (201, true), "{start}");
        assert_eq!(listed(&service, "acme"), format!("[{}]", one.body));
        assert_eq!(listed(&service, "globex"), format!("[{}]", other.body));
        assert_ne!(one.body, other.body);
    }
}
