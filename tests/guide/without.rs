//! The initial program of the chapter.

use std::time::Duration;

use rustix::process::Signal;

use super::client::{ACME, BOLT, get, pay};
use super::service::Place;

#[test]
fn without_the_layer_each_request_is_a_charge() {
    let place = Place::without();
    let service = place.start(Duration::ZERO);
    for (key, id) in [(None, 1), (None, 2), (Some("key-1"), 3), (Some("key-1"), 4)] {
        let answer = service.send(&pay(ACME, key, 250));
        let payment = format!(r#"{{"id":{id},"merchant":1,"cents":250}}"#);
        assert_eq!((answer.status, answer.is_replayed(), answer.body), (201, false, payment));
    }
    assert_eq!(place.charges(), 4);
    assert_eq!(
        (service.show(ACME, 1), service.show(BOLT, 1), service.show(ACME, 9)),
        (200, 404, 404)
    );
    assert_eq!(service.send(&get("nobody", "/payments/1")).status, 401);
    assert_eq!(service.send(&pay(ACME, None, 0)).status, 400);
    let (status, _) = service.end(Signal::INT);
    assert!(status.success(), "{status}");
}

#[test]
fn without_the_layer_an_order_whose_answer_was_lost_is_charged_again() {
    let place = Place::without();
    let service = place.start(Duration::ZERO);
    for _ in 0..2 {
        assert_eq!(service.pay(ACME, "key-1", 50_400).status, 502);
    }
    assert_eq!(place.charges(), 2);
}
