//! Whose request it is.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};

use super::body::BodyError;
use super::{Body, Problem};
use crate::limits::SCOPE_LEN_MAX;

/// Leaves room for the digest of a path.
const WITHIN_LEN_MAX: u8 = 200;

type Derive = dyn Fn(&Parts) -> Result<Vec<u8>, Refusal> + Send + Sync;

/// How the layer tells whose request it is: the scope of its key. A key in one scope never meets
/// the same key in another, so no tenant ever gets another tenant's response.
///
/// A scope must come from what the server has *verified*, such as the account that an access token
/// belongs to, and must stay the same when a token is renewed. If it came from a header that
/// clients can choose, a client could choose whose responses it gets.
///
/// A scope has 1 to 255 bytes. Any other is answered with [`Problem::NoScope`], and is never
/// truncated. It is the scope of [`Key::scoped`](crate::Key::scoped), so a key can also be found,
/// completed or forgotten outside of the layer.
#[derive(Clone)]
pub struct Scope(Arc<Derive>);

impl Scope {
    /// One scope for all requests, under a name that you choose. Use it only if the service has
    /// **one tenant**: otherwise its clients may see each other's responses.
    #[must_use]
    pub fn shared(name: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref().to_vec();
        Self(Arc::new(move |_| Ok(name.clone())))
    }

    /// The scope in a request extension of this type, which a layer further out has inserted. A
    /// request without it is answered with [`Problem::NoScope`].
    ///
    /// ```
    /// use idemstore::http::Scope;
    ///
    /// /// What authentication leaves in the extensions of a request.
    /// #[derive(Clone)]
    /// struct Tenant(String);
    ///
    /// impl AsRef<[u8]> for Tenant {
    ///     fn as_ref(&self) -> &[u8] {
    ///         self.0.as_bytes()
    ///     }
    /// }
    ///
    /// let scope = Scope::extension::<Tenant>();
    /// ```
    #[must_use]
    pub fn extension<T: AsRef<[u8]> + Send + Sync + 'static>() -> Self {
        Self::from_fn(|parts| match parts.extensions.get::<T>() {
            Some(scope) => Ok(scope.as_ref().to_vec()),
            None => Err(Problem::NoScope),
        })
    }

    /// The scope that a function derives from a request, or the response that refuses the request.
    /// The body hasn't been read yet.
    ///
    /// ```
    /// use http::StatusCode;
    /// use idemstore::http::Scope;
    ///
    /// # #[derive(Clone)] struct Account { id: u64 }
    /// let scope = Scope::from_fn(|parts| match parts.extensions.get::<Account>() {
    ///     Some(account) => Ok(account.id.to_le_bytes()),
    ///     None => Err(StatusCode::UNAUTHORIZED),
    /// });
    /// ```
    #[must_use]
    #[doc(alias = "of")]
    pub fn from_fn<T: AsRef<[u8]>, E: Into<Refusal>>(
        derive: impl Fn(&Parts) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |parts| match derive(parts) {
            Ok(scope) => Ok(scope.as_ref().to_vec()),
            Err(refusal) => Err(refusal.into()),
        }))
    }

    /// Narrows this scope to the path of the request: at each endpoint, the same key of the same
    /// client names another operation. It also works for nested routers, if the layer is outside of
    /// them all.
    ///
    /// The combined scope is never longer than a scope may be, because a long path is replaced with
    /// its BLAKE3 digest. The original scope may have at most 200 bytes.
    ///
    /// ```
    /// use idemstore::http::Scope;
    ///
    /// let scope = Scope::shared("checkout").with_path();
    /// ```
    #[must_use]
    pub fn with_path(self) -> Self {
        Self(Arc::new(move |parts| {
            let scope = self.derive(parts)?;
            let len = u8::try_from(scope.len()).ok().filter(|len| *len <= WITHIN_LEN_MAX);
            let len = len.ok_or(Problem::NoScope)?;
            let path = parts.uri.path().as_bytes();
            let digest = blake3::hash(path);
            // Framed and marked, so that no other scope and path give the same bytes.
            let (mark, path) = if scope.len() + path.len() + 2 <= SCOPE_LEN_MAX {
                (0, path)
            } else {
                (1, &digest.as_bytes()[..])
            };
            Ok([&[len, mark], &scope[..], path].concat())
        }))
    }

    pub(super) fn derive(&self, parts: &Parts) -> Result<Vec<u8>, Refusal> {
        let scope = (self.0)(parts)?;
        // An empty scope would be the scope of keys without any.
        if scope.is_empty() { Err(Problem::NoScope.into()) } else { Ok(scope) }
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

/// The response to a request that is refused before its key is looked at.
#[derive(Debug)]
pub struct Refusal(Box<Response<Body>>);

impl Refusal {
    pub(super) fn into_response(self) -> Response<Body> {
        *self.0
    }
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem.into_response()))
    }
}

/// An empty response of this status.
impl From<StatusCode> for Refusal {
    fn from(status: StatusCode) -> Self {
        let mut response = Response::new(Body::from(Bytes::new()));
        *response.status_mut() = status;
        Self(Box::new(response))
    }
}

impl<B> From<Response<B>> for Refusal
where
    B: http_body::Body<Data = Bytes, Error: Into<BodyError>> + Send + 'static,
{
    fn from(response: Response<B>) -> Self {
        Self(Box::new(response.map(Body::new)))
    }
}
