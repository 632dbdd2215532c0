//! The process that is killed: it consumes the queue, batch by batch, on one store.

use std::collections::HashMap;
use std::io;
use std::process;
use std::thread;
use std::time::Duration;

use idemstore::{Begin, Completed, Execution, InFlight, Interrupted, Permit, Startable, Store};

use crate::logs::{Acks, Counts, Effects, Place, Report};
use crate::queue::{self, Message};
use crate::{Args, Result};

/// Consumes everything that wasn't acknowledged. An error means that the store broke a promise, or
/// that the harness itself is broken.
pub(crate) fn run(args: &Args, generation: u32) -> Result<()> {
    end_with_parent();
    let place = Place::new(args.directory.as_deref().ok_or("a child is told its directory")?);
    let mut consumer = Consumer::open(args, &place, generation)?;
    // A queue redelivers only what was not acknowledged. Starting at the first message would also
    // be right, only slower: everything would be replayed.
    let messages = queue::read(&place, consumer.acks.count()?)?;
    for batch in messages.chunks(usize::try_from(args.batch)?) {
        consumer.consume(batch)?;
    }
    consumer.store.close()?;
    Ok(())
}

/// If the parent is gone, nothing will kill this process any more. The parent holds the other end
/// of our standard input, which closes however the parent ends.
fn end_with_parent() {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        process::exit(3);
    });
}

struct Consumer {
    store: Store,
    effects: Effects,
    acks: Acks,
    report: Report,
    counts: Counts,
    /// Runs interrupted messages again without asking.
    sabotage: bool,
}

/// The unanswered messages of a batch, by what has to be done with them.
#[derive(Default)]
struct Sorted<'b> {
    fresh: Vec<(&'b Message, Permit)>,
    interrupted: Vec<(&'b Message, Interrupted)>,
    /// An earlier message of the batch holds the key.
    in_flight: Vec<(&'b Message, InFlight)>,
}

/// The answers to a batch: the line of the effect, by the message's id.
#[derive(Default)]
struct Answers(HashMap<u32, u64>);

impl Consumer {
    fn open(args: &Args, place: &Place, generation: u32) -> Result<Self> {
        Ok(Self {
            store: queue::open_store(&place.store(), args.seed)?,
            // The store is open, so its lock proves that the process that wrote effects before is
            // gone.
            effects: Effects::open(place)?,
            acks: Acks::open(place)?,
            report: Report::open(place, generation)?,
            counts: Counts::default(),
            sabotage: args.sabotage,
        })
    }

    /// From the delivery of a batch to its acknowledgement.
    fn consume(&mut self, batch: &[Message]) -> Result<()> {
        self.counts.delivered += batch.len() as u64;
        let mut answers = Answers::default();
        let Sorted { fresh, interrupted, in_flight } = self.begin(batch, &mut answers)?;
        let mut executions = self.recover(interrupted, &mut answers)?;
        executions.extend(self.start(fresh)?);
        self.execute(executions, &mut answers)?;
        for (message, in_flight) in in_flight {
            // The caller that held the key has completed by now: this asks once more, and does not
            // wait.
            match in_flight.wait(Duration::ZERO)? {
                Begin::Replay(completed) => answers.give(message, &completed)?,
                begin => return Err(format!("{begin:?} behind a completed message").into()),
            }
        }
        self.acks.append(answers.to(batch)?)?;
        self.note()
    }

    /// Asks the store about each message. Known results are answered at once.
    fn begin<'b>(&mut self, batch: &'b [Message], answers: &mut Answers) -> Result<Sorted<'b>> {
        let keys = batch.iter().map(Message::key).collect::<Result<Vec<_>, _>>()?;
        let requests = keys.iter().zip(batch.iter().map(Message::fingerprint));
        let mut sorted = Sorted::default();
        for (message, begin) in batch.iter().zip(self.store.begin_many(requests)) {
            match begin? {
                Begin::Fresh(permit) => sorted.fresh.push((message, permit)),
                Begin::Interrupted(interrupted) => sorted.interrupted.push((message, interrupted)),
                Begin::InFlight(in_flight) => sorted.in_flight.push((message, in_flight)),
                Begin::Replay(completed) => {
                    answers.give(message, &completed)?;
                    self.counts.replayed += 1;
                }
                // All deliveries of a message are alike, and all results are short.
                begin => return Err(format!("a message is answered with {begin:?}").into()),
            }
        }
        self.counts.in_flight += sorted.in_flight.len() as u64;
        Ok(sorted)
    }

    /// A process that was killed had started these. Since we hold their keys, nothing is executing
    /// them now, so the effects log is final: messages whose effect has happened are resolved, and
    /// the others are tried again.
    fn recover<'b>(
        &mut self,
        interrupted: Vec<(&'b Message, Interrupted)>,
        answers: &mut Answers,
    ) -> Result<Vec<(&'b Message, Execution)>> {
        let (mut happened, mut again) = (Vec::new(), Vec::new());
        for (message, interrupted) in interrupted {
            match self.find_effect(message) {
                Some(effect) => happened.push((message, (interrupted, effect.to_string()))),
                None => again.push((message, interrupted)),
            }
        }
        let executions = self.start(again)?;
        self.counts.retried += executions.len() as u64;
        self.counts.resolved += happened.len() as u64;
        let (messages, results): (Vec<_>, Vec<_>) = happened.into_iter().unzip();
        for (message, completed) in messages.into_iter().zip(self.store.complete_many(results)) {
            answers.give(message, &completed?)?;
        }
        self.note()?;
        Ok(executions)
    }

    fn find_effect(&self, message: &Message) -> Option<u64> {
        if self.sabotage { None } else { self.effects.find(message.id) }
    }

    /// Starts new messages, and those that are tried again.
    fn start<'b, H: Startable>(
        &self,
        handles: Vec<(&'b Message, H)>,
    ) -> Result<Vec<(&'b Message, Execution)>> {
        let (messages, handles): (Vec<_>, Vec<_>) = handles.into_iter().unzip();
        let started = messages.into_iter().zip(self.store.start_many(handles));
        started.map(|(message, execution)| Ok((message, execution?))).collect()
    }

    /// Runs the effects, and stores where they are.
    fn execute(
        &mut self,
        executions: Vec<(&Message, Execution)>,
        answers: &mut Answers,
    ) -> Result<()> {
        let mut results = Vec::new();
        let mut messages = Vec::new();
        for (message, execution) in executions {
            let effect = self.effects.execute(message.id, execution.attempt())?;
            messages.push(message);
            results.push((execution, effect.to_string()));
        }
        if !results.is_empty() {
            self.effects.sync()?;
        }
        for (message, completed) in messages.into_iter().zip(self.store.complete_many(results)) {
            answers.give(message, &completed?)?;
        }
        Ok(())
    }

    /// Reports progress as it goes, since a kill leaves no time for last words.
    fn note(&mut self) -> Result<()> {
        let stats = self.store.stats();
        self.counts.batches = stats.batches;
        self.counts.changes = stats.changes;
        Ok(self.report.append(self.counts)?)
    }
}

impl Answers {
    fn give(&mut self, message: &Message, completed: &Completed) -> Result<()> {
        let effect = std::str::from_utf8(completed.result())?.parse()?;
        if *self.0.entry(message.id).or_insert(effect) != effect {
            return Err(format!("message {} has two results", message.id).into());
        }
        Ok(())
    }

    /// The answer to each message of the batch, in the same order.
    fn to(&self, batch: &[Message]) -> Result<Vec<u64>> {
        let answers = batch.iter().map(|message| self.0.get(&message.id).copied());
        let answers: Option<Vec<_>> = answers.collect();
        Ok(answers.ok_or("a message of the batch has no answer")?)
    }
}
