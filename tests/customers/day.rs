//! A key and the day on which it is used, with a manual clock.

use std::pin::pin;
use std::time::Duration;

use axum::http::StatusCode;
use idemstore::{Key, ManualClock, Status, Store, Timestamp};
use tokio::runtime::Runtime;

use super::inside::{STARTS, post, router, router_that_takes};

#[tokio::test]
async fn a_key_is_used_for_a_day_and_free_after_it() {
    for start in STARTS {
        let directory = tempfile::tempdir().expect("there is room");
        // Ten o'clock on the first of May.
        let clock = ManualClock::new(Timestamp::from_unix_ms(1_777_629_600_000));
        let builder = Store::builder().clock(clock.clone());
        let store = builder.open(directory.path().join("store")).expect("it opens");
        let router = router(directory.path(), &store, start);
        let vendor = || post(&router, "/api/v1/vendors", "1234", r#"{"name":"Ann"}"#);
        let hours = |hours: u64| clock.advance(Duration::from_secs(hours * 3600));

        let first = vendor().await;
        assert_eq!((first.0, first.1), (StatusCode::CREATED, false));
        hours(4);
        assert_eq!(vendor().await, (first.0, true, first.2.clone()), "two o'clock: the same");
        hours(21);
        let next = vendor().await;
        assert_eq!((next.0, next.1), (StatusCode::CREATED, false), "eleven o'clock, the next day");
        assert_ne!(next.2, first.2);
    }
}

/// A day later, the same request with the same key is a new operation. If that one is interrupted,
/// the object of the day before says nothing about it.
#[test]
fn what_a_key_has_made_yesterday_is_not_taken_for_what_was_interrupted_today() {
    for start in STARTS {
        let directory = tempfile::tempdir().expect("there is room");
        let clock = ManualClock::new(Timestamp::from_unix_ms(1_777_629_600_000));
        let builder = Store::builder().clock(clock.clone());
        let store = builder.open(directory.path().join("store")).expect("it opens");
        let ask = async |delay| {
            let router = router_that_takes(delay, directory.path(), &store, start);
            post(&router, "/api/v1/vendors", "1234", r#"{"name":"Ann"}"#).await
        };
        let runtime = Runtime::new().expect("it starts");
        let first = runtime.block_on(ask(Duration::ZERO));
        assert_eq!((first.0, first.1), (StatusCode::CREATED, false));
        clock.advance(Duration::from_secs(25 * 3600));

        // It ends with its runtime, before it has made anything.
        let key = Key::scoped("public", "1234").expect("it is a key");
        let is = |status| {
            let known = store.get(&key).expect("it answers");
            known.is_some_and(|known| known.status() == status)
        };
        runtime.block_on(async {
            let mut handled = pin!(ask(Duration::from_secs(3600)));
            while !is(Status::Executing) {
                let tick = tokio::time::sleep(Duration::from_millis(1));
                assert!(tokio::time::timeout_at(tick.deadline(), &mut handled).await.is_err());
            }
        });
        drop(runtime);
        assert!(is(Status::Interrupted), "{start:?}");

        let runtime = Runtime::new().expect("it starts");
        let retried = runtime.block_on(ask(Duration::ZERO));
        assert_eq!((retried.0, retried.1), (StatusCode::CREATED, false), "it has run again");
        assert_ne!(retried.2, first.2);
    }
}
