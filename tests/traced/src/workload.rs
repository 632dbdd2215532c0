//! The work on the store while it is traced: one life of a process, from open to its end.

use std::path::Path;
use std::process;
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use idemstore::redb::TableDefinition;
use idemstore::{ManualClock, Store, Timestamp};

use crate::client::Client;
use crate::tell::Tell;
use crate::teller::Teller;

/// Where the store is. The first open creates both directories.
pub const STORE: &str = "home/store";

/// The caller's own rows: one under the name of each key that was completed with one.
pub const ROWS: TableDefinition<&str, u64> = TableDefinition::new("rows");

/// The longest result that the store accepts.
pub const RESULT_LEN_MAX: usize = 1024;

const CLIENTS: u64 = 3;
const ROUNDS: u64 = 4;
const STEPS: usize = 14;
const ROUND_MS: u64 = 1_000;
/// A life that is killed ends after at most this many lines.
const LINES_MAX: u64 = 700;

/// Far longer than any life.
const LIFETIME: Duration = Duration::from_mins(2);
/// The exit code of a life that hangs.
const HANGS: i32 = 3;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Drop,
    /// Without closing the store.
    Exit,
    Kill,
}

struct Life<'w> {
    root: &'w Path,
    number: u64,
    rng: Rng,
    clock: ManualClock,
    teller: Teller,
    has_sweeper: bool,
}

/// Runs one life.
pub fn run(root: &Path, seed: u64, number: u64) {
    let mut rng = Rng::with_seed(seed.wrapping_mul(1_000).wrapping_add(number));
    let end = *rng.choice(&[End::Close, End::Drop, End::Exit, End::Kill]).expect("it has four");
    let lines = (end == End::Kill).then(|| rng.u64(1..LINES_MAX));
    thread::spawn(|| {
        thread::sleep(LIFETIME);
        process::exit(HANGS);
    });
    let life = Life {
        root,
        number,
        clock: ManualClock::default(),
        teller: Teller::new(lines),
        has_sweeper: rng.bool(),
        rng,
    };
    life.run(end);
}

/// Opens the store, or a copy of it, as it is at this time.
pub fn open(
    path: &Path,
    clock: &ManualClock,
    sweeper: bool,
) -> Result<Store, idemstore::OpenError> {
    Store::builder()
        .log_bytes(idemstore::LOG_BYTES_MIN)
        .result_len_max(RESULT_LEN_MAX)
        .clock(clock.clone())
        .background_thread(sweeper)
        .open(path)
}

fn close(store: Store) {
    if let Err(error) = store.close() {
        panic!("a store that is whole can be closed: {error}");
    }
}

impl Life<'_> {
    fn run(mut self, end: End) {
        self.move_clock(0);
        let mut store = self.open();
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let numbers_from = (self.number * CLIENTS + client) * 1_000_000;
                Client::new(client, numbers_from, self.rng.fork(), self.clock.clone())
            })
            .collect();
        for round in 1..=ROUNDS {
            self.round(&store, &mut clients);
            self.move_clock(round);
            if self.rng.u32(..4) == 0 {
                store = self.open_again(store, &mut clients);
            }
        }
        if end == End::Exit {
            process::exit(0);
        }
        clients.clear();
        if end == End::Close {
            close(store);
        }
    }

    fn open(&self) -> Store {
        open(&self.root.join(STORE), &self.clock, self.has_sweeper).expect("it is whole")
    }

    /// Time stands still during a round, and moves on from one life to the next.
    fn move_clock(&self, round: u64) {
        let now = (1 + self.number * (ROUNDS + 1) + round) * ROUND_MS;
        self.teller.tell(&Tell::Time(now));
        self.clock.set(Timestamp::from_unix_ms(now));
    }

    fn open_again(&self, store: Store, clients: &mut [Client]) -> Store {
        // A store stays locked as long as there is a handle to it.
        clients.iter_mut().for_each(Client::let_go);
        close(store);
        self.open()
    }

    /// All clients at once, while another thread maintains the store.
    fn round(&mut self, store: &Store, clients: &mut [Client]) {
        let rng = self.rng.fork();
        let life = &*self;
        thread::scope(|scope| {
            for client in clients {
                let teller = &life.teller;
                scope.spawn(move || (0..STEPS).for_each(|_| client.step(store, teller)));
            }
            scope.spawn(|| life.look_after(store, rng));
        });
    }

    fn look_after(&self, store: &Store, mut rng: Rng) {
        for turn in 0..3 {
            thread::sleep(Duration::from_millis(rng.u64(..10)));
            match rng.u32(..12) {
                0..3 => store.settle().expect("it is whole"),
                3..6 => drop(store.sweep().expect("it is whole")),
                6..8 => drop(store.compact().expect("it is whole")),
                8 => self.back_up(store, turn),
                _ => {}
            }
        }
    }

    fn back_up(&self, store: &Store, turn: u32) {
        let now = idemstore::Clock::now(&self.clock).as_unix_ms();
        let name = format!("backup-{now}-{turn}");
        self.teller.tell(&Tell::Backup(name.clone()));
        store.backup(self.root.join(&name)).expect("there is room");
        self.teller.tell(&Tell::BackedUp(name));
    }
}
