//! Concurrent requests with one key.

use std::sync::Arc;
use std::time::Duration;

use idemstore::http::Problem;
use tokio::task::JoinSet;

use super::support::{Answer, Site, expect_order, expect_problem, post};

const CLIENTS: usize = 64;

fn storm(site: &Arc<Site>) -> JoinSet<Answer> {
    (0..CLIENTS)
        .map(|_| {
            let site = Arc::clone(site);
            async move { site.send(&post("abc", "held apples")).await }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_ask_at_once_one_runs_and_all_others_are_told_so() {
    let site = Arc::new(Site::new(|layer| layer).await);
    let mut storm = storm(&site);
    for _ in 1..CLIENTS {
        let answer = storm.join_next().await.expect("one is left").expect("it ends");
        expect_problem(&answer, Problem::InFlight);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    site.desk.let_go();
    let last = storm.join_next().await.expect("one is left").expect("it ends");
    expect_order(&last, 1, false);
    assert_eq!((site.desk.runs(), site.records()), (1, 1));
    expect_order(&site.send(&post("abc", "held apples")).await, 1, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn those_that_wait_get_the_outcome() {
    let site = Arc::new(Site::new(|layer| layer.wait(Duration::from_secs(60))).await);
    let mut storm = storm(&site);
    site.desk.entered().await;
    // A request waits by now, or will ask when everything is done.
    while site.store.stats().waited_for == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    site.desk.let_go();
    let mut replays = 0;
    while let Some(answer) = storm.join_next().await {
        let answer = answer.expect("it ends");
        let replayed = answer.header("idempotent-replayed").is_some();
        expect_order(&answer, 1, replayed);
        replays += usize::from(replayed);
    }
    assert_eq!((site.desk.runs(), replays), (1, CLIENTS - 1));
}

#[tokio::test]
async fn a_request_that_waits_too_long_is_told_of_the_conflict() {
    let options = |layer: idemstore::http::IdempotencyLayer| {
        layer.wait(Duration::from_millis(20)).retry_after(Duration::from_millis(2001))
    };
    let site = Arc::new(Site::new(options).await);
    let ours = Arc::clone(&site);
    let first = tokio::spawn(async move { ours.send(&post("abc", "held apples")).await });
    site.desk.entered().await;
    let answer = site.send(&post("abc", "held apples")).await;
    expect_problem(&answer, Problem::InFlight);
    assert_eq!(answer.header("retry-after"), Some("3"));
    site.desk.let_go();
    expect_order(&first.await.expect("it ends"), 1, false);
}

#[tokio::test]
async fn a_request_that_waits_for_one_that_is_rejected_runs_itself() {
    let site = Arc::new(Site::new(|layer| layer.wait(Duration::from_secs(60))).await);
    // The key is held without a start, so it is free once it is let go of.
    let idemstore::Begin::Fresh(permit) = site.begin("abc") else { panic!("it is new") };
    let ours = Arc::clone(&site);
    let waiting = tokio::spawn(async move { ours.send(&post("abc", "apples")).await });
    while site.store.stats().waited_for == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    permit.release();
    expect_order(&waiting.await.expect("it ends"), 1, false);
}

#[tokio::test]
async fn a_request_that_differs_is_refused_while_the_first_runs() {
    let site = Arc::new(Site::new(|layer| layer).await);
    let ours = Arc::clone(&site);
    let first = tokio::spawn(async move { ours.send(&post("abc", "held apples")).await });
    site.desk.entered().await;
    expect_problem(&site.send(&post("abc", "pears")).await, Problem::KeyReused);
    site.desk.let_go();
    expect_order(&first.await.expect("it ends"), 1, false);
}
