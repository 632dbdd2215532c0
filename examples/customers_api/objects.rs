//! The objects that the service keeps, in one file. It has one line of JSON for each change, and
//! one for each change that waits for a verification. A line is durable before anyone learns of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::fields::Fields;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Customer,
    Vendor,
}

/// The tenant and the kind of an object, and its number.
pub type Name = (String, Kind, u64);

/// One line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Line {
    Change(Change),
    Asked(Asked),
}

/// An object was created, changed or deleted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Change {
    pub tenant: String,
    pub kind: Kind,
    pub id: u64,
    /// `None` if the object was deleted.
    pub object: Option<Object>,
    /// The operation that made the change, if its request had an idempotency key. If it's here, it
    /// has happened.
    pub operation: Option<String>,
}

/// An object will be created once its email address is verified.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The operation, by the name that the provider and `Change::operation` use.
    pub operation: String,
    pub tenant: String,
    pub kind: Kind,
    pub fields: Fields,
    /// The idempotency key of the request, within the tenant's scope.
    pub key: String,
    /// Which life of the key this is: the time it began, in milliseconds of Unix time.
    pub begun_at: u64,
}

/// A customer or a vendor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    pub fields: Fields,
    /// Whether its email address has been verified.
    pub verified: bool,
}

/// All objects. Clones share them.
#[derive(Clone)]
pub struct Objects {
    state: Arc<Mutex<State>>,
    writer: mpsc::Sender<(Line, oneshot::Sender<bool>)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Name, Object>,
    operations: BTreeMap<String, Change>,
    asked: BTreeMap<String, Asked>,
    last_id: u64,
}

impl State {
    fn apply(&mut self, line: Line) {
        let change = match line {
            Line::Change(change) => change,
            Line::Asked(asked) => {
                self.asked.insert(asked.operation.clone(), asked);
                return;
            }
        };
        self.last_id = self.last_id.max(change.id);
        let name = (change.tenant.clone(), change.kind, change.id);
        match &change.object {
            Some(object) => drop(self.objects.insert(name, object.clone())),
            None => drop(self.objects.remove(&name)),
        }
        if let Some(operation) = change.operation.clone() {
            self.operations.insert(operation, change);
        }
    }
}

impl Objects {
    /// Reads the file, and starts the thread that writes it. A kill may have left a partial last
    /// line. It was never acknowledged, so it is cut off.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut state = State::default();
        let (mut reader, mut text, mut whole) = (BufReader::new(&file), String::new(), 0);
        loop {
            text.clear();
            let len = reader.read_line(&mut text)?;
            let Some(line) = text.strip_suffix('\n') else { break };
            state.apply(serde_json::from_str(line)?);
            whole += len as u64;
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        let state = Arc::new(Mutex::new(state));
        let (writer, lines) = mpsc::channel();
        let shared = Arc::clone(&state);
        thread::Builder::new().name("objects".to_owned()).spawn(move || {
            write_all(&mut file, &lines, &shared);
        })?;
        Ok(Self { state, writer })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// A number that no object has.
    pub fn new_id(&self) -> u64 {
        let mut state = self.state();
        state.last_id += 1;
        state.last_id
    }

    /// Makes a line durable. Returns whether that worked: if not, the line may be in the file or
    /// not.
    pub async fn write(&self, line: Line) -> bool {
        let (done, outcome) = oneshot::channel();
        self.writer.send((line, done)).is_ok() && outcome.await.unwrap_or(false)
    }

    pub fn get(&self, name: &Name) -> Option<Object> {
        self.state().objects.get(name).cloned()
    }

    /// All objects of one kind and tenant.
    pub fn list(&self, tenant: &str, kind: Kind) -> Vec<(u64, Object)> {
        let first = (tenant.to_owned(), kind, 0);
        let last = (tenant.to_owned(), kind, u64::MAX);
        let state = self.state();
        state.objects.range(first..=last).map(|((.., id), of)| (*id, of.clone())).collect()
    }

    /// The change that an operation has made, if it got that far.
    pub fn find(&self, operation: &str) -> Option<Change> {
        self.state().operations.get(operation).cloned()
    }

    /// The change that an operation will make once it's verified.
    pub fn find_asked(&self, operation: &str) -> Option<Asked> {
        self.state().asked.get(operation).cloned()
    }
}

/// A thread that panics leaves no half-made change.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what is sent, with one fsync for all lines that have arrived meanwhile. After a failure
/// it writes no more, since the contents of the file are unknown from then on.
fn write_all(
    file: &mut File,
    lines: &mpsc::Receiver<(Line, oneshot::Sender<bool>)>,
    state: &Mutex<State>,
) {
    while let Ok(first) = lines.recv() {
        let batch: Vec<_> = std::iter::once(first).chain(lines.try_iter().take(1023)).collect();
        if let Err(error) = write(file, batch.iter().map(|(line, _)| line)) {
            eprintln!("objects.log cannot be written: {error}");
            return;
        }
        for (line, done) in batch {
            lock(state).apply(line);
            // If the client has left, there is no one to answer.
            let _ = done.send(true);
        }
    }
}

fn write<'l>(file: &mut File, lines: impl Iterator<Item = &'l Line>) -> io::Result<()> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line)?;
        bytes.push(b'\n');
    }
    file.write_all(&bytes)?;
    file.sync_data()
}
