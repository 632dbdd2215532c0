//! How long the layer waits for bodies and for the store, and how much it holds meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use idemstore::http::Problem;
use idemstore::sim::{Directory, OpenOn};
use idemstore::{Begin, Status, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{
    Call, Desk, Gate, GatedDisk, Place, SCOPE, Site, expect_order, expect_problem, layer, post,
    serve,
};

/// A connection that has sent this much of an upload of this length.
async fn upload(site: &Site, key: &str, len: usize, sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(site.address).await.expect("the server is there");
    let head = format!(
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Content-Length: {len}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    stream.write_all(sent).await.expect("the body is taken");
    stream
}

async fn answer(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("the server answers");
    String::from_utf8(bytes).expect("it is text")
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_refused_and_leaves_no_trace() {
    let site = Site::new(|layer| layer.request_time_max(Duration::from_millis(100))).await;
    // For a used key too: its fingerprint has to be computed.
    expect_order(&site.send(&post("used", "apples")).await, 1, false);
    for key in ["abc", "used"] {
        let refused = answer(upload(&site, key, 6, b"app").await).await;
        assert!(refused.starts_with("HTTP/1.1 408"), "{refused}");
        assert!(refused.contains("variant.BodyTooSlow") && refused.contains("retry-after: 1"));
    }
    assert_eq!((site.desk.runs(), site.records()), (1, 1));
    expect_order(&site.send(&post("abc", "apples")).await, 2, false);
}

#[tokio::test]
async fn bodies_have_no_more_room_together_than_they_are_given() {
    let site = Site::new(|layer| layer.requests_len_max(64 * 1024)).await;
    let body = "x".repeat(60 * 1024);
    let mut slow = upload(&site, "slow", body.len() + 1, body.as_bytes()).await;
    // Until the server has read it.
    let large = post("large", &"y".repeat(10 * 1024));
    while site.send(&large).await.status != 503 {
        site.store
            .forget(&idemstore::Key::scoped(SCOPE, "large").expect("it is a key"))
            .expect("it is");
    }
    expect_problem(&site.send(&large).await, Problem::Unavailable);
    expect_order_of(&site, &post("small", "apples")).await;
    slow.write_all(b"x").await.expect("it is read");
    assert!(answer(slow).await.starts_with("HTTP/1.1 201"));
    expect_order_of(&site, &large).await;
}

async fn expect_order_of(site: &Site, call: &Call) {
    let answer = site.send(call).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}

/// A store whose disk can get stuck, behind a layer that doesn't wait long for it.
async fn stuck() -> (TempDir, Store, Desk, Arc<Gate>, SocketAddr) {
    let directory = tempfile::tempdir().expect("there is room");
    let gate = Arc::new(Gate::default());
    let real = Directory::new(&directory.path().join("store"));
    let stuck = GatedDisk { disk: real, gate: Arc::clone(&gate) };
    let store = Place::builder().open_on(stuck).expect("it opens");
    let desk = Desk::default();
    let layer = layer(store.clone()).store_timeout(Duration::from_millis(100));
    let address = serve(desk.router().layer(layer)).await;
    (directory, store, desk, gate, address)
}

/// Waits until the store has finished its present work.
async fn until(store: &Store, is_so: impl Fn(Option<Status>) -> bool) {
    let key = idemstore::Key::scoped(SCOPE, "abc").expect("it is a key");
    loop {
        let info = store.get(&key).expect("it answers");
        if is_so(info.map(|info| info.status())) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_takes_too_long_runs_nothing_and_its_key_is_freed_later() {
    let (_directory, store, desk, gate, address) = stuck().await;
    gate.shut();
    expect_problem(&post("abc", "apples").send(address).await, Problem::Unavailable);
    // It is still under way, so no other request may start.
    expect_problem(&post("abc", "apples").send(address).await, Problem::InFlight);
    gate.open();
    until(&store, |status| status.is_none()).await;
    assert_eq!(desk.runs(), 0);
    expect_order(&post("abc", "apples").send(address).await, 1, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_takes_too_long_is_not_told_and_a_retry_gets_it_later() {
    let (_directory, store, desk, gate, address) = stuck().await;
    let call = post("abc", "held apples");
    let first = tokio::spawn(async move { call.send(address).await });
    desk.entered().await;
    gate.shut();
    desk.let_go();
    expect_problem(&first.await.expect("it is answered"), Problem::OutcomeUnknown);
    gate.open();
    until(&store, |status| status == Some(Status::Completed)).await;
    expect_order(&post("abc", "held apples").send(address).await, 1, true);
    assert_eq!(desk.runs(), 1);
}

#[tokio::test]
async fn without_a_limit_the_store_takes_its_time() {
    let site = Site::new(|layer| layer.store_timeout(Duration::from_secs(3600))).await;
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    assert!(matches!(site.begin("abc"), Begin::Replay(_)));
}
