//! What an operation says of its effect, and what that leaves of its key.

/// What an operation says of its effect: `R` is its result, `E` the reason why there is none.
///
/// Closures of [`Store::run`](crate::Store::run) return it. An HTTP handler says it
/// by `http::with_effect`: its response is result and reason at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<R = (), E = ()> {
    /// It happened, and this is the result to store.
    Done(R),
    /// It did not happen in this attempt, for certain. The key of a first attempt is free again, and
    /// its checkpoints are forgotten with it, so undo what those steps did first. A later attempt
    /// says nothing of the one that was interrupted before: the key stays interrupted.
    DidNotHappen(E),
    /// It may have happened: the key is interrupted. A panic says the same.
    Unknown(E),
}

/// What becomes of a key whose attempt is over without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// Nothing has happened under it, so it is free.
    Free,
    /// Something may have happened under it.
    Interrupted,
}

/// What an attempt leaves that has not had its effect. It speaks of itself alone: one before it may
/// have had the effect. An execution that nobody was told of is such an attempt too.
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
