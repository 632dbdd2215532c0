//! The process that has opened a store. A child that was forked has a copy of all that its parent has
//! in memory, and shares its files: it must not go on with either.

/// The process in which this was made.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// It counts forks, so that no system call is made to ask.
    #[cfg(unix)]
    forks: forkguard::Guard,
}

impl Origin {
    pub(crate) fn here() -> Self {
        Self {
            #[cfg(unix)]
            forks: forkguard::new(),
        }
    }

    /// Whether this runs in another process than the one in which it was made.
    pub(crate) fn is_elsewhere(&self) -> bool {
        #[cfg(unix)]
        {
            // A copy, since the guard tells of a fork only once.
            self.forks.clone().detected_fork()
        }
        #[cfg(not(unix))]
        false
    }
}
