//! The process that is killed: a server for transfers, on one store.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process;
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Completed, Fingerprint, Permit, Store, TransactionError};

use crate::bank::{self, ApplyError};
use crate::transfer::Transfer;
use crate::{Args, Result, Sabotage};

/// How long a request waits for another one with the same transfer.
const WAIT: Duration = Duration::from_millis(50);

/// Serves until its standard input ends: the parent closes it to stop the server, or is gone.
pub(crate) fn run(args: &Args) -> Result<()> {
    let path = args.store.as_deref().ok_or("a server is told its store")?;
    let store = bank::open(path, args.seed)?;
    bank::fill(&store, args.accounts)?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", listener.local_addr()?.port())?;
    stdout.flush()?;
    let server = Server { store: store.clone(), sabotage: args.sabotage };
    thread::spawn(move || or_exit(server.listen(&listener)));
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    store.close()?;
    Ok(())
}

/// An error means that the store broke a promise, or that the harness itself is broken. The parent
/// treats it as a failure when this process ends by itself.
fn or_exit(served: Result<()>) {
    if let Err(error) = served {
        eprintln!("ledger: the server fails: {error}");
        process::exit(2);
    }
}

#[derive(Clone)]
struct Server {
    store: Store,
    sabotage: Option<Sabotage>,
}

/// What a client receives.
enum Answer {
    Applied(Completed),
    /// An earlier request has applied it: this is the answer that it got, or would have got.
    Replayed(Completed),
    /// There is too little money.
    Refused,
    /// Another request is running the same transfer now.
    Busy,
    /// The key belongs to another transfer. No client here sends such a request.
    Mismatch,
}

impl Server {
    /// Each client has its own connection, and each connection its own thread.
    fn listen(&self, listener: &TcpListener) -> Result<()> {
        for client in listener.incoming() {
            let (client, server) = (client?, self.clone());
            thread::spawn(move || or_exit(server.talk(&client)));
        }
        Ok(())
    }

    /// Answers a client until it hangs up.
    fn talk(&self, mut client: &TcpStream) -> Result<()> {
        client.set_nodelay(true)?;
        for request in BufReader::new(client).lines() {
            let Ok(request) = request else { break };
            let transfer: Transfer = request.parse()?;
            let answer = self.serve(&transfer)?;
            if matches!(answer, Answer::Applied(_) | Answer::Replayed(_)) {
                self.notify(&transfer)?;
            }
            if client.write_all(&answer.line()).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn serve(&self, transfer: &Transfer) -> Result<Answer> {
        let mut begin = self.store.begin(&transfer.key()?, transfer.fingerprint())?;
        if let Begin::InFlight(in_flight) = begin {
            begin = in_flight.wait(WAIT)?;
        }
        match begin {
            Begin::Fresh(permit) => self.apply(permit, transfer),
            Begin::Replay(completed) => Ok(Answer::Replayed(completed)),
            Begin::InFlight(_) => Ok(Answer::Busy),
            Begin::Mismatch => Ok(Answer::Mismatch),
            // Nothing is ever started here, so nothing can be interrupted.
            begin => Err(format!("transfer {} is answered with {begin:?}", transfer.id).into()),
        }
    }

    /// Money and result in one transaction: after a kill both are there, or neither is.
    ///
    /// A refusal isn't stored. It describes the present, and the same transfer may be applied when
    /// it is resent after money has come in; so the closure fails, and the key is free. A bank that
    /// wants refusals to be final returns them as a result, without having written.
    fn apply(&self, permit: Permit, transfer: &Transfer) -> Result<Answer> {
        let applied = match self.sabotage {
            None => permit.complete_with(|transaction| bank::apply(transaction, transfer)),
            Some(Sabotage::Split) => {
                match self.store.transaction(|transaction| bank::apply(transaction, transfer)) {
                    // A kill between the two calls is the point of this sabotage.
                    Ok(receipt) => Ok(permit.complete(receipt)?),
                    Err(error) => Err(error),
                }
            }
        };
        match applied {
            Ok(completed) => Ok(Answer::Applied(completed)),
            Err(TransactionError::Operation(ApplyError::Refused)) => Ok(Answer::Refused),
            Err(error) => Err(error.into()),
        }
    }

    /// Records that the receiver was notified, once per transfer and before the client gets its
    /// answer. This goes through the store's log, side by side with the transactions.
    fn notify(&self, transfer: &Transfer) -> Result<()> {
        let mut begin = self.store.begin(&transfer.notice_key()?, Fingerprint::NONE)?;
        while let Begin::InFlight(in_flight) = begin {
            begin = in_flight.wait(WAIT)?;
        }
        if let Begin::Fresh(permit) = begin {
            permit.complete("told")?;
        }
        Ok(())
    }
}

impl Answer {
    /// One line: the kind of answer and, after a space, the result.
    fn line(&self) -> Vec<u8> {
        let (word, result) = match self {
            Self::Applied(completed) => ("applied", completed.result()),
            Self::Replayed(completed) => ("replayed", completed.result()),
            Self::Refused => ("refused", &b""[..]),
            Self::Busy => ("busy", &b""[..]),
            Self::Mismatch => ("mismatch", &b""[..]),
        };
        [word.as_bytes(), b" ", result, b"\n"].concat()
    }
}
