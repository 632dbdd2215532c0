//! An operation whose outcome is unknown.

use super::sealed::Sealed;
use super::{Completed, Execution, Hold, Tombstone};
use crate::error::{CompleteError, Error};
use crate::record::Record;
use crate::sync::Arc;
use crate::transition;

/// An operation that was started, and whose outcome is unknown.
///
/// It holds the key, so that only one caller at a time can find out. Dropping it lets go of the
/// key, and the next `begin` is told the same.
#[must_use = "find out what became of the operation, then call `retry`, `resolve` or `abandon`"]
pub struct Interrupted {
    pub(crate) hold: Hold,
    pub(crate) record: Arc<Record>,
}

impl Interrupted {
    pub(crate) fn new(hold: Hold, record: Arc<Record>) -> Self {
        Self { hold, record }
    }

    /// Runs the operation again, as the next attempt and from its last checkpoint. This is for
    /// effects that can be repeated, or that are known not to have happened.
    ///
    /// Returns once the new attempt is durable.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]. The operation must not run then, and stays interrupted; if the outcome is
    /// unknown, the new attempt may count.
    pub fn retry(self) -> Result<Execution, Error> {
        super::start(self)
    }

    /// Stores the result of an effect that is known to have happened.
    ///
    /// Returns once the result is durable.
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; a refused result gives this back.
    pub fn resolve(self, result: impl AsRef<[u8]>) -> Result<Completed, CompleteError<Self>> {
        super::complete(self, result.as_ref())
    }

    /// Completes the operation as [`Interrupted::resolve`] does, and keeps only length and digest
    /// of a result that is too long: see [`Tombstone`].
    ///
    /// # Errors
    ///
    /// [`CompleteError`]; no length is too large here.
    pub fn resolve_tombstone(
        self,
        result: impl AsRef<[u8]>,
    ) -> Result<Tombstone, CompleteError<Self>> {
        super::complete_tombstone(self, result.as_ref())
    }
}

#[expect(private_interfaces, reason = "the trait is sealed: nobody else can name it")]
impl Sealed for Interrupted {
    const STARTED: bool = true;

    fn hold(&self) -> &Hold {
        &self.hold
    }

    #[cfg(feature = "async")]
    fn hold_mut(&mut self) -> &mut Hold {
        &mut self.hold
    }

    fn into_hold(self) -> Hold {
        self.hold
    }

    fn started(&self) -> Result<Arc<Record>, Error> {
        Ok(Arc::new(transition::retry(&self.record)))
    }

    fn completing(&self) -> Result<Arc<Record>, Error> {
        Ok(Arc::clone(&self.record))
    }
}
