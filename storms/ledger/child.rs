//! The server as its parent sees it: a child process, and the port that it listens on.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::killed::is_killed;
use crate::{Args, Result};

/// Where the server listens at the moment. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Address(Arc<(Mutex<Listening>, Condvar)>);

#[derive(Clone, Copy, Default)]
enum Listening {
    /// There is no server now, but there will be.
    #[default]
    NotYet,
    At(u16),
    /// There won't be one any more.
    Over,
}

impl Address {
    fn set(&self, listening: Listening) {
        let (now, changed) = &*self.0;
        *now.lock() = listening;
        changed.notify_all();
    }

    /// Waits until there is a server, and returns its port; `None` if there won't be one any more.
    pub(crate) fn wait(&self) -> Option<u16> {
        let (now, changed) = &*self.0;
        let mut now = now.lock();
        loop {
            match *now {
                Listening::NotYet => changed.wait(&mut now),
                Listening::At(port) => return Some(port),
                Listening::Over => return None,
            }
        }
    }

    /// Tells all clients to stop.
    pub(crate) fn close(&self) {
        self.set(Listening::Over);
    }
}

/// A server that never outlives its parent, even if the parent fails.
pub(crate) struct Server {
    child: Child,
    /// Reads where the server listens. It ends when the server does.
    announcer: Option<JoinHandle<()>>,
    address: Address,
}

impl Server {
    /// Its standard input is a pipe that closes with this process, which is how it is stopped.
    pub(crate) fn start(args: &Args, store: &Path, address: &Address) -> Result<Self> {
        address.set(Listening::NotYet);
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("--child")
            .arg(format!("--accounts={}", args.accounts))
            .arg(format!("--seed={}", args.seed))
            .arg("--store")
            .arg(store);
        if args.sabotage.is_some() {
            command.arg("--sabotage=split");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let announcer = stdout.map(|stdout| {
            let address = address.clone();
            thread::spawn(move || announce(stdout, &address))
        });
        Ok(Self { child, announcer, address: address.clone() })
    }

    /// An error if the server has ended by itself, which it never should.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the server has ended by itself: {status}").into()),
        }
    }

    /// Kills it with SIGKILL. Only the operating system's word counts as a kill.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.has_ended();
        if is_killed(status) {
            Ok(())
        } else {
            Err(format!("the server has ended by itself: {status}").into())
        }
    }

    /// Lets it close its store.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        self.has_ended();
        if status.success() {
            Ok(())
        } else {
            Err(format!("the server did not close its store: {status}").into())
        }
    }

    /// Once the next server is started, nothing must announce where this one listened.
    fn has_ended(&mut self) {
        if let Some(announcer) = self.announcer.take() {
            // It can't fail: what it does can't panic.
            let _ = announcer.join();
        }
        self.address.set(Listening::NotYet);
    }
}

fn announce(stdout: ChildStdout, address: &Address) {
    // A server that is killed early has printed nothing, or half a line.
    let mut line = String::new();
    let whole = BufReader::new(stdout).read_line(&mut line).is_ok() && line.ends_with('\n');
    if let Some(port) = line.trim_end().parse().ok().filter(|_| whole) {
        address.set(Listening::At(port));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it is already dead, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
