//! Options: when a request counts as run, how many run at once, and what becomes of the key.

use std::time::Duration;

use http::request::Parts;
use http::response;
use tokio::sync::Semaphore;

use super::{IdempotencyLayer, Start};
use crate::http::asks::Asks;
use crate::http::backing::Limit;
use crate::http::config::HANDLERS_MAX_DEFAULT;
use crate::http::{Decision, InterruptedRequest};
use crate::rules::effect::Effect;
use crate::sync::Arc;

impl IdempotencyLayer {
    /// When the operation starts; [`Start::BeforeHandler`] by default.
    pub fn start(mut self, start: Start) -> Self {
        self.options().start = start;
        self
    }

    /// Tells from the head of a response what became of the effect. The default,
    /// [`effect_of_status`](crate::http::effect_of_status), tells it from the status alone.
    ///
    /// - [`Effect::Done`]: the response is stored.
    /// - [`Effect::DidNotHappen`]: it is sent and not stored, and the key of a first attempt is
    ///   free. After a later attempt the key stays interrupted, since the response says nothing
    ///   about the first one. Once the handler has started the operation itself
    ///   ([`Start::ByHandler`]), or has said that [its effect
    ///   begins](crate::http::Operation::effect_begins), this counts as done.
    /// - [`Effect::Unknown`]: it is sent and not stored, and the key is interrupted.
    ///
    /// What a handler says with [`with_effect`](crate::http::with_effect) takes precedence.
    ///
    /// ```
    /// use http::StatusCode;
    /// use idemstore::Effect;
    /// use idemstore::http::{IdempotencyLayer, Scope, effect_of_status};
    ///
    /// # fn layer(store: idemstore::Store) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).effect_of(|head| match head.status {
    ///     // These handlers send this status before they do anything.
    ///     StatusCode::CONFLICT => Effect::DidNotHappen(()),
    ///     status => effect_of_status(status),
    /// })
    /// # }
    /// ```
    #[doc(alias = "rejections")]
    pub fn effect_of(
        mut self,
        tell: impl Fn(&response::Parts) -> Effect + Send + Sync + 'static,
    ) -> Self {
        self.options().effect_of = Arc::new(tell);
        self
    }

    /// How long to keep the outcome of a request, by its head; `None` for the retention of the
    /// store.
    pub fn retention_of(
        mut self,
        tell: impl Fn(&Parts) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.options().retention_of = Some(Arc::new(tell));
        self
    }

    /// The most handlers of requests with a key that run at one time; 16 million by default. A
    /// request beyond that is answered with
    /// [`Problem::Unavailable`](crate::http::Problem::Unavailable), and leaves no trace.
    ///
    /// A handler counts until it has ended, even if its client has disconnected: a limit around the
    /// layer would no longer see it. All services made from this layer and its clones share the
    /// limit.
    pub fn handlers_max(mut self, handlers: u32) -> Self {
        let handlers = handlers.clamp(1, HANDLERS_MAX_DEFAULT);
        self.options().handlers = Arc::new(Semaphore::new(handlers as usize));
        self.options().handlers_max = handlers;
        self
    }

    /// How long the store may take to make a start or an outcome durable; unlimited by default. The
    /// runtime must have its timer enabled.
    ///
    /// A request whose start takes longer is answered with
    /// [`Problem::Unavailable`](crate::http::Problem::Unavailable). Once the store has answered,
    /// its key is free, or interrupted as before. A request whose outcome takes longer is answered
    /// with [`Problem::OutcomeUnknown`](crate::http::Problem::OutcomeUnknown); the store continues
    /// to write it, and a retry finds it. Reading a stored response is not limited: it blocks on
    /// the disk like the program's other reads.
    pub fn store_timeout(mut self, at_most: Duration) -> Self {
        self.options().backing.limit = Limit(Some(at_most));
        self
    }

    /// Decides about requests that were interrupted. By default they are refused, until their
    /// retention is over or their outcome is settled by [`Store::complete`](crate::Store::complete)
    /// or [`Store::abandon`](crate::Store::abandon).
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use idemstore::http::{Decision, IdempotencyLayer, InterruptedRequest, Scope};
    ///
    /// # #[derive(Clone)] struct Bank;
    /// # impl Bank {
    /// #     async fn find(&self, _reference: &str) -> Result<Option<String>, ()> { Ok(None) }
    /// # }
    /// # fn layer(store: idemstore::Store, bank: Bank) -> IdempotencyLayer {
    /// IdempotencyLayer::new(store, Scope::shared("payments")).on_interrupted(
    ///     move |request: InterruptedRequest| {
    ///         let bank = bank.clone();
    ///         async move {
    ///             // The key that the handler gave to the bank: no other tenant has the same.
    ///             match bank.find(&request.downstream_key("charge")).await {
    ///                 Ok(Some(receipt)) => Decision::Resolve(Response::new(Bytes::from(receipt))),
    ///                 Ok(None) => Decision::Retry,
    ///                 Err(_) => Decision::Refuse,
    ///             }
    ///         }
    ///     },
    /// )
    /// # }
    /// ```
    pub fn on_interrupted<F>(
        mut self,
        decide: impl Fn(InterruptedRequest) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        self.options().on_interrupted = Some(Arc::new(move |request| Box::pin(decide(request))));
        self
    }

    /// How long the hook of [`on_interrupted`](Self::on_interrupted) is not asked again about a key
    /// that it has just refused; 1 second by default. A request that comes sooner is refused too,
    /// with `Retry-After`, so many retries of one key don't turn into as many requests to the bank.
    pub fn ask_again_after(mut self, pause: Duration) -> Self {
        self.options().asks = Arc::new(Asks::new(pause));
        self
    }
}
