//! Who has a key in hand, and how that passes on.

/// Who has a key in hand now. This is true in memory only, and ends with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody: what is stored of the key decides.
    Nobody,
    /// A live `Permit` or `Interrupted`: nothing runs.
    Reservation,
    /// A live `Execution`.
    Execution,
    /// An execution that ends elsewhere, by its key.
    Detached,
}

/// What happens to a key, as far as its holder is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A caller takes it in hand, as an [answer](super::Answer) or a [`Take`](super::Take) allows.
    Claimed,
    /// A start, a retry or a checkpoint is durable.
    Started,
    /// A result is durable.
    Completed,
    /// The holder leaves the execution to be finished by its key.
    Detached,
    /// The handle is gone, and what is durable decides.
    LetGo,
}

impl Holder {
    /// Who has the key after this event.
    ///
    /// # Panics
    ///
    /// If the event cannot happen to a key that is held like this.
    pub(crate) fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Nobody, Event::Claimed) => Self::Reservation,
            // It goes on where its handle has left it.
            (Self::Detached, Event::Claimed)
            | (Self::Reservation | Self::Execution, Event::Started) => Self::Execution,
            (Self::Execution, Event::Detached)
            // An execution may be detached while a checkpoint of it is on its way.
            | (Self::Detached, Event::Started) => Self::Detached,
            (Self::Reservation | Self::Execution, Event::Completed)
            // A handle that a panic has dropped late finds its key at rest, or in other hands.
            | (_, Event::LetGo) => Self::Nobody,
            (Self::Reservation | Self::Execution, Event::Claimed)
            | (Self::Nobody, Event::Started | Event::Completed | Event::Detached)
            | (Self::Reservation, Event::Detached)
            | (Self::Detached, Event::Completed | Event::Detached) => {
                unreachable!("{event:?} cannot happen to a key that {self:?} holds")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use Event::{Claimed, Completed, Detached, LetGo, Started};
    use Holder::{Execution, Nobody, Reservation};

    /// Each holder, what can happen to it, and who has the key then. All else is impossible.
    const TABLE: [(Holder, Event, Holder); 12] = [
        (Nobody, Claimed, Reservation),
        (Nobody, LetGo, Nobody),
        (Reservation, Started, Execution),
        (Reservation, Completed, Nobody),
        (Reservation, LetGo, Nobody),
        (Execution, Started, Execution),
        (Execution, Completed, Nobody),
        (Execution, Detached, Holder::Detached),
        (Execution, LetGo, Nobody),
        (Holder::Detached, Claimed, Execution),
        (Holder::Detached, Started, Holder::Detached),
        (Holder::Detached, LetGo, Nobody),
    ];

    #[test]
    fn the_key_passes_on_as_the_table_says_and_in_no_other_way() {
        for holder in [Nobody, Reservation, Execution, Holder::Detached] {
            for event in [Claimed, Started, Completed, Detached, LetGo] {
                let row = TABLE.iter().find(|row| (row.0, row.1) == (holder, event));
                let after = catch_unwind(|| holder.after(event)).ok();
                assert_eq!(after, row.map(|row| row.2), "{holder:?}, {event:?}");
            }
        }
    }
}
