//! What the HTTP layer and the futures cost: replays compared with the same service without the
//! layer, and durable requests compared with the bare store.
//!
//! Server and clients are in one process on the same cores, so all rows pay for both. Rounds go
//! through all rows, so that a slow spell of the machine hits each of them.

#![expect(clippy::expect_used, reason = "a bench that cannot go on can only stop")]

#[expect(dead_code, reason = "each bench uses a part of what they share")]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use idemstore::http::{IdempotencyLayer, IdempotencyPermit, Scope, Start};
use idemstore::{Begin, Permit, Store};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use support::table::Target;
use support::{Notes, RESULT, Scale, fingerprint, float, key, place};

const ROUNDS: u64 = 7;
/// Connections, or callers of the store.
const CALLERS: usize = 64;
/// Requests per row in a round, shared by all callers.
const REQUESTS: u64 = 20_000;
/// Tasks on the one thread whose heartbeat is measured, and what each completes.
const TASKS: u64 = 64;
const COMPLETED: u64 = 200;

static NEXT_KEY: AtomicU64 = AtomicU64::new(1);

fn main() {
    let scale = Scale::from_env();
    let (place, runtime) = (place(), Runtime::new().expect("a runtime starts"));
    let store = Store::open(place.path().join("store")).expect("a new store opens");
    let serve = |router| serve(&runtime, router);
    let plain = serve(service());
    let reading = serve(reading());
    let layer = || IdempotencyLayer::new(store.clone(), Scope::shared("bench"));
    let before = serve(service().layer(layer()));
    let by_handler = serve(starting().layer(layer().start(Start::ByHandler)));

    let (requests, mut notes) = (scale.of(REQUESTS), Notes::default());
    let mut latest = Duration::ZERO;
    for round in 0..scale.of(ROUNDS) {
        notes.add("plain", load(plain, requests, |_| request("key")));
        notes.add("reading", load(reading, requests, |_| request("key")));
        // The first request of each key runs, and the others are replays: first of what is still in
        // memory, then of what is in the vault.
        let recent = |caller| request(&format!("{round}-{caller}"));
        load(before, 10 * CALLERS as u64, recent);
        notes.add("recent", load(before, requests, recent));
        store.settle().expect("the store works");
        notes.add("settled", load(before, requests, recent));
        let new = |_| request(&format!("new-{}", NEXT_KEY.fetch_add(1, Ordering::Relaxed)));
        notes.add("before", load(before, requests, new));
        notes.add("by-handler", load(by_handler, requests, new));
        notes.add("bare", bare(&store, requests));
        notes.add("futures", futures(&runtime, &store, requests));
        latest = latest.max(heartbeat(&store, scale.of(COMPLETED)));
    }
    report(scale, &notes, latest);
}

fn report(scale: Scale, notes: &Notes, latest: Duration) {
    let mut table =
        scale.table("requests a second, 64 connections", ["measured", "beside", "ratio"]);
    for (what, measured, beside, target) in [
        ("replays from memory / plain service", "recent", "plain", Target::None),
        ("replays from the vault / plain service", "settled", "plain", Target::None),
        ("replays from memory / one that reads", "recent", "reading", Target::AtLeast(0.9)),
        ("replays from the vault / one that reads", "settled", "reading", Target::AtLeast(0.9)),
        ("plain service that reads / plain service", "reading", "plain", Target::None),
        ("new keys, start before the handler / bare store", "before", "bare", Target::AtLeast(0.7)),
        ("new keys, start by the handler / bare store", "by-handler", "bare", Target::AtLeast(0.7)),
        ("new keys, start before the handler / plain service", "before", "plain", Target::None),
        ("64 tasks / 64 threads, on the bare store", "futures", "bare", Target::None),
    ] {
        let columns = [measured, beside].map(|name| format!("{:.0}", notes.median(name)));
        table.row(what, columns, notes.ratio(measured, beside), target);
    }
    table.print();
    let mut table = scale.table("one thread, 64 durable tasks", ["measured", "", "ms"]);
    let late = latest.as_secs_f64() * 1e3;
    table.row(
        "latest heartbeat",
        [format!("{late:.2} ms"), String::new()],
        late,
        Target::AtMost(20.0),
    );
    table.print();
}

async fn order() -> (StatusCode, Vec<u8>) {
    (StatusCode::CREATED, RESULT.to_vec())
}

fn service() -> Router {
    Router::new().route("/orders", post(order))
}

/// The same with a handler that reads the body of its request, as the layer has to.
fn reading() -> Router {
    let handler = |body: axum::body::Bytes| async move {
        assert_eq!(body.len(), 9);
        order().await
    };
    Router::new().route("/orders", post(handler))
}

/// The same with a handler that says when it starts.
fn starting() -> Router {
    let handler = |axum::Extension(permit): axum::Extension<IdempotencyPermit>| async move {
        permit.start().await.expect("the store works");
        order().await
    };
    Router::new().route("/orders", post(handler))
}

fn serve(runtime: &Runtime, router: Router) -> SocketAddr {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback is there");
    let address = listener.local_addr().expect("it is bound");
    runtime.spawn(async move { axum::serve(listener, router).await });
    address
}

fn request(key: &str) -> String {
    format!(
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: 9\r\nIdempotency-Key: {key}\r\n\r\n{{\"pi\": 3}}"
    )
}

/// Requests per second that this many connections get answered, each connection sending one after
/// the other.
fn load(server: SocketAddr, requests: u64, of: impl Fn(usize) -> String + Sync) -> f64 {
    let taken = AtomicU64::new(0);
    let caller = |caller: usize| {
        let mut stream = TcpStream::connect(server).expect("the server is there");
        stream.set_nodelay(true).expect("it is a socket");
        let mut buffer = [0; 2048];
        while taken.fetch_add(1, Ordering::Relaxed) < requests {
            stream.write_all(of(caller).as_bytes()).expect("the server reads");
            let mut len = 0;
            while !is_whole(buffer.get(..len).unwrap_or_default()) {
                let rest = buffer.get_mut(len..).unwrap_or_default();
                len += stream.read(rest).expect("the server answers");
            }
        }
    };
    let began = Instant::now();
    thread::scope(|scope| {
        for number in 0..CALLERS {
            let caller = &caller;
            scope.spawn(move || caller(number));
        }
    });
    float(requests) / began.elapsed().as_secs_f64()
}

/// Whether this is a response with the body that every response has.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    assert!(bytes.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(bytes));
    head + 4 + RESULT.len() <= bytes.len()
}

fn fresh(store: &Store) -> Permit {
    let key = key(NEXT_KEY.fetch_add(1, Ordering::Relaxed));
    match store.begin(&key, fingerprint()).expect("the store works") {
        Begin::Fresh(permit) => permit,
        _ => unreachable!("the key is new"),
    }
}

/// Operations per second of this many threads, each of which starts and completes.
fn bare(store: &Store, operations: u64) -> f64 {
    let (taken, began) = (AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                while taken.fetch_add(1, Ordering::Relaxed) < operations {
                    let execution = fresh(store).start().expect("the store works");
                    execution.complete(RESULT).expect("the store works");
                }
            });
        }
    });
    float(operations) / began.elapsed().as_secs_f64()
}

/// The same as futures, on this many tasks.
fn futures(runtime: &Runtime, store: &Store, operations: u64) -> f64 {
    let began = Instant::now();
    runtime.block_on(complete_all(store, CALLERS as u64, operations / CALLERS as u64 + 1));
    float(operations) / began.elapsed().as_secs_f64()
}

/// Starts and completes this many operations in each of this many tasks.
async fn complete_all(store: &Store, tasks: u64, operations: u64) {
    let complete = |store: Store| async move {
        for _ in 0..operations {
            let execution = fresh(&store).start_async().await.expect("the store works");
            execution.complete_async(RESULT).await.expect("the store works");
        }
    };
    let tasks: Vec<_> = (0..tasks).map(|_| tokio::spawn(complete(store.clone()))).collect();
    for task in tasks {
        task.await.expect("no task panics");
    }
}

/// How late a thread's most delayed heartbeat was, at one per millisecond, while the thread does
/// nothing but durable calls.
fn heartbeat(store: &Store, operations: u64) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime starts").block_on(async {
        let beat = tokio::spawn(async {
            let (every, mut latest) = (Duration::from_millis(1), Duration::ZERO);
            loop {
                let expected = Instant::now() + every;
                tokio::time::sleep(every).await;
                latest = latest.max(expected.elapsed());
                LATEST
                    .store(u64::try_from(latest.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        complete_all(store, TASKS, operations).await;
        beat.abort();
    });
    Duration::from_nanos(LATEST.load(Ordering::Relaxed))
}

static LATEST: AtomicU64 = AtomicU64::new(0);
