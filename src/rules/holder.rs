//! Who holds a key, and how the hold changes.

/// Who holds a key now. This exists only in memory, and ends with the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// No handle: the stored record decides.
    Nobody,
    /// A live `Permit` or `Interrupted`: the operation does not run.
    Reservation,
    /// A live `Execution`.
    Execution,
    /// An execution that ends elsewhere, and is finished by its key.
    Detached,
}

/// An event that changes who holds a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A caller claims the key, as an [answer](super::Answer) or a [`Take`](super::Take) allows.
    Claimed,
    /// A start, a retry or a checkpoint is durable.
    Started,
    /// A result is durable.
    Completed,
    /// The holder leaves the execution to be finished by its key.
    Detached,
    /// The handle is gone, and the durable state decides.
    LetGo,
}

impl Holder {
    /// Returns who holds the key after this event.
    ///
    /// # Panics
    ///
    /// If the event can't happen to a key with this holder.
    pub(crate) fn after(self, event: Event) -> Self {
        match (self, event) {
            (Self::Nobody, Event::Claimed) => Self::Reservation,
            // The execution continues where its handle left it.
            (Self::Detached, Event::Claimed)
            | (Self::Reservation | Self::Execution, Event::Started) => Self::Execution,
            (Self::Execution, Event::Detached)
            // An execution may be detached while a checkpoint of it is on its way.
            | (Self::Detached, Event::Started) => Self::Detached,
            (Self::Reservation | Self::Execution, Event::Completed)
            // A handle that a panic drops late may find its key at rest, or held by another caller.
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

    /// Each holder, each event that can happen to it, and the holder afterwards. All other events
    /// are impossible.
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
