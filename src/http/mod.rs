//! The HTTP contract of idempotency keys, as a [tower](https://docs.rs/tower) layer for axum, hyper
//! and all else that is a `Service` of HTTP requests. Feature `tower`.
//!
//! A client names an operation with the header `Idempotency-Key`. The layer runs it once, and
//! answers each retry with the stored response: status, headers and body as they were, and the
//! header `Idempotent-Replayed: true` beside them. A chapter of the guide goes [step by
//! step](crate::guide::axum_service) from a service without the layer to one with it.
//!
//! ```
//! use axum::Router;
//! use axum::body::{Body, to_bytes};
//! use axum::extract::{Extension, Request};
//! use axum::http::{StatusCode, header::AUTHORIZATION};
//! use axum::response::{IntoResponse, Response};
//! use axum::routing::post;
//! use idemstore::Store;
//! use idemstore::http::{IdempotencyLayer, IdempotencyPermit, Scope, Start};
//! use tower::util::{MapRequestLayer, ServiceExt};
//!
//! /// Whose request it is, once its access token was checked.
//! #[derive(Clone)]
//! struct Tenant(String);
//!
//! impl AsRef<[u8]> for Tenant {
//!     fn as_ref(&self) -> &[u8] {
//!         self.0.as_bytes()
//!     }
//! }
//!
//! # static CHARGES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
//! # async fn charge(_: u64) -> u64 { 1 + CHARGES.fetch_add(1, std::sync::atomic::Ordering::SeqCst) }
//! # fn tenant_of(token: &str) -> Option<String> { Some(token.to_owned()) }
//! async fn pay(Extension(permit): Extension<IdempotencyPermit>, body: String) -> Response {
//!     // What refuses the request comes first: the key is not used by it.
//!     let Ok(cents) = body.parse() else { return StatusCode::BAD_REQUEST.into_response() };
//!     // From here on the request counts as run, and its response is stored.
//!     if permit.start().await.is_err() {
//!         return StatusCode::SERVICE_UNAVAILABLE.into_response();
//!     }
//!     (StatusCode::CREATED, format!("payment {}", charge(cents).await)).into_response()
//! }
//!
//! /// Runs before the layer.
//! fn authenticate(mut request: Request) -> Request {
//!     let token = request.headers().get(AUTHORIZATION).and_then(|token| token.to_str().ok());
//!     if let Some(tenant) = token.and_then(tenant_of) {
//!         request.extensions_mut().insert(Tenant(tenant));
//!     }
//!     request
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("store");
//! let layer = IdempotencyLayer::new(Store::open(path)?, Scope::extension::<Tenant>())
//!     .require_key(true)
//!     .start(Start::ByHandler);
//! let app = Router::new()
//!     .route("/payments", post(pay))
//!     .layer(layer)
//!     .layer(MapRequestLayer::new(authenticate));
//!
//! // axum::serve(listener, app).await?
//! # let send = async |tenant: &str, body: &'static str| {
//! #     let request = Request::post("/payments")
//! #         .header("Authorization", tenant)
//! #         .header("Idempotency-Key", "\"key-1\"")
//! #         .body(Body::from(body))?;
//! #     let (parts, body) = app.clone().oneshot(request).await?.into_parts();
//! #     let body = to_bytes(body, 1024).await?;
//! #     let replayed = parts.headers.contains_key("Idempotent-Replayed");
//! #     Ok::<_, Box<dyn std::error::Error>>((parts.status.as_u16(), replayed, body))
//! # };
//! # assert_eq!(send("ann", "much").await?, (400, false, "".into()));
//! # assert_eq!(send("ann", "250").await?, (201, false, "payment 1".into()));
//! # assert_eq!(send("ann", "250").await?, (201, true, "payment 1".into()));
//! # assert_eq!(send("bob", "250").await?, (201, false, "payment 2".into()));
//! # assert_eq!(send("ann", "999").await?.0, 422);
//! # Ok(())
//! # }
//! ```
//!
//! # What a client gets
//!
//! | the request | the answer |
//! |---|---|
//! | is the first of its key | that of its handler |
//! | was completed before | the stored response, with `Idempotent-Replayed: true` |
//! | is handled right now | 409 [`InFlight`](Problem::InFlight), with `Retry-After`; or after [waiting](IdempotencyLayer::wait), the replay |
//! | has the key of another request | 422 [`KeyReused`](Problem::KeyReused) |
//! | was started, and nobody is left who handles it | 409 [`Interrupted`](Problem::Interrupted), or what [a hook](IdempotencyLayer::on_interrupted) decides |
//! | was completed with a response too long to keep, or with a [secret](without_keeping) in it | 409 [`ResponseNotKept`](Problem::ResponseNotKept) |
//! | has no key | that of its handler, **without protection**; or 400 [`KeyMissing`](Problem::KeyMissing), if one is [required](IdempotencyLayer::require_key) |
//! | has a key that is none, or two of them | 400 [`KeyMalformed`](Problem::KeyMalformed), [`KeyTooLong`](Problem::KeyTooLong), [`KeyRepeated`](Problem::KeyRepeated) |
//! | has a body that is too long, ends early, or does not come in time | 413 [`BodyTooLarge`](Problem::BodyTooLarge), 400 [`BodyUnreadable`](Problem::BodyUnreadable), 408 [`BodyTooSlow`](Problem::BodyTooSlow) |
//! | has a body that cannot be compared [by what it means](#which-requests-are-the-same) | 400 [`BodyNotComparable`](Problem::BodyNotComparable) |
//! | finds a store that cannot answer, or too much under way | 503 [`Unavailable`](Problem::Unavailable): it is never run without the store |
//! | ran, and its response could not be stored | 500 [`OutcomeUnknown`](Problem::OutcomeUnknown) |
//! | ran, and its handler panicked | the panic goes on, as without the layer: put what answers it outside, such as `CatchPanicLayer` |
//!
//! Each problem is an `application/problem+json` (RFC 9457) with a `type` of its own, of a [base that you
//! choose](IdempotencyLayer::problem_base), or [what you make of it](IdempotencyLayer::on_problem).
//!
//! # The key
//!
//! The draft *The Idempotency-Key HTTP Header Field* has a quoted string of RFC 9651, and many clients
//! send the bare key: `"abc"` and `abc` are the same key. It has 1 to 255 characters. A quoted one
//! may have any of printable ASCII, with `\"` and `\\` for a quote and a backslash; parameters
//! after it are ignored. A bare one may have any visible ASCII but `"`, `\`, `,` and `;`.
//!
//! GET, HEAD, OPTIONS, DELETE and all else that is not a [covered
//! method](IdempotencyLayer::only_methods) passes untouched, with a key too.
//!
//! # Which requests are the same
//!
//! A retry has the method, path, query, `Content-Type` and body of the first request, byte for byte. Where
//! clients build a request anew for each attempt, the layer can be told to look at what it means:
//!
//! | what differs in an honest retry | the option |
//! |---|---|
//! | the boundary of a multipart body | [`fingerprint_multipart`](IdempotencyLayer::fingerprint_multipart) |
//! | order of names, spaces, `1.0` for `1` in JSON | [`fingerprint_json`](IdempotencyLayer::fingerprint_json), feature `json` |
//! | `; charset=utf-8` | [`fingerprint_media_type`](IdempotencyLayer::fingerprint_media_type) |
//! | a header that counts, or one that should | [`fingerprint_only_headers`](IdempotencyLayer::fingerprint_only_headers) |
//! | anything else | [`fingerprint`](IdempotencyLayer::fingerprint), a function |
//!
//! None of them is the default. A content coding that a layer further in decodes is compared coded.
//!
//! # When it counts as run
//!
//! Nothing is stored before an operation starts, so a request that is refused before can be mended and
//! sent again with its key. With [`Start::BeforeHandler`] the start is durable before the handler
//! is called, and the response says what became of the effect, by its [status](effect_of_status)
//! or as [you tell](IdempotencyLayer::effect_of): it is done, and the response is stored; or it did not
//! happen, and the key is free; or it is unknown, and the key is interrupted. A handler that answers
//! with a 404 or 429 after it has done something says first that [its effect
//! begins](Operation::effect_begins). With [`Start::ByHandler`] the handler says when it starts, as
//! above, and no status frees the key after that. From the start on, all that may happen is safe:
//!
//! - The client leaves: the handler runs on in a task of its own, and the retry gets its response.
//!   (This is why the layer needs a tokio runtime. From then on the handler does not see what is
//!   local to the task of the connection, such as the current span.)
//! - The handler panics, or the process ends: the key is interrupted, and not run again by itself. So
//!   a server that shuts down [waits for its handlers](IdempotencyLayer::drain) before its runtime ends.
//! - The handler does not know what became of its effect, or knows that it did not happen: it says so
//!   [in its response](with_effect).
//! - The response cannot be stored: the client gets 500, and not the response, for a retry could
//!   not get it. The key is interrupted, or completed, once the store is opened again.
//!
//! The handler finds the [`Operation`] in the extensions of its request. A service that it calls in turn
//! gets a [key of that](Operation::downstream_key): the client's key alone may be another tenant's too.
//!
//! A second layer of the same store, around some of the routes, passes on what the outer one has in
//! hand. A [`Problem`] is never stored, also if a service behind this one has answered with it.
//!
//! # What is stored
//!
//! Status, headers, body and trailers of the response. Headers of the connection are left out, and so
//! are [`Date` and `Set-Cookie`](IdempotencyLayer::leave_out_headers). A response is held until it is
//! stored, then sent. One over the [limit](IdempotencyLayer::response_len_max) is passed on as it
//! comes, and what is stored still blocks a second run. [Streams](IdempotencyLayer::streams), such as
//! server-sent events, are sent as they come, and stored before their end is told; if the client leaves
//! before, the handler was cut in the middle, and the key is interrupted. A response of a handler with
//! [`Start::ByHandler`] that has not started is never held. Trailers of a request reach the handler
//! and are not part of its fingerprint.
//!
//! # What is bounded
//!
//! | what | bound | default | past it |
//! |---|---|---|---|
//! | the body of a request | [`request_len_max`](IdempotencyLayer::request_len_max) | 2 MiB | 413 |
//! | the time for it | [`request_time_max`](IdempotencyLayer::request_time_max) | 60 s | 408 |
//! | all bodies under way | [`requests_len_max`](IdempotencyLayer::requests_len_max) | 512 MiB | 503 |
//! | handlers at one time, without clients too | [`handlers_max`](IdempotencyLayer::handlers_max) | 16 million | 503 |
//! | a response that is kept | [`response_len_max`](IdempotencyLayer::response_len_max) | 1 MiB | sent, and not kept |
//! | a call of the store | [`store_timeout`](IdempotencyLayer::store_timeout) | none | 503 before the handler, 500 after it |
//! | asks of the hook about one key | [`ask_again_after`](IdempotencyLayer::ask_again_after) | one a second | 409 |
//! | the end of a server | [`drain`](IdempotencyLayer::drain) | | what is left is interrupted |
//!
//! A body takes at most 1.1 times its bytes while it comes, and a request that waits for a key in flight 8
//! KiB beside its body. What the server reads into is its own: that of axum's takes up to half a mebibyte
//! for each connection, and hyper's `max_buf_size` sets it.
//!
//! # gRPC
//!
//! [`IdempotencyLayer::grpc`] protects the calls of a gRPC server: unary ones, and those that stream one way.
//! The key is in the metadata `idempotency-key`. What became of the effect stands in
//! [`grpc-status`](effect_of_grpc_status); a handler of tonic, which cannot say more in a `Status`, tells
//! [its operation](Operation::set_effect). Replays have the messages, trailers and metadata of the first
//! answer.
//!
//! | problem | `grpc-status` | the usual retry policy |
//! |---|---|---|
//! | `InFlight` | `ABORTED` 10, with `grpc-retry-pushback-ms` | retries, if it names `ABORTED`, after that time |
//! | `Unavailable` | `UNAVAILABLE` 14, with `grpc-retry-pushback-ms` | retries after that time |
//! | `KeyReused`, `KeyMissing`, `KeyMalformed`, `KeyTooLong`, `KeyRepeated`, `BodyUnreadable`, `BodyNotComparable` | `INVALID_ARGUMENT` 3 | does not |
//! | `Interrupted` | `FAILED_PRECONDITION` 9 | does not |
//! | `ResponseNotKept` | `ALREADY_EXISTS` 6 | does not |
//! | `BodyTooLarge` | `RESOURCE_EXHAUSTED` 8 | does not |
//! | `BodyTooSlow` | `DEADLINE_EXCEEDED` 4 | does not |
//! | `OutcomeUnknown` | `UNKNOWN` 2 | does not |
//! | `NoScope`, `StoredUnreadable` | `INTERNAL` 13, `DATA_LOSS` 15 | does not |
//!
//! The name of the problem is in the metadata `idempotency-problem`. A call whose client and server take turns
//! would wait for itself, since a request is read to its end first: let it [pass](IdempotencyLayer::skip). One
//! that was not let pass is refused as `BodyTooSlow`.
//!
//! # In which servers
//!
//! Tried are axum 0.8 and hyper 1 with HTTP/1.1 and HTTP/2, tonic 0.14, and warp 0.4 by `warp::service`. A
//! server needs services of `http::Request`, which are `Clone` and whose futures are `Send`. poem and actix-web
//! have request types of their own, so that no layer of this kind fits them; a [store](crate::Store) does,
//! with [`encode_response`] and [`decode_response`] for what is kept.
//!
//! # Where to put it
//!
//! Outside of all routes that it is for, and inside of what authenticates: the [scope](Scope) comes from
//! there. Beside that:
//!
//! - **Authorise outside too.** A replay and the hook for interrupted requests never reach the handler, so
//!   a right that only the handler checks is not checked for a retry. Where users of one tenant have
//!   different rights, the scope is the user. If neither can be,
//!   [`authorize`](IdempotencyLayer::authorize) asks for what never reaches the handler.
//! - A router that is nested in another one sees a shorter path, so that two of them with a layer each,
//!   the same scope and the same store could take each other's requests for their own. Put one layer
//!   around both.
//! - The host is not part of the fingerprint, since an honest retry may come through another name or
//!   balancer. Services of several hosts have a scope for each.
//! - With `Router::layer`, a POST to a path that has no route costs two fsyncs with
//!   [`Start::BeforeHandler`]: a start, which its 404 takes back. `Router::route_layer` lets the layer see
//!   routes alone.
//! - What turns a POST into another method, by a header or a field, belongs outside of the layer.
//! - A time limit or a load shedder within the layer answers with 408 or 503, which are unknown outcomes: say
//!   by [`with_effect`] that nothing was run, or put it outside. What answers panics belongs outside.

mod asks;
mod authorize;
mod backing;
mod body;
mod conclude;
mod config;
mod enduring;
mod fingerprint;
mod grpc;
mod header;
mod interrupted;
#[cfg(feature = "json")]
mod json;
mod layer;
mod media_type;
mod multipart;
mod operation;
mod outcome;
mod permit;
mod problem;
mod room;
mod run;
mod scope;
mod service;
mod slot;
mod stored;
mod stream;

pub use body::{Body, BodyError};
pub use grpc::effect_of_grpc_status;
pub use interrupted::{Decision, InterruptedRequest};
pub use layer::{IdempotencyLayer, Start};
pub use operation::{Operation, with_effect};
pub use outcome::{effect_of_status, without_keeping};
pub use permit::{IdempotencyPermit, StartError};
pub use problem::Problem;
pub use scope::{Refusal, Scope};
pub use service::Idempotency;
pub use stored::{decode_response, encode_response};
