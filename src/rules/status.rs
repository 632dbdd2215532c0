//! The status of a key, in one word.

use std::fmt;

/// The status of a key that isn't free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// A caller holds the key, but the operation does not run: the caller is about to start it, or
    /// is finding out what became of an interrupted operation.
    Reserved,
    /// The operation runs.
    #[doc(alias = "in-flight")]
    Executing,
    /// The operation was started, and no handle to it is left.
    #[doc(alias = "in-doubt")]
    Interrupted,
    /// The operation is completed, and its result is kept.
    Completed,
    /// The operation is completed, and its result was too long to keep.
    #[doc(alias = "Tombstone")]
    NotKept,
}

/// The status as one word in lower case, for labels and lists: `reserved`, `executing`,
/// `interrupted`, `completed`, `not-kept`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Reserved => "reserved",
            Self::Executing => "executing",
            Self::Interrupted => "interrupted",
            Self::Completed => "completed",
            Self::NotKept => "not-kept",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_is_one_word() {
        let all = [
            (Status::Reserved, "reserved"),
            (Status::Executing, "executing"),
            (Status::Interrupted, "interrupted"),
            (Status::Completed, "completed"),
            (Status::NotKept, "not-kept"),
        ];
        for (status, word) in all {
            assert_eq!(status.to_string(), word);
            assert_eq!(format!("{status:>12}").len(), 12);
        }
    }
}
