//! The HTTP layer: bodies that don't end, requests that wait, streams that continue.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::sleep;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, StatusCode};
use axum::routing::any;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use idemstore::http::{IdempotencyLayer, Scope};
use idemstore::{Begin, Fingerprint, Key, Store};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder as RuntimeBuilder, Runtime};
use tower::util::ServiceExt;

use super::{MIB, NOISE, builder, check, clock, live, peak_of, turn};

const SCOPE: &str = "tests";

fn runtime() -> Runtime {
    RuntimeBuilder::new_multi_thread().worker_threads(2).enable_all().build().expect("it starts")
}

fn layer(store: Store) -> IdempotencyLayer {
    IdempotencyLayer::new(store, Scope::shared(SCOPE)).request_time_max(Duration::from_secs(3600))
}

fn store() -> Store {
    builder(&clock()).open_in_memory().expect("there is room")
}

/// Answers with the length of the body.
fn router() -> Router {
    Router::new().fallback(any(|body: Bytes| async move { body.len().to_string() }))
}

/// The size of a connection's read buffer on the server.
#[derive(Clone, Copy)]
enum Buffers {
    /// As axum does it: hyper chooses the size, up to half a mebibyte.
    OfAxum,
    Small,
}

const SMALL: usize = 16 * 1024;

async fn serve(router: Router, buffers: Buffers) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let address = listener.local_addr().expect("it has an address");
    match buffers {
        Buffers::OfAxum => drop(tokio::spawn(async move { axum::serve(listener, router).await })),
        Buffers::Small => drop(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                let mut server = hyper::server::conn::http1::Builder::new();
                let io = TokioIo::new(stream);
                tokio::spawn(server.max_buf_size(SMALL).serve_connection(io, service));
            }
        })),
    }
    address
}

/// Waits until this is true, for a minute at most.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {} bytes are live", live());
        sleep(Duration::from_millis(10));
    }
}

/// An upload of a mebibyte that lacks its last byte, or was refused before that.
async fn upload(address: SocketAddr, key: usize) -> TcpStream {
    static BODY: [u8; MIB] = [b'x'; MIB];
    let mut stream = TcpStream::connect(address).await.expect("the server is there");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nIdempotency-Key: {key}\r\n\
         Content-Length: {MIB}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("the head is taken");
    let _ = stream.write_all(BODY.get(1..).expect("it has a first")).await;
    stream
}

/// Sends the last byte, and returns the status of the answer.
async fn finish(mut stream: TcpStream) -> String {
    let _ = stream.write_all(b"x").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(answer.get(9..12).unwrap_or_default()).into_owned()
}

const UPLOADS: usize = 1_000;

#[test]
fn uploads_that_do_not_end_take_little_more_than_what_they_have_sent() {
    let _turn = turn();
    let taken = uploads(Buffers::Small);
    check("uploads that lack a byte", taken, UPLOADS * MIB * 110 / 100);
}

#[test]
fn what_a_server_of_axum_takes_beside_them_is_bounded_too() {
    let _turn = turn();
    let taken = uploads(Buffers::OfAxum);
    check("uploads that lack a byte, in axum's server", taken, UPLOADS * MIB * 170 / 100);
}

/// The bytes that a thousand of them take, once everything is read. They finish successfully after
/// that.
fn uploads(buffers: Buffers) -> usize {
    let runtime = runtime();
    let layer = layer(store()).requests_len_max(2 * UPLOADS * MIB);
    let address = runtime.block_on(serve(router().layer(layer), buffers));
    let before = live();
    let streams: Vec<_> = runtime.block_on(async {
        let mut streams = Vec::new();
        for key in 0..UPLOADS {
            streams.push(upload(address, key).await);
        }
        streams
    });
    until("all is read", || UPLOADS * (MIB - 1) <= live() - before);
    sleep(Duration::from_millis(300));
    let taken = live() - before;
    let statuses = runtime.block_on(async {
        let mut statuses = Vec::new();
        for stream in streams {
            statuses.push(finish(stream).await);
        }
        statuses
    });
    assert!(statuses.iter().all(|status| status == "200"), "{statuses:?}");
    taken
}

#[test]
fn bodies_take_no_more_together_than_they_are_given() {
    const UPLOADS: usize = 300;
    let _turn = turn();
    let runtime = runtime();
    let layer = layer(store()).requests_len_max(64 * MIB);
    let address = runtime.block_on(serve(router().layer(layer), Buffers::Small));
    let peak = peak_of(|| {
        let statuses = runtime.block_on(async {
            let mut streams = Vec::new();
            for key in 0..UPLOADS {
                streams.push(upload(address, key).await);
            }
            let mut statuses = Vec::new();
            for stream in streams {
                statuses.push(finish(stream).await);
            }
            statuses
        });
        let taken = statuses.iter().filter(|status| *status == "200").count();
        let refused =
            statuses.iter().filter(|status| *status == "503" || status.is_empty()).count();
        assert_eq!(taken + refused, UPLOADS, "{statuses:?}");
        assert!((1..=UPLOADS - 64).contains(&refused), "{refused} were refused");
    });
    // The server's own memory for each connection comes on top.
    check("bodies of 64 MiB together", peak, 64 * MIB * 110 / 100 + UPLOADS * 64 * 1024);
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

#[test]
fn requests_that_wait_for_one_stuck_key_are_all_answered_in_time_and_leave_nothing() {
    const WAITING: usize = 10_000;
    let _turn = turn();
    let (runtime, store) = (runtime(), store());
    let _runs = runtime.enter();
    let key = Key::scoped(SCOPE, "stuck").expect("it is a key");
    let begin = store.begin(&key, Fingerprint::NONE).expect("it answers");
    assert!(matches!(begin, Begin::Fresh(_)));
    let app = router().layer(layer(store).wait(Duration::from_millis(500)));
    let request = || {
        let request = Request::post("/").header("Idempotency-Key", "stuck");
        request.body(Body::from("apples")).expect("it is a request")
    };
    let before = live();
    let mut waits: Vec<Answer> =
        (0..WAITING).map(|_| Box::pin(app.clone().oneshot(request())) as Answer).collect();
    for wait in &mut waits {
        let context = &mut Context::from_waker(std::task::Waker::noop());
        assert!(wait.as_mut().poll(context).is_pending());
    }
    check("requests that wait", live() - before, WAITING * 8 * 1024);
    runtime.block_on(async {
        for wait in waits {
            let answer = wait.await.expect("it is answered");
            assert_eq!(answer.status(), StatusCode::CONFLICT);
        }
    });
    check("requests that have waited", live().saturating_sub(before), NOISE);
    drop(begin);
}

/// Events without an end.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static EVENT: [u8; 1024] = [b'e'; 1024];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&EVENT)))))
    }
}

#[test]
fn a_stream_that_never_ends_takes_what_would_be_kept_of_it_and_a_drain_ends() {
    let _turn = turn();
    let (runtime, layer) = (runtime(), layer(store()));
    let endless = || async {
        let response = Response::builder().header("content-type", "text/event-stream");
        response.body(Body::new(Endless)).expect("it is a response")
    };
    let app = Router::new().fallback(any(endless)).layer(layer.clone());
    runtime.block_on(async {
        let request = Request::post("/").header("Idempotency-Key", "abc");
        let request = request.body(Body::empty()).expect("it is a request");
        let before = live();
        let mut body = app.oneshot(request).await.expect("it answers").into_body();
        let mut sent = 0;
        while sent < 64 * MIB {
            let frame = body.frame().await.expect("it goes on").expect("it does not fail");
            sent += frame.into_data().expect("it is data").len();
        }
        check("a stream of 64 MiB", live().saturating_sub(before), 3 * MIB);
        assert_eq!(layer.drain(Duration::from_millis(50)).await, 1, "it is named");
        drop(body);
        assert_eq!(layer.drain(Duration::from_secs(60)).await, 0);
    });
}
