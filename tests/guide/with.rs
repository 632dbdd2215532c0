//! The final program of the chapter, row by row of what changes for clients.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::client::{ACME, BOLT, begin, end, get, pay};
use super::project::PROGRAMS;
use super::service::{PATIENCE, Place};

#[test]
fn an_order_that_is_sent_twice_is_charged_once() {
    let place = Place::with();
    let service = place.start(Duration::ZERO);
    let first = service.pay(ACME, "key-1", 250);
    assert_eq!((first.status, first.is_replayed()), (201, false));
    assert_eq!(first.body, r#"{"id":1,"merchant":1,"cents":250}"#);
    assert_eq!(first.headers["content-type"], "application/json");
    let again = service.pay(ACME, "key-1", 250);
    assert!(again.is_replayed());
    assert_eq!(again.like_the_first(), first.like_the_first());
    assert_eq!(place.charges(), 1);

    let of_another = service.pay(BOLT, "key-1", 250);
    assert_eq!((of_another.status, of_another.is_replayed()), (201, false));
    assert_eq!(place.charges(), 2);
    assert_eq!(
        (service.show(ACME, 1), service.show(BOLT, 1), service.show(BOLT, 2)),
        (200, 404, 200)
    );
}

#[test]
fn what_is_refused_is_refused_as_the_chapter_says() {
    let place = Place::with();
    let service = place.start(Duration::ZERO);
    let without_key = service.send(&pay(ACME, None, 250));
    assert_eq!((without_key.status, without_key.problem()), (400, "KeyMissing"));
    assert_eq!(place.charges(), 0);
    assert_eq!(service.pay(ACME, "key-1", 250).status, 201);
    let reused = service.pay(ACME, "key-1", 999);
    assert_eq!((reused.status, reused.problem()), (422, "KeyReused"));
    // A refusal by the handler or its extractor leaves the key free.
    assert_eq!(service.pay(ACME, "key-2", 0).status, 400);
    let malformed = pay(ACME, Some("key-2"), 250).replace("cents", "pence");
    assert_eq!(service.send(&malformed).status, 422);
    assert_eq!(service.pay(ACME, "key-2", 250).status, 201);
    assert_eq!(service.pay("nobody", "key-3", 250).status, 401);
    assert_eq!(service.send(&get("nobody", "/payments/1")).status, 401);
    assert_eq!(place.charges(), 2);
}

#[test]
fn what_the_bank_has_said_decides_about_the_key() {
    let place = Place::with();
    let service = place.start(Duration::ZERO);
    let statuses_and_replays = |key: &str, cents| {
        [(); 3].map(|()| service.pay(ACME, key, cents)).map(|it| (it.status, it.is_replayed()))
    };
    assert_eq!(statuses_and_replays("declined", 40_200), [(402, false), (402, true), (402, true)]);
    assert_eq!(statuses_and_replays("busy", 50_300), [(503, false); 3]);
    assert_eq!(service.pay(ACME, "busy", 250).status, 201);
    assert_eq!(place.charges(), 1);
    assert_eq!(statuses_and_replays("lost", 50_400), [(502, false), (201, true), (201, true)]);
    assert_eq!(place.charges(), 2);
}

#[test]
fn a_retry_waits_for_the_first_request_and_gets_its_answer() {
    let place = Place::with();
    let service = place.start(Duration::from_millis(200));
    let request = pay(ACME, Some("key-1"), 250);
    let streams: Vec<_> = (0..8).map(|_| begin(service.address, &request)).collect();
    let answers: Vec<_> = streams.into_iter().map(|it| end(it).expect("it answers")).collect();
    assert!(answers.iter().all(|answer| answer.status == 201), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer.is_replayed()).count(), 7);
    assert_eq!(place.charges(), 1);
}

#[test]
fn a_retry_that_has_waited_long_enough_is_told_of_the_conflict() {
    let place = Place::with();
    let service = place.start(PATIENCE);
    let first = begin(service.address, &pay(ACME, Some("key-1"), 250));
    place.wait_for_charges(1);
    let conflict = service.pay(ACME, "key-1", 250);
    assert_eq!((conflict.status, conflict.problem()), (409, "InFlight"));
    assert_eq!(conflict.headers["retry-after"], "1");
    service.kill();
    assert_eq!(end(first), None, "the client is told nothing");
}

#[test]
fn a_kill_in_a_charge_is_found_out_and_leaves_one_charge() {
    let place = Place::with();
    let service = place.start(PATIENCE);
    let first = begin(service.address, &pay(ACME, Some("key-1"), 250));
    place.wait_for_charges(1);
    service.kill();
    assert_eq!(end(first), None, "the client is told nothing");

    let service = place.start(Duration::ZERO);
    for _ in 0..2 {
        let retried = service.pay(ACME, "key-1", 250);
        assert_eq!((retried.status, retried.is_replayed()), (201, true));
        assert_eq!(retried.body, r#"{"id":1,"merchant":1,"cents":250}"#);
        assert_eq!(retried.headers["content-type"], "application/json");
    }
    assert_eq!(place.charges(), 1);
}

#[test]
fn a_kill_before_the_bank_knows_is_made_up_for_by_the_retry() {
    let place = Place::with();
    let service = place.start(PATIENCE);
    let first = begin(service.address, &pay(ACME, Some("key-1"), 250));
    place.wait_for_charges(1);
    service.kill();
    assert_eq!(end(first), None, "the client is told nothing");
    // As if the request had never reached the bank.
    fs::write(place.books(), "").expect("it is written");

    let service = place.start(Duration::ZERO);
    let answers = [(); 2].map(|()| service.pay(ACME, "key-1", 250));
    assert_eq!(answers.map(|it| (it.status, it.is_replayed())), [(201, false), (201, true)]);
    assert_eq!(place.charges(), 1);
}

#[test]
fn a_service_that_is_told_to_end_answers_first() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = Place::with();
        let service = place.start(Duration::from_secs(1));
        let first = begin(service.address, &pay(ACME, Some("key-1"), 250));
        place.wait_for_charges(1);
        let client = thread::spawn(|| end(first));
        let (status, said) = service.end(signal);
        assert!(status.success(), "{status}");
        assert_eq!(said, ["0 payments were cut off"]);
        let answer = client.join().expect("it does not panic").expect("the client has its answer");
        assert_eq!((answer.status, answer.is_replayed()), (201, false));
    }
}

#[test]
fn a_payment_whose_client_has_left_is_finished_before_the_service_ends() {
    let place = Place::with();
    let service = place.start(Duration::from_secs(1));
    let client = begin(service.address, &pay(ACME, Some("key-1"), 250));
    place.wait_for_charges(1);
    drop(client);
    let (status, said) = service.end(Signal::TERM);
    assert!(status.success(), "{status}");
    assert_eq!(said, ["0 payments were cut off"]);

    // It was completed, so the bank need not be asked, and could not be: its books are gone.
    fs::write(place.books(), "").expect("it is written");
    let service = place.start(Duration::ZERO);
    let retried = service.pay(ACME, "key-1", 250);
    assert_eq!((retried.status, retried.is_replayed()), (201, true));
    assert_eq!(place.charges(), 0);
}

#[test]
fn a_store_is_made_once_and_a_service_makes_none() {
    let place = Place::of(&PROGRAMS.with);
    let output = |command: &mut std::process::Command| command.output().expect("it starts");
    let refused = output(&mut place.command());
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("NotFound"), "{refused:?}");
    assert!(output(place.command().arg("make-store")).status.success());
    let twice = output(place.command().arg("make-store"));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("Exists"), "{twice:?}");
    let service = place.start(Duration::ZERO);
    assert_eq!(service.pay(ACME, "key-1", 250).status, 201);
}
