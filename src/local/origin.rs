//! The process that opened a store. A forked child has a copy of everything in its parent's memory
//! and shares its files, but must not use either.

/// The process in which this value was created.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// Counts forks, so that checking makes no system call.
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

    /// Whether the current process isn't the one in which this value was created.
    pub(crate) fn is_elsewhere(&self) -> bool {
        #[cfg(unix)]
        {
            // Use a clone, since the guard reports each fork only once.
            self.forks.clone().detected_fork()
        }
        #[cfg(not(unix))]
        false
    }
}
