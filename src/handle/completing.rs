//! A completion whose future waits for a place.

use super::{Completable, Completion, Step};
use crate::error::{CompleteError, Error};
use crate::log::commit::Place;

/// A completion that waits for its place. If the future is dropped meanwhile, it is stored all the
/// same.
pub(crate) struct Completing<H: Completable, R: AsRef<[u8]>>(Option<(H, R)>);

impl<H: Completable, R: AsRef<[u8]>> Completing<H, R> {
    pub(crate) fn new(handle: H, result: R) -> Self {
        Self(Some((handle, result)))
    }

    /// The completion, once there is a place.
    #[expect(clippy::expect_used, reason = "only this takes it out")]
    pub(crate) fn placed(
        mut self,
        placed: Result<Option<Place>, Error>,
    ) -> Result<Completion<H>, CompleteError<H>> {
        let (handle, result) = self.0.take().expect("it is here until now");
        Completion::of_result(handle, result.as_ref(), placed)
    }
}

impl<H: Completable, R: AsRef<[u8]>> Drop for Completing<H, R> {
    fn drop(&mut self) {
        let Some((handle, result)) = self.0.take() else { return };
        if let Ok(mut left) = Completion::of_result(handle, result.as_ref(), Ok(None::<Place>)) {
            let (change, leaves) = (left.change(), left.leaves());
            left.hold_mut().send(change, leaves);
        }
    }
}
