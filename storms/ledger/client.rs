//! A client: it sends transfers, and resends them until it has an answer.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::child::Address;
use crate::notes::Notes;
use crate::transfer::Transfer;

/// How long a client pauses before it asks again.
const BACK_OFF: Duration = Duration::from_millis(1);

/// What all clients share. They take their transfers from one list, so the two requests of one
/// transfer meet in different threads.
pub(crate) struct Clients {
    pub(crate) address: Address,
    pub(crate) notes: Notes,
    deliveries: Vec<Transfer>,
    next: AtomicUsize,
}

impl Clients {
    pub(crate) fn new(deliveries: Vec<Transfer>) -> Self {
        let (address, notes) = (Address::default(), Notes::default());
        Self { address, notes, deliveries, next: AtomicUsize::new(0) }
    }

    /// How many deliveries there are in all.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries.len() as u64
    }

    /// One client: it sends until everything is answered, or until there is no server any more.
    pub(crate) fn run(&self) {
        let mut server = None;
        while let Some(transfer) = self.deliveries.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            while !self.deliver(transfer, &mut server) {
                let Some(port) = self.address.wait() else { return };
                server = connect(port).ok();
                if server.is_none() {
                    // It has just been killed, and the next one isn't there yet.
                    thread::sleep(BACK_OFF);
                }
            }
        }
    }

    /// Whether there was an answer. If not, the server is gone, and may or may not have applied the
    /// transfer.
    fn deliver(&self, transfer: &Transfer, server: &mut Option<Connection>) -> bool {
        loop {
            let Some(connected) = server else { return false };
            let was_applied = self.notes.is_applied(transfer.id);
            let Ok(answer) = ask(connected, transfer) else {
                *server = None;
                self.notes.take_lost_answer();
                return false;
            };
            if self.notes.take(transfer.id, was_applied, &answer) {
                return true;
            }
            thread::sleep(BACK_OFF);
        }
    }
}

type Connection = BufReader<TcpStream>;

fn connect(port: u16) -> io::Result<Connection> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    server.set_nodelay(true)?;
    Ok(BufReader::new(server))
}

/// One request and its answer, without the line ending.
fn ask(server: &mut Connection, transfer: &Transfer) -> io::Result<Vec<u8>> {
    server.get_mut().write_all(format!("{transfer}\n").as_bytes())?;
    let mut answer = Vec::new();
    server.read_until(b'\n', &mut answer)?;
    // An answer that a kill has cut short is no answer.
    answer.pop_if(|last| *last == b'\n').ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(answer)
}
