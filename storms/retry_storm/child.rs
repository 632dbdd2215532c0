//! The process that is killed: a server with many clients, on one store.

use std::collections::HashSet;
use std::io;
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::client::Server;
use crate::logs::{AckTail, Place};
use crate::plan::{self, Request};
use crate::{Args, Result};

/// Works through all orders that no client has an answer for yet. An error means that the store
/// broke a promise, or that the harness itself is broken.
pub(crate) fn run(args: &Args, generation: u32) -> Result<()> {
    end_with_parent();
    let place = Place::new(args.store.as_deref().ok_or("a child is told its store")?)?;
    let done = answered(&place)?;
    let work = plan::work(args.seed, args.orders, generation, &done);
    let server = Server::open(&place, args.seed, done)?;
    run_clients(&server, args.threads, &work)?;
    server.close()
}

/// If the parent is gone, nothing will kill this process any more. The parent holds the other end
/// of our standard input, which closes however the parent ends.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(3);
    });
}

fn answered(place: &Place) -> Result<HashSet<u32>> {
    let mut answered = HashSet::new();
    AckTail::open(place)?.poll(|order, _| {
        answered.insert(order);
    })?;
    Ok(answered)
}

/// Clients share one list, so the requests for one order meet in different threads.
fn run_clients(server: &Server, threads: u32, work: &[Request]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let client = || {
        while let Some(request) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
            if server.has_failed() {
                break;
            }
            if let Err(error) = server.serve(*request) {
                server.fail(format!("order {}: {error}", request.order));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(client);
        }
    });
    server.failure().map_or(Ok(()), |failure| Err(failure.into()))
}
