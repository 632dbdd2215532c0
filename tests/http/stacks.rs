//! Layers of tower and tower-http, each outside our layer and inside it: what the first client
//! gets, what its retry gets, how often the handler ran, and what the store has. The table "Layers
//! around and within" of the guide states what these tests show.

mod limits;
mod order;
mod requests;
mod responses;
mod watching;

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::Route;
use idemstore::http::{IdempotencyLayer, decode_response};
use idemstore::{Key, Status};
use tower::{Layer, Service};

use super::support::{Desk, SCOPE, Site, layer};

/// What an axum router accepts as a layer.
trait AxumLayer:
    Layer<
        Route,
        Service: Service<
            Request,
            Response: IntoResponse + 'static,
            Error: Into<Infallible> + 'static,
            Future: Send + 'static,
        > + Clone
                     + Send
                     + Sync
                     + 'static,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<L, S> AxumLayer for L
where
    L: Layer<Route, Service = S> + Clone + Send + Sync + 'static,
    S: Service<Request, Response: IntoResponse + 'static, Error: Into<Infallible> + 'static>,
    S: Service<Request, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
}

/// Where a layer is, relative to ours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum At {
    Outside,
    Inside,
}

const BOTH: [At; 2] = [At::Outside, At::Inside];

impl At {
    /// This router in both layers.
    fn wrap(self, router: Router, ours: IdempotencyLayer, theirs: impl AxumLayer) -> Router {
        match self {
            Self::Outside => router.layer(ours).layer(theirs),
            Self::Inside => router.layer(theirs).layer(ours),
        }
    }

    /// The usual handler and the usual layer, together with this one.
    async fn site(self, theirs: impl AxumLayer) -> Site {
        let desk = Desk::default();
        let router = desk.router();
        Site::serving(desk, |store| self.wrap(router, layer(store), theirs)).await
    }
}

/// The response that the store has for this key.
#[track_caller]
fn stored(site: &Site, key: &str) -> http::Response<bytes::Bytes> {
    let key = Key::scoped(SCOPE, key).expect("it is a key");
    let known = site.store.get(&key).expect("the store answers").expect("the key is known");
    let completed = known.completed().expect("it is completed");
    decode_response(completed.result()).expect("it is a response")
}

/// The store has this many keys of this status, and no others.
#[track_caller]
fn expect_keys(site: &Site, status: Status, count: usize) {
    assert_eq!(site.store.keys().status(status).count(), count);
    assert_eq!(site.records(), count);
}

/// Waits until this returns something, for a minute at most, since the machine may be slow.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it comes")
}
