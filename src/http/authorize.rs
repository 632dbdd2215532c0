//! Whether a request may be answered without its handler.

use std::pin::Pin;

use http::request::Parts;

use super::Refusal;
use crate::sync::Arc;

type Asked = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

/// The hook that decides this.
#[derive(Clone)]
pub(super) struct Authorize(Arc<dyn Fn(Parts) -> Asked + Send + Sync>);

impl Authorize {
    pub(super) fn new<F, E>(ask: impl Fn(Parts) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Refusal>,
    {
        Self(Arc::new(move |head| {
            let asked = ask(head);
            Box::pin(async move { asked.await.map_err(Into::into) })
        }))
    }

    pub(super) async fn ask(&self, head: Parts) -> Result<(), Refusal> {
        (self.0)(head).await
    }
}
