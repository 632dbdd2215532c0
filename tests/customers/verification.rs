//! Customers that exist once a webhook has confirmed their address, over sockets and across kills.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::{self, JoinHandle};

use super::client::{Answer, get, post, request, send};
use super::process::{CUSTOMERS, Service, directory, wait_until};
use super::provider::{Provider, tell, tell_with};

const ANN: &str = r#"{"name":"Ann","email":"ann@example.com","tier":3,"verify":true}"#;
const VERIFIED: &str =
    r#"{"id":1,"name":"Ann","email":"ann@example.com","status":"verified","tier":3}"#;
const STARTS: [&str; 2] = ["before-handler", "by-handler"];

/// Sends a request from a separate thread.
fn send_meanwhile(service: SocketAddr, request: &str) -> JoinHandle<Option<Answer>> {
    let request = request.to_owned();
    thread::spawn(move || send(service, &request))
}

/// Its answer, if it had one.
fn answered(sender: JoinHandle<Option<Answer>>) -> Option<Answer> {
    sender.join().expect("it does not panic")
}

fn status(sender: JoinHandle<Option<Answer>>) -> u16 {
    answered(sender).expect("the service answers").status
}

/// Requests the customer Ann, and returns the operation that the provider was asked about.
fn ask_for_ann(service: &Service, provider: &Provider) -> String {
    let client = send_meanwhile(service.address, &post(CUSTOMERS, "key", ANN));
    let asked = provider.asked();
    assert_eq!(asked.email, "ann@example.com");
    let operation = asked.answer(202);
    let told = answered(client).expect("the service answers");
    assert_eq!((told.status, told.body.as_str()), (202, r#"{"status":"verifying"}"#));
    assert!(!told.is_replayed());
    operation
}

fn expect_in_flight(service: &Service) {
    let retried = service.send(&post(CUSTOMERS, "key", ANN));
    assert_eq!(retried.status, 409);
    assert!(retried.body.contains("#variant.InFlight"), "{}", retried.body);
    assert_eq!(retried.header("retry-after"), Some("1"));
    expect_customers(service, "[]");
}

/// The retry gets the webhook's answer, and there is one customer.
fn expect_ann(service: &Service) {
    let retried = service.send(&post(CUSTOMERS, "key", ANN));
    assert_eq!((retried.status, retried.body.as_str()), (201, VERIFIED));
    assert!(retried.is_replayed());
    assert_eq!(retried.header("location"), Some("/api/v1/customers/1"));
    assert_eq!(retried.header("content-type"), Some("application/json"));
    expect_customers(service, &format!("[{VERIFIED}]"));
}

fn expect_customers(service: &Service, all: &str) {
    assert_eq!(service.send(&get(CUSTOMERS)).body, all);
}

fn expect_told(service: &Service, operation: &str, outcome: &str) {
    let told = tell(service.address, operation, outcome).expect("the service answers");
    assert_eq!((told.status, told.body.as_str()), (204, ""));
}

#[test]
fn a_customer_is_there_once_the_webhook_says_so_however_often_it_does() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let service = Service::start(&path, &format!("--start {start} {}", provider.flags(&path)));
        let operation = ask_for_ann(&service, &provider);
        expect_in_flight(&service);
        expect_told(&service, &operation, "verified");
        expect_ann(&service);
        // The provider didn't receive the answer, or has changed its mind.
        for outcome in ["verified", "failed", "verified"] {
            expect_told(&service, &operation, outcome);
            expect_ann(&service);
        }
        provider.expect_no_question();
    }
}

#[test]
fn an_event_that_is_delivered_many_times_at_once_makes_one_customer() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    let service = Service::start(&path, &provider.flags(&path));
    let operation = ask_for_ann(&service, &provider);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| expect_told(&service, &operation, "verified"));
        }
    });
    expect_ann(&service);
}

#[test]
fn a_webhook_may_be_faster_than_the_answer_of_the_handler() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let service = Service::start(&path, &format!("--start {start} {}", provider.flags(&path)));
        let client = send_meanwhile(service.address, &post(CUSTOMERS, "key", ANN));
        // The handler waits for the provider's answer, and the event arrives before that.
        let asked = provider.asked();
        expect_told(&service, &asked.operation, "verified");
        expect_ann(&service);
        asked.answer(202);
        assert_eq!(status(client), 202);
        expect_ann(&service);
    }
}

#[test]
fn a_client_that_waits_has_the_answer_of_the_webhook() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    let service = Service::start(&path, &format!("--wait {}", provider.flags(&path)));
    let operation = ask_for_ann(&service, &provider);
    let waiting = send_meanwhile(service.address, &post(CUSTOMERS, "key", ANN));
    expect_told(&service, &operation, "verified");
    let told = answered(waiting).expect("the service answers");
    assert_eq!((told.status, told.body.as_str()), (201, VERIFIED));
}

#[test]
fn a_verification_that_fails_frees_its_key_and_its_event_does_not_end_the_next_one() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let service = Service::start(&path, &format!("--start {start} {}", provider.flags(&path)));
        let first = ask_for_ann(&service, &provider);
        expect_told(&service, &first, "failed");
        expect_customers(&service, "[]");
        let second = ask_for_ann(&service, &provider);
        assert_ne!(first, second);
        for outcome in ["failed", "verified"] {
            expect_told(&service, &first, outcome);
            expect_in_flight(&service);
        }
        expect_told(&service, &second, "verified");
        expect_ann(&service);
    }
}

#[test]
fn a_provider_that_refuses_frees_the_key() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let service = Service::start(&path, &format!("--start {start} {}", provider.flags(&path)));
        let client = send_meanwhile(service.address, &post(CUSTOMERS, "key", ANN));
        provider.asked().answer(422);
        let refused = answered(client).expect("the service answers");
        assert_eq!(refused.status, 422);
        assert!(refused.body.contains("`email` cannot be verified"), "{}", refused.body);
        let other = service.send(&post(CUSTOMERS, "key", r#"{"name":"Bob"}"#));
        assert_eq!((other.status, other.is_replayed()), (201, false));
    }
}

/// If a provider gives no answer, it may or may not have received the question, so it is asked
/// again for the same operation.
#[test]
fn a_provider_that_gives_no_answer_is_asked_again_for_the_same_operation() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    let service = Service::start(&path, &provider.flags(&path));
    let client = send_meanwhile(service.address, &post(CUSTOMERS, "key", ANN));
    let first = provider.asked().hang_up();
    assert_eq!(status(client), 202);
    assert_eq!(provider.asked().answer(503), first);
    assert_eq!(provider.asked().answer(202), first);
    expect_in_flight(&service);
    expect_told(&service, &first, "verified");
    expect_ann(&service);
}

/// Starts a service, requests Ann, and kills the service before the event has come.
fn kill_before_the_event(path: &Path, flags: &str, provider: &Provider) -> String {
    let service = Service::start(path, flags);
    let operation = ask_for_ann(&service, provider);
    service.kill();
    operation
}

#[test]
fn after_a_kill_before_the_event_the_event_completes_the_operation() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let flags = format!("--start {start} {}", provider.flags(&path));
        let operation = kill_before_the_event(&path, &flags, &provider);
        // No service is there to receive it.
        let service = Service::start(&path, &flags);
        expect_told(&service, &operation, "verified");
        expect_ann(&service);
        provider.expect_no_question();
    }
}

#[test]
fn after_a_kill_before_the_event_a_retry_asks_for_the_same_operation() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let flags = format!("--start {start} {}", provider.flags(&path));
        let operation = kill_before_the_event(&path, &flags, &provider);
        let service = Service::start(&path, &flags);
        assert_eq!(ask_for_ann(&service, &provider), operation);
        expect_in_flight(&service);
        expect_told(&service, &operation, "verified");
        expect_told(&service, &operation, "verified");
        expect_ann(&service);
    }
}

#[test]
fn after_a_kill_while_the_provider_is_asked_a_retry_asks_for_the_same_operation() {
    for start in STARTS {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let flags = format!("--start {start} {}", provider.flags(&path));
        let service = Service::start(&path, &flags);
        let client = send_meanwhile(service.address, &post(CUSTOMERS, "key", ANN));
        let asked = provider.asked();
        service.kill();
        assert_eq!(answered(client), None, "the client is told nothing");
        let service = Service::start(&path, &flags);
        assert_eq!(ask_for_ann(&service, &provider), asked.operation);
        expect_told(&service, &asked.operation, "verified");
        expect_ann(&service);
    }
}

/// A kill in the webhook, before and after it has created the customer: the event comes again, or a
/// retry comes first.
#[test]
fn a_kill_in_the_webhook_costs_no_customer_and_makes_none_twice() {
    for (is_made, event_first) in [(false, true), (false, false), (true, true), (true, false)] {
        let ((_directory, path), provider) = (directory(), Provider::start());
        let flags = provider.flags(&path);
        let service = Service::start(&path, &format!("--delay 3s {flags}"));
        let operation = ask_for_ann(&service, &provider);
        let address = service.address;
        let event = operation.clone();
        let event = thread::spawn(move || tell(address, &event, "verified"));
        if is_made {
            // The customer becomes visible in the middle of the webhook.
            wait_until(|| service.send(&get(CUSTOMERS)).body != "[]");
        }
        service.kill();
        assert_eq!(answered(event), None, "the provider is told nothing");

        let service = Service::start(&path, &flags);
        let all = if is_made { format!("[{VERIFIED}]") } else { "[]".to_owned() };
        expect_customers(&service, &all);
        if !event_first && is_made {
            expect_ann(&service);
        } else if !event_first {
            assert_eq!(ask_for_ann(&service, &provider), operation);
        }
        expect_told(&service, &operation, "verified");
        expect_ann(&service);
        provider.expect_no_question();
    }
}

#[test]
fn a_service_that_is_told_to_end_leaves_its_verifications_to_the_next_one() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    let service = Service::start(&path, &provider.flags(&path));
    let operation = ask_for_ann(&service, &provider);
    assert!(service.terminate(), "it ends well");
    let service = Service::start(&path, &provider.flags(&path));
    expect_told(&service, &operation, "verified");
    expect_ann(&service);
}

/// Each tenant uses the same key, and one of them even the same body.
#[test]
fn the_same_key_of_two_tenants_is_two_verifications() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    let service = Service::start(&path, &provider.flags(&path));
    let as_tenant = |method: &str, tenant: &str, body: &str| {
        let token = format!("Bearer {tenant}");
        let headers = [("Authorization", token.as_str()), ("Idempotency-Key", "key")];
        request(method, CUSTOMERS, &headers, body)
    };
    let operations = ["acme", "globex"].map(|tenant| {
        let client = send_meanwhile(service.address, &as_tenant("POST", tenant, ANN));
        let operation = provider.asked().answer(202);
        assert_eq!(status(client), 202);
        operation
    });
    assert_ne!(operations[0], operations[1]);
    expect_told(&service, &operations[1], "verified");
    let retried = |tenant| service.send(&as_tenant("POST", tenant, ANN));
    assert_eq!((retried("acme").status, retried("globex").body.as_str()), (409, VERIFIED));
    let listed = |tenant| service.send(&as_tenant("GET", tenant, "")).body;
    assert_eq!((listed("acme"), listed("globex")), ("[]".to_owned(), format!("[{VERIFIED}]")));
    expect_told(&service, &operations[0], "failed");
    // One tenant's key is free, the other's is unchanged.
    let other = service.send(&as_tenant("POST", "acme", r#"{"name":"Bob"}"#));
    assert_eq!((other.status, other.is_replayed()), (201, false));
    assert_eq!(retried("globex").body, VERIFIED);
}

#[test]
fn an_event_counts_if_it_has_the_secret_and_names_what_is_known() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    // No event has a key, and none needs one.
    let flags = format!("--require-key {}", provider.flags(&path));
    let service = Service::start(&path, &flags);
    let operation = ask_for_ann(&service, &provider);
    let event = format!(r#"{{"operation":"{operation}","outcome":"verified"}}"#);
    for secret in ["", "a-secret-of-bot", "a-secret-of-both-"] {
        let told = tell_with(service.address, secret, &event).expect("the service answers");
        assert_eq!(told.status, 401);
    }
    let keyed = [("Idempotency-Key", "key"), ("Authorization", "Bearer acme")];
    let keyed = service.send(&request("POST", "/webhooks/verification", &keyed, &event));
    assert_eq!(keyed.status, 401);
    for event in ["", "{}", r#"{"operation":7,"outcome":"verified"}"#, &event.replace("if", "iff")]
    {
        let told = tell_with(service.address, "a-secret-of-both", event);
        assert_eq!(told.expect("the service answers").status, 400, "{event}");
    }
    expect_told(&service, "an operation that nobody knows", "verified");
    expect_in_flight(&service);
    expect_told(&service, &operation, "verified");
    expect_ann(&service);
}

#[test]
fn another_address_is_not_verified_any_more() {
    let ((_directory, path), provider) = (directory(), Provider::start());
    let service = Service::start(&path, &provider.flags(&path));
    let operation = ask_for_ann(&service, &provider);
    expect_told(&service, &operation, "verified");
    let put = |body: &str| service.send(&request("PUT", "/api/v1/customers/1", &[], body)).body;
    let same = put(r#"{"name":"Anna","email":"ann@example.com"}"#);
    let verified = r#"{"id":1,"name":"Anna","email":"ann@example.com","status":"verified"}"#;
    assert_eq!(same, verified);
    let other = put(r#"{"name":"Anna","email":"anna@example.com"}"#);
    assert_eq!(other, r#"{"id":1,"name":"Anna","email":"anna@example.com"}"#);
}

/// Without a provider the service uses a built-in one, which verifies all addresses except
/// impossible ones.
#[test]
fn a_service_without_a_provider_verifies_by_itself() {
    let (_directory, path) = directory();
    let service = Service::start(&path, "");
    let bob = r#"{"email":"bob@example.invalid","verify":true}"#;
    for (key, body, end) in [("key", ANN, 201), ("key-2", bob, 202)] {
        let first = service.send(&post(CUSTOMERS, key, body));
        assert_eq!(first.status, 202);
        let mut ended = first;
        wait_until(|| {
            ended = service.send(&post(CUSTOMERS, key, body));
            ended.status != 409
        });
        // The key of a failed verification is free, so the provider is asked again.
        assert_eq!((ended.status, ended.is_replayed()), (end, end == 201));
    }
    expect_ann(&service);
    let forged = r#"{"operation":"x","email":"bob@example.com"}"#;
    let forged = service.send(&request("POST", "/provider/verifications", &[], forged));
    assert_eq!(forged.status, 401);
}
