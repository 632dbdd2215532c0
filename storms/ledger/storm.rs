//! The storm: clients that send, and a server that is killed under them.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::child::Server;
use crate::client::Clients;
use crate::notes::Told;
use crate::rng::Rng;
use crate::transfer;
use crate::{Args, Result};

/// How often the storm checks the server.
const POLL: Duration = Duration::from_micros(500);
/// A server that answers no client for this long hangs.
const STALLED: Duration = Duration::from_secs(60);

/// What has happened so far.
pub(crate) struct Storm {
    pub(crate) told: Told,
    pub(crate) kills: u32,
    pub(crate) starts: u32,
    pub(crate) took: Duration,
}

/// When a server is killed.
struct Kill {
    /// This many answers have come in all; 0 is right after the server's start, when it creates,
    /// opens or recovers the store.
    answers: u64,
    /// And then this much later.
    delay: Duration,
}

/// Runs servers until everything is answered and all kills are delivered.
pub(crate) fn run(args: &Args, store: &Path) -> Result<Storm> {
    let started = Instant::now();
    let clients = Clients::new(transfer::deliveries(args)?);
    thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| clients.run());
        }
        let served = serve(args, store, &clients);
        clients.address.close();
        served
    })?;
    let (told, took) = (clients.notes.told(), started.elapsed());
    Ok(Storm { told, kills: args.kills, starts: args.kills + 1, took })
}

/// Starts a server for each kill, and one more that is stopped when everything is answered.
fn serve(args: &Args, store: &Path, clients: &Clients) -> Result<()> {
    let mut rng = Rng::new(args.seed, u64::MAX - 1);
    for number in 0..args.kills {
        let mut server = Server::start(args, store, &clients.address)?;
        let kill = next_kill(args, number, clients.deliveries(), &mut rng);
        watch(&mut server, clients, kill.answers)?;
        thread::sleep(kill.delay);
        server.kill()?;
    }
    let mut server = Server::start(args, store, &clients.address)?;
    watch(&mut server, clients, clients.deliveries())?;
    server.stop()
}

/// Kills are spread over the deliveries, so that neither runs out before the other. Some come
/// earlier than that, right after a start: the very first does, while the store is created.
fn next_kill(args: &Args, number: u32, deliveries: u64, rng: &mut Rng) -> Kill {
    let share = |n: u32| deliveries * u64::from(n) / (u64::from(args.kills) + 1);
    let (answers, delay_us) = if number == 0 || rng.one_in(5) {
        (0, 30_000)
    } else {
        (share(number) + rng.below(share(1)), 4_000)
    };
    Kill { answers, delay: Duration::from_micros(rng.below(delay_us)) }
}

/// Waits until this many answers have come.
fn watch(server: &mut Server, clients: &Clients, answers: u64) -> Result<()> {
    let mut progress = (0, Instant::now());
    loop {
        let now = clients.notes.counts().answers();
        if answers <= now {
            return Ok(());
        }
        if progress.0 != now {
            progress = (now, Instant::now());
        }
        if STALLED <= progress.1.elapsed() {
            return Err(format!("no answer for {} seconds", STALLED.as_secs()).into());
        }
        server.check()?;
        thread::sleep(POLL);
    }
}
