//! The layer. Its options are in the files beside this one, grouped by topic.

mod requests;
mod responses;
mod running;

use std::fmt;
use std::time::Duration;

use tower_layer::Layer;

use super::config::Config;
use super::{Idempotency, Problem, Scope};
use crate::observe;
use crate::store::Store;
use crate::sync::Arc;

/// When the operation of a request starts. From then on the request counts as run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Before the handler. The handler needn't know about the layer: its
    /// [status](super::effect_of_status) says what became of the effect.
    BeforeHandler,
    /// When the handler says so: see [`IdempotencyPermit`](super::IdempotencyPermit). A request
    /// that the handler refuses before that costs no write at all.
    ByHandler,
}

/// A tower layer that runs each request with an idempotency key once, and answers its retries with
/// the stored response. The [module](super) describes what it does in each case.
///
/// ```
/// use std::time::Duration;
///
/// use idemstore::Store;
/// use idemstore::http::{IdempotencyLayer, Scope, Start};
///
/// # let directory = tempfile::tempdir()?;
/// # let store = Store::open(directory.path().join("store"))?;
/// let layer = IdempotencyLayer::new(store, Scope::shared("payments"))
///     .require_key(true)
///     .start(Start::ByHandler)
///     .wait(Duration::from_secs(5));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a layer does nothing before it is around a service"]
pub struct IdempotencyLayer {
    /// Routers clone their layers for each request.
    config: Arc<Config>,
}

impl IdempotencyLayer {
    /// A layer with the default options. The scope has no default, because it keeps the tenants of
    /// a service apart.
    pub fn new(store: Store, scope: Scope) -> Self {
        Self::of(Config::new(store, scope))
    }

    /// A layer for gRPC: the same contract, in the terms of that protocol. The [module
    /// documentation](super#grpc) has the tables.
    ///
    /// - The effect is told from `grpc-status`, by
    ///   [`effect_of_grpc_status`](super::effect_of_grpc_status), and not from the HTTP status.
    /// - A [`Problem`] is a `grpc-status` with a message, and with `grpc-retry-pushback-ms` if a
    ///   retry may succeed.
    /// - A response that isn't complete at once is sent as it comes, and its trailers once it is
    ///   stored.
    ///
    /// The key is in the metadata `idempotency-key`. A request is read to its end before its
    /// handler is called, so a call in which client and server take turns would wait for itself:
    /// exempt it with [`skip`](Self::skip).
    ///
    /// ```
    /// use idemstore::http::{IdempotencyLayer, Scope};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::grpc(store, Scope::shared("payments"))
    ///     // Both sides stream, and neither waits for the other to finish.
    ///     .skip(|head| head.uri.path() == "/bank.Payments/Negotiate")
    /// # }
    /// ```
    pub fn grpc(store: Store, scope: Scope) -> Self {
        Self::of(Config::grpc(store, scope))
    }

    /// Waits, for at most this time, until the handlers of all requests with a key have ended.
    /// Returns how many haven't. Call it once the server accepts no more connections and before its
    /// runtime ends: a handler may outlive its client. No new handler starts while this waits.
    ///
    /// The runtime must have its timer enabled.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # use idemstore::http::IdempotencyLayer;
    /// # async fn serve(listener: tokio::net::TcpListener, app: axum::Router, layer: IdempotencyLayer)
    /// # -> std::io::Result<()> {
    /// axum::serve(listener, app)
    ///     .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
    ///     .await?;
    /// let left = layer.drain(Duration::from_secs(30)).await;
    /// // What is left is cut off, and its keys are interrupted.
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self, deadline: Duration) -> usize {
        let Config { handlers, handlers_max, .. } = &*self.config;
        match tokio::time::timeout(deadline, handlers.acquire_many(*handlers_max)).await {
            Ok(_all) => 0,
            Err(_) => (*handlers_max as usize).saturating_sub(handlers.available_permits()),
        }
    }

    fn of(config: Config) -> Self {
        observe::layered(&Problem::names());
        Self { config: Arc::new(config) }
    }

    /// The configuration that an option writes to. It's copied first if this layer was cloned.
    fn options(&mut self) -> &mut Config {
        Arc::make_mut(&mut self.config)
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency::new(Arc::clone(&self.config), inner)
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer").field("config", &self.config).finish()
    }
}
