//! The effect that an operation reports, and what it leaves of the key.

/// The effect of an operation, as the operation reports it: `R` is its result, and `E` the reason
/// why there is none.
///
/// Closures passed to [`Store::run`](crate::Store::run) return it. An HTTP handler reports it with
/// `http::with_effect`, where the response is both result and reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<R = (), E = ()> {
    /// The effect happened, and this is the result to store.
    Done(R),
    /// The effect certainly did not happen in this attempt. After a first attempt the key is free
    /// again. Its checkpoints are discarded with it, so first undo the steps that they record.
    /// After a later attempt the key stays interrupted, because this attempt says nothing about an
    /// earlier one.
    DidNotHappen(E),
    /// The effect may have happened, so the key is interrupted. A panic means the same.
    Unknown(E),
}

/// What becomes of a key whose attempt has ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Nothing has happened under the key, so it's free.
    Free,
    /// Something may have happened under the key.
    Interrupted,
}

/// What an attempt leaves that has not had its effect. Such an attempt speaks only for itself: an
/// earlier one may have had the effect. An execution whose start no caller knows of is such an
/// attempt too.
pub(crate) fn did_not_happen(attempt: u32) -> Leaves {
    if attempt == 1 { Leaves::Free } else { Leaves::Interrupted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_attempt_speaks_for_the_operation() {
        assert_eq!(did_not_happen(1), Leaves::Free);
        for later in [2, 3, u32::MAX] {
            assert_eq!(did_not_happen(later), Leaves::Interrupted);
        }
    }
}
