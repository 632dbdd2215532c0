//! Whether a child was killed, according to the operating system.

use std::process::ExitStatus;

#[cfg(unix)]
pub(crate) fn is_killed(status: ExitStatus) -> bool {
    const SIGKILL: i32 = 9;
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(SIGKILL)
}

#[cfg(not(unix))]
pub(crate) fn is_killed(status: ExitStatus) -> bool {
    status.code() == Some(1)
}
