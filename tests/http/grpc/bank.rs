//! A bank that speaks gRPC, and a client for it. Its messages are text: generated code does the
//! same.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::post;
use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use idemstore::http::{IdempotencyLayer, Operation, Scope};
use idemstore::{Effect, Store};
use tokio::sync::mpsc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tower::service_fn;

use crate::support::{Desk, Place, SCOPE, serve};

/// Messages as text.
#[derive(Clone, Copy, Default)]
pub struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, text: String, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(text.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = from.copy_to_bytes(from.remaining());
        String::from_utf8(bytes.to_vec()).map(Some).map_err(|_| Status::invalid_argument("no text"))
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Messages = Pin<Box<dyn tokio_stream::Stream<Item = Result<String, Status>> + Send>>;

/// Everything that a channel yields until its sender is gone.
fn messages(receive: mpsc::UnboundedReceiver<Result<String, Status>>) -> Messages {
    Box::pin(tokio_stream::wrappers::UnboundedReceiverStream::new(receive))
}

/// Pays, and obeys the request: `status 5` ends with that, `held` waits, `unknown` has called
/// another system without an answer.
async fn pay(desk: &Desk, request: tonic::Request<String>) -> Answer<String> {
    let operation = request.extensions().get::<Operation>().cloned();
    let text = request.into_inner();
    if let Some(code) = text.strip_prefix("status ") {
        desk.answer(b"refused 500").await;
        let code: i32 = code.parse().expect("it is a number");
        return Err(Status::with_details(Code::from(code), "as told", (&b"details"[..]).into()));
    }
    if text == "unknown" {
        desk.answer(b"refused 500").await;
        let operation = operation.expect("it has a key");
        operation.set_effect(Effect::Unknown(()));
        return Err(Status::internal("nobody has answered"));
    }
    if let Some(millis) = text.strip_prefix("slow ") {
        tokio::time::sleep(Duration::from_millis(millis.parse().expect("it is a number"))).await;
    }
    let answer = desk.answer(text.as_bytes()).await;
    let body = axum::body::to_bytes(answer.into_body(), 1024).await.expect("it is short");
    let mut response = Response::new(String::from_utf8(body.to_vec()).expect("it is text"));
    response.metadata_mut().insert("receipt", "17".parse().expect("it is a value"));
    Ok(response)
}

/// Sends a message, waits until it is released, and ends as the request says.
async fn statement(desk: Desk, request: tonic::Request<String>) -> Answer<Messages> {
    let (send, receive) = mpsc::unbounded_channel();
    let text = request.into_inner();
    desk.answer(b"counted").await;
    tokio::spawn(async move {
        let _ = send.send(Ok("first".to_owned()));
        desk.hold().await;
        let last = match text.strip_prefix("status ") {
            Some(code) => {
                Err(Status::new(Code::from(code.parse::<i32>().expect("a number")), "so"))
            }
            None => Ok("last".to_owned()),
        };
        let _ = send.send(last);
    });
    Ok(Response::new(messages(receive)))
}

/// Receives everything that is sent, then answers.
async fn deposit(desk: Desk, request: tonic::Request<Streaming<String>>) -> Answer<String> {
    let (mut stream, mut all) = (request.into_inner(), Vec::new());
    while let Some(text) = stream.message().await? {
        all.push(text);
    }
    desk.answer(b"counted").await;
    Ok(Response::new(all.join("+")))
}

/// Answers each message before the next one is sent.
async fn negotiate(desk: Desk, request: tonic::Request<Streaming<String>>) -> Answer<Messages> {
    let (send, receive) = mpsc::unbounded_channel();
    let mut stream = request.into_inner();
    desk.answer(b"counted").await;
    tokio::spawn(async move {
        while let Ok(Some(text)) = stream.message().await {
            let _ = send.send(Ok(format!("{text}?")));
        }
    });
    Ok(Response::new(messages(receive)))
}

/// The methods of the bank, as a router.
pub fn router(desk: &Desk) -> Router {
    let [unary, server, client, both] = [(); 4].map(|()| desk.clone());
    let pay = move |request: Request| async move {
        let pay = service_fn(move |request| {
            let desk = unary.clone();
            async move { pay(&desk, request).await }
        });
        tonic::server::Grpc::new(Text).unary(pay, request).await.map(Body::new)
    };
    let statement = move |request: Request| async move {
        let statement = service_fn(move |request| statement(server.clone(), request));
        tonic::server::Grpc::new(Text).server_streaming(statement, request).await.map(Body::new)
    };
    let deposit = move |request: Request| async move {
        let deposit = service_fn(move |request| deposit(client.clone(), request));
        tonic::server::Grpc::new(Text).client_streaming(deposit, request).await.map(Body::new)
    };
    let negotiate = move |request: Request| async move {
        let negotiate = service_fn(move |request| negotiate(both.clone(), request));
        tonic::server::Grpc::new(Text).streaming(negotiate, request).await.map(Body::new)
    };
    Router::new()
        .route("/bank.Payments/Pay", post(pay))
        .route("/bank.Payments/Statement", post(statement))
        .route("/bank.Payments/Deposit", post(deposit))
        .route("/bank.Payments/Negotiate", post(negotiate))
}

/// A bank behind the layer, and its state.
pub struct Bank {
    pub desk: Desk,
    pub store: Store,
    pub address: SocketAddr,
    _place: Place,
}

impl Bank {
    pub async fn new(options: impl FnOnce(IdempotencyLayer) -> IdempotencyLayer) -> Self {
        let (desk, place) = (Desk::default(), Place::new());
        let store = place.open();
        let layer = IdempotencyLayer::grpc(store.clone(), Scope::shared(SCOPE));
        let address = serve(router(&desk).layer(options(layer))).await;
        Self { desk, store, address, _place: place }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// The state of a key in the store; `None` if it is free.
    pub fn status(&self, key: &str) -> Option<idemstore::Status> {
        let key = idemstore::Key::scoped(SCOPE, key).expect("it is a key");
        self.store.get(&key).expect("the store answers").map(|info| info.status())
    }
}

/// A client of tonic.
#[derive(Clone)]
pub struct Client(tonic::client::Grpc<Channel>);

/// The path of a method.
fn path(method: &str) -> PathAndQuery {
    format!("/bank.Payments/{method}").parse().expect("it is a path")
}

/// A request with this key; without one if it is empty.
pub fn with_key<T>(key: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if !key.is_empty() {
        request.metadata_mut().insert("idempotency-key", key.parse().expect("it is a value"));
    }
    request
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let channel = Channel::from_shared(format!("http://{address}")).expect("it is a URI");
        Self(tonic::client::Grpc::new(channel.connect().await.expect("it is there")))
    }

    async fn ready(&mut self) {
        self.0.ready().await.expect("the connection stays");
    }

    pub async fn pay(&mut self, key: &str, text: &str) -> Answer<String> {
        self.ready().await;
        self.0.unary(with_key(key, text.to_owned()), path("Pay"), Text).await
    }

    pub async fn statement(&mut self, key: &str, text: &str) -> Answer<Streaming<String>> {
        self.ready().await;
        let request = with_key(key, text.to_owned());
        self.0.server_streaming(request, path("Statement"), Text).await
    }

    pub async fn deposit(&mut self, key: &str, texts: &[&str]) -> Answer<String> {
        self.ready().await;
        let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
        let request = with_key(key, tokio_stream::iter(texts));
        self.0.client_streaming(request, path("Deposit"), Text).await
    }

    pub async fn negotiate(
        &mut self,
        key: &str,
        texts: mpsc::UnboundedReceiver<String>,
    ) -> Answer<Streaming<String>> {
        self.ready().await;
        let texts = tokio_stream::wrappers::UnboundedReceiverStream::new(texts);
        self.0.streaming(with_key(key, texts), path("Negotiate"), Text).await
    }
}

/// How often something was requested.
#[derive(Clone, Default)]
pub struct Count(Arc<AtomicUsize>);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Whether an answer is a replay.
pub fn is_replay<T>(response: &Response<T>) -> bool {
    response.metadata().get("idempotent-replayed").is_some_and(|value| value == "true")
}
