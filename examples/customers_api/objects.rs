//! The objects that the service keeps, in one file: a line of JSON for each change, durable before
//! anybody is told of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Customer,
    Vendor,
}

/// Whose object it is, what it is, and its number.
pub type Name = (String, Kind, u64);

/// One change, as it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    pub tenant: String,
    pub kind: Kind,
    pub id: u64,
    /// `None` if the object was deleted.
    pub fields: Option<Fields>,
    /// The operation that made the change, if its request had an idempotency key: who finds it here
    /// knows that it happened.
    pub operation: Option<String>,
}

/// What a client can say of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// All objects. Clones share them.
#[derive(Clone)]
pub struct Objects {
    state: Arc<Mutex<State>>,
    writer: mpsc::Sender<(Line, oneshot::Sender<bool>)>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Name, Fields>,
    operations: BTreeMap<String, Line>,
    last_id: u64,
}

impl State {
    fn apply(&mut self, line: Line) {
        self.last_id = self.last_id.max(line.id);
        let name = (line.tenant.clone(), line.kind, line.id);
        match &line.fields {
            Some(fields) => drop(self.objects.insert(name, fields.clone())),
            None => drop(self.objects.remove(&name)),
        }
        if let Some(operation) = line.operation.clone() {
            self.operations.insert(operation, line);
        }
    }
}

impl Objects {
    /// Reads the file, and starts the thread that writes it. A kill may have left a part of a last
    /// line, which nobody was told of: it is cut off.
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

    /// Makes a change durable. Whether it was: if not, nobody knows.
    pub async fn write(&self, line: Line) -> bool {
        let (done, outcome) = oneshot::channel();
        self.writer.send((line, done)).is_ok() && outcome.await.unwrap_or(false)
    }

    pub fn get(&self, name: &Name) -> Option<Fields> {
        self.state().objects.get(name).cloned()
    }

    /// All objects of one kind and tenant.
    pub fn list(&self, tenant: &str, kind: Kind) -> Vec<(u64, Fields)> {
        let first = (tenant.to_owned(), kind, 0);
        let last = (tenant.to_owned(), kind, u64::MAX);
        let state = self.state();
        state.objects.range(first..=last).map(|((.., id), of)| (*id, of.clone())).collect()
    }

    /// What an operation has changed, if it came that far.
    pub fn find(&self, operation: &str) -> Option<Line> {
        self.state().operations.get(operation).cloned()
    }
}

/// Whoever panics has changed nothing by halves.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes what is sent, with one fsync for all that has come meanwhile. After a failure it writes
/// no more: nobody knows what the file has then.
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
            // A client that has left is not told.
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
