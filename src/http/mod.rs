//! The HTTP contract of idempotency keys, as a [tower](https://docs.rs/tower) layer for axum, hyper
//! and everything else that is a `Service` of HTTP requests. Feature `tower`.
//!
//! A client names an operation with the header `Idempotency-Key`. The layer runs the operation
//! once, and answers each retry with the stored response: the same status, headers and body, plus
//! the header `Idempotent-Replayed: true`. A chapter of the guide goes [step by
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
//! | is the first with its key | the handler's response |
//! | was completed before | the stored response, with `Idempotent-Replayed: true` |
//! | is being handled right now | 409 [`InFlight`](Problem::InFlight), with `Retry-After`; or after [waiting](IdempotencyLayer::wait), the replay |
//! | has the key of another request | 422 [`KeyReused`](Problem::KeyReused) |
//! | was started, and is no longer being handled | 409 [`Interrupted`](Problem::Interrupted), or what [a hook](IdempotencyLayer::on_interrupted) decides |
//! | was completed with a response too long to keep, or with a [secret](without_keeping) in it | 409 [`ResponseNotKept`](Problem::ResponseNotKept) |
//! | has no key | the handler's response, **without protection**; or 400 [`KeyMissing`](Problem::KeyMissing), if a key is [required](IdempotencyLayer::require_key) |
//! | has an invalid key, or two keys | 400 [`KeyMalformed`](Problem::KeyMalformed), [`KeyTooLong`](Problem::KeyTooLong), [`KeyRepeated`](Problem::KeyRepeated) |
//! | has a body that is too long, ends early, or doesn't arrive in time | 413 [`BodyTooLarge`](Problem::BodyTooLarge), 400 [`BodyUnreadable`](Problem::BodyUnreadable), 408 [`BodyTooSlow`](Problem::BodyTooSlow) |
//! | has a body that can't be compared [by what it means](#which-requests-are-the-same) | 400 [`BodyNotComparable`](Problem::BodyNotComparable) |
//! | meets a store that can't answer, or too much work under way | 503 [`Unavailable`](Problem::Unavailable): it is never run without the store |
//! | ran, but its response could not be stored | 500 [`OutcomeUnknown`](Problem::OutcomeUnknown) |
//! | ran, but its handler panicked | the panic propagates, as without the layer: put a layer that catches panics, such as `CatchPanicLayer`, outside |
//!
//! Each problem is an `application/problem+json` (RFC 9457) with its own `type`. You can choose the
//! [base](IdempotencyLayer::problem_base) of these types, or [answer problems in another
//! form](IdempotencyLayer::on_problem).
//!
//! # The key
//!
//! The draft *The Idempotency-Key HTTP Header Field* asks for a quoted string of RFC 9651, but many
//! clients send the bare key: `"abc"` and `abc` are the same key. A key has 1 to 255 characters. A
//! quoted key may have any printable ASCII, with `\"` and `\\` for a quote and a backslash;
//! parameters after it are ignored. A bare key may have any visible ASCII except `"`, `\`, `,` and
//! `;`.
//!
//! GET, HEAD, OPTIONS, DELETE and every other method that isn't
//! [covered](IdempotencyLayer::only_methods) pass untouched, even with a key.
//!
//! # Which requests are the same
//!
//! A retry has the method, path, query, `Content-Type` and body of the first request, byte for
//! byte. If clients build the request anew for each attempt, the layer can compare what it means
//! instead:
//!
//! | what differs in an honest retry | the option |
//! |---|---|
//! | the boundary of a multipart body | [`fingerprint_multipart`](IdempotencyLayer::fingerprint_multipart) |
//! | order of names, spaces, `1.0` for `1` in JSON | [`fingerprint_json`](IdempotencyLayer::fingerprint_json), feature `json` |
//! | `; charset=utf-8` | [`fingerprint_media_type`](IdempotencyLayer::fingerprint_media_type) |
//! | a header that is compared and shouldn't be, or the reverse | [`fingerprint_only_headers`](IdempotencyLayer::fingerprint_only_headers) |
//! | anything else | [`fingerprint`](IdempotencyLayer::fingerprint), a function |
//!
//! None of them is on by default. If a layer further in decodes a content coding, the encoded body
//! is compared.
//!
//! # When it counts as run
//!
//! Nothing is stored before an operation starts, so a request that is refused before that can be
//! corrected and sent again with its key. With [`Start::BeforeHandler`] the start is durable before
//! the handler is called, and the response says what became of the effect, by its
//! [status](effect_of_status) or by [your own rule](IdempotencyLayer::effect_of). If the effect is
//! done, the response is stored. If it didn't happen, the key is free. If that is unknown, the key
//! is interrupted. A handler that may answer with a 404 or 429 after it has done something says
//! first that [its effect begins](Operation::effect_begins). With [`Start::ByHandler`] the handler
//! says when it starts, as above, and no status frees the key after that. From the start on,
//! whatever happens is safe:
//!
//! - The client disconnects: the handler continues in a separate task, and the retry gets its
//!   response. (This is why the layer needs a tokio runtime. From then on the handler no longer
//!   sees what is local to the connection's task, such as the current span.)
//! - The handler panics, or the process ends: the key is interrupted, and the layer doesn't run it
//!   again on its own. So a server that shuts down [waits for its
//!   handlers](IdempotencyLayer::drain) before its runtime ends.
//! - The handler doesn't know what became of its effect, or knows that it didn't happen: it says so
//!   [in its response](with_effect).
//! - The response can't be stored: the client gets a 500 instead of the response, because a retry
//!   could not get that response. The key is interrupted, or completed, once the store is opened
//!   again.
//!
//! The handler finds the [`Operation`] in the extensions of its request. When it calls another
//! service, it gives that service a [key derived from the operation](Operation::downstream_key):
//! the client's key alone may be another tenant's too.
//!
//! A second layer of the same store, around some of the routes, passes on a request whose key the
//! outer one holds. A [`Problem`] is never stored, even if a service behind this one answered with
//! it.
//!
//! # What is stored
//!
//! The status, headers, body and trailers of the response. Headers of the connection are left out,
//! and so are [`Date` and `Set-Cookie`](IdempotencyLayer::leave_out_headers). A response is held
//! until it is stored, then sent. A response over the [limit](IdempotencyLayer::response_len_max)
//! is streamed through, and what is stored of it still blocks a second run.
//! [Streams](IdempotencyLayer::streams), such as server-sent events, are sent as they come, and
//! stored before their end is sent. If the client disconnects before that, the handler was cut off
//! in the middle, and the key is interrupted. With [`Start::ByHandler`], a response is never held
//! if its handler hasn't started. Trailers of a request reach the handler, and aren't part of its
//! fingerprint.
//!
//! # What is bounded
//!
//! | what | bound | default | past it |
//! |---|---|---|---|
//! | the body of a request | [`request_len_max`](IdempotencyLayer::request_len_max) | 2 MiB | 413 |
//! | the time for it | [`request_time_max`](IdempotencyLayer::request_time_max) | 60 s | 408 |
//! | all bodies under way | [`requests_len_max`](IdempotencyLayer::requests_len_max) | 512 MiB | 503 |
//! | handlers at one time, including those whose client has left | [`handlers_max`](IdempotencyLayer::handlers_max) | 16 million | 503 |
//! | a response that is kept | [`response_len_max`](IdempotencyLayer::response_len_max) | 1 MiB | sent, but not kept |
//! | a call to the store | [`store_timeout`](IdempotencyLayer::store_timeout) | none | 503 before the handler, 500 after it |
//! | calls of the hook about one key | [`ask_again_after`](IdempotencyLayer::ask_again_after) | one a second | 409 |
//! | the shutdown of a server | [`drain`](IdempotencyLayer::drain) | | what is left is interrupted |
//!
//! While a body arrives, it takes at most 1.1 times its length in memory. A request that waits for
//! a key in flight takes 8 KiB besides its body. The server's read buffers are extra: axum's server
//! uses up to half a mebibyte for each connection, and hyper's `max_buf_size` limits it.
//!
//! # gRPC
//!
//! [`IdempotencyLayer::grpc`] protects the calls of a gRPC server: unary ones, and those that
//! stream in one direction. The key is in the metadata `idempotency-key`.
//! [`grpc-status`](effect_of_grpc_status) says what became of the effect; a tonic handler, which
//! can't say more in a `Status`, tells [its operation](Operation::set_effect). Replays have the
//! messages, trailers and metadata of the first answer.
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
//! The name of the problem is in the metadata `idempotency-problem`. A call whose client and server
//! take turns would wait for itself, since a request is read to its end first:
//! [exempt](IdempotencyLayer::skip) it. Otherwise it is refused as `BodyTooSlow`.
//!
//! # In which servers
//!
//! The layer is tested with axum 0.8 and hyper 1 over HTTP/1.1 and HTTP/2, tonic 0.14, and warp 0.4
//! through `warp::service`. It fits any server whose services take an `http::Request`, are `Clone`,
//! and return futures that are `Send`. poem and actix-web have their own request types, so no layer
//! of this kind fits them. Use a [store](crate::Store) there, with [`encode_response`] and
//! [`decode_response`] for what is kept.
//!
//! # Where to put it
//!
//! Outside of all routes that it protects, and inside the authentication layer, which provides the
//! [scope](Scope). Besides that:
//!
//! - **Authorise outside too.** Replays and the hook for interrupted requests never reach the
//!   handler, so a right that only the handler checks isn't checked for a retry. If users of one
//!   tenant have different rights, use the user as the scope. If neither is possible,
//!   [`authorize`](IdempotencyLayer::authorize) is asked about the requests that never reach the
//!   handler.
//! - A nested router sees a shorter path. Two nested routers that each have a layer with the same
//!   scope and store could mistake each other's requests for their own. Put one layer around both.
//! - The host isn't part of the fingerprint, since an honest retry may come through another name or
//!   load balancer. If you serve several hosts, give each its own scope.
//! - With `Router::layer` and [`Start::BeforeHandler`], a POST to a path without a route costs two
//!   fsyncs: one for the start, and one to undo it after the 404. With `Router::route_layer` the
//!   layer sees only requests that match a route.
//! - A layer that turns a POST into another method, by a header or a field, belongs outside.
//! - A time limit or a load shedder inside the layer answers with 408 or 503, which are unknown
//!   outcomes. Say with [`with_effect`] that nothing was run, or put it outside. A layer that
//!   catches panics belongs outside.

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
