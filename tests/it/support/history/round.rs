//! A round: some threads call the store for some keys, something happens to it, and they continue.

use std::io::ErrorKind;
use std::sync::atomic::AtomicBool;
use std::thread;

use idemstore::{Clock, Key, Store};

use super::caller::{Attic, Caller, Scene};
use super::keeper::{self, Image};
use super::site::{Place, Site};
use super::spec::{State, Step};
use super::{Dice, Event, History, stamp};
use crate::support::disk::{Fault, Op};

/// How the first half of a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The store continues as before.
    Rest,
    /// The store is closed while it is called, and reopened.
    Close,
    Kill,
    PowerCut,
    /// An operation of the disk fails, and perhaps all later ones.
    Fault,
}

/// Calls of all threads in one half: no key can have more events than a history can hold, even if
/// each call is two events and all are for one key.
const CALLS: u64 = 20;
/// The thread that isn't a caller.
const KEEPER: usize = 0;

struct Round<'a> {
    site: &'a mut Site,
    dice: &'a mut Dice,
    keys: Vec<Key>,
    /// Each with the number of its key, or `None` if it applies to all.
    noted: Vec<(Option<usize>, Event)>,
}

/// Runs a round on a store that is open, and returns the history of each of its keys.
pub fn run(site: &mut Site, store: Store, end: End, dice: &mut Dice) -> (Store, Vec<History>) {
    let start = site.clock.now().as_unix_ms();
    let keys = (0..=dice.below(3)).map(|_| Key::new(dice.next().to_le_bytes()));
    let keys = keys.map(|key| key.expect("it is a key")).collect();
    let mut round = Round { site, dice, keys, noted: Vec::new() };
    let store = if end == End::Rest {
        store
    } else {
        let image = round.half(&store, end);
        round.reopen(store, image)
    };
    round.half(&store, End::Rest);
    round.look(&store);
    (store, round.histories(State::free(start)))
}

impl Round<'_> {
    /// Some threads call the store, and one maintains it until they are done.
    fn half(&mut self, store: &Store, end: End) -> Option<Image> {
        if end == End::Fault {
            self.break_disk();
        }
        let scene = self.scene(store, end);
        let callers = 2 + self.dice.below(4);
        let (mut noted, mut image) = (Vec::new(), None);
        thread::scope(|scope| {
            let spawn = |thread: u64| {
                let caller = Caller::new(&scene, thread as usize, self.dice.next());
                scope.spawn(move || caller.run((CALLS / callers) as usize))
            };
            let callers: Vec<_> = (1..=callers).map(spawn).collect();
            let is_over = || callers.iter().all(thread::ScopedJoinHandle::is_finished);
            let (ticks, taken) = keeper::run(&scene, self.site, end, self.dice, is_over);
            noted.extend(ticks.into_iter().map(|(span, step)| (None, whole(span, step))));
            for caller in callers {
                let events = caller.join().expect("no caller panics");
                noted.extend(events.into_iter().map(|(key, event)| (Some(key), event)));
            }
            image = taken;
        });
        self.noted.extend(noted);
        if end == End::Fault {
            image = Some(self.image_of_broken_disk());
        }
        image
    }

    fn scene<'s>(&self, store: &'s Store, end: End) -> Scene<'s> {
        Scene {
            store,
            clock: self.site.clock.clone(),
            keys: self.keys.clone(),
            may_fail: matches!(end, End::Close | End::Fault),
            stop: AtomicBool::new(false),
            attic: Attic::clone(&self.site.attic),
        }
    }

    fn break_disk(&mut self) {
        let on = [Op::Any, Op::Write, Op::Sync, Op::VaultSync][self.dice.below(4) as usize];
        let (after, for_good) = (self.dice.below(24), self.dice.one_in(2));
        let disk = self.site.disk();
        disk.fail(Fault { on, after, for_good, kind: ErrorKind::Other });
        disk.lose_what_a_failed_sync_had(self.dice.next());
    }

    /// What the next open finds. Failed changes may surface in it.
    fn image_of_broken_disk(&mut self) -> Image {
        let disk = self.site.disk();
        disk.heal();
        let taken = (stamp(), stamp());
        let unsure: Vec<_> = self
            .noted
            .iter()
            .filter_map(|(key, event)| match event.step {
                Step::Unsure(handle, _) => Some((*key, Step::Surface(handle))),
                _ => None,
            })
            .collect();
        for (key, step) in unsure {
            self.noted.push((key, Event { certain: false, ..whole(taken, step) }));
        }
        let disk = if self.dice.one_in(2) {
            disk.after_kill()
        } else {
            disk.after_power_cut(|below| self.dice.below(below))
        };
        Image { taken, disk }
    }

    /// Opens the store again, with what it had or what the image has.
    fn reopen(&mut self, store: Store, image: Option<Image>) -> Store {
        drop(store);
        let leaked = self.site.attic.lock().expect("no thread panics with it").split_off(0);
        if image.is_some() {
            // The store that was killed ends when its process does.
            std::mem::forget(leaked);
        } else {
            drop(leaked);
        }
        if let Some(Image { taken, disk }) = image {
            self.cut(taken);
            self.site.place = Place::Sim(disk);
        }
        let invoked = stamp();
        let store = self.site.open();
        self.noted.push((None, whole((invoked, stamp()), Step::Open)));
        store
    }

    /// Calls made after the image was taken have not happened, and calls that had not returned by
    /// then may or may not have. Only time is the same before and after.
    fn cut(&mut self, (from, to): (u64, u64)) {
        let is_of_image =
            |event: &Event| event.invoked < to && !matches!(event.step, Step::Tick(_));
        self.noted.retain(|(_, event)| is_of_image(event) || matches!(event.step, Step::Tick(_)));
        for (_, event) in &mut self.noted {
            if is_of_image(event) && from < event.answered {
                event.certain = false;
            }
        }
    }

    /// Asks for the state of each key.
    fn look(&mut self, store: &Store) {
        let scene = self.scene(store, End::Rest);
        let events = Caller::new(&scene, KEEPER, self.dice.next()).look();
        self.noted.extend(events.into_iter().map(|(key, event)| (Some(key), event)));
    }

    fn histories(self, initial: State) -> Vec<History> {
        let of_key = |at| {
            let is_its = |of: &Option<usize>| of.is_none_or(|of| of == at);
            let events = self.noted.iter().filter(|(of, _)| is_its(of));
            History::new(initial, events.map(|(_, event)| *event).collect())
        };
        (0..self.keys.len()).map(of_key).collect()
    }
}

/// A step of the whole store.
fn whole((invoked, answered): (u64, u64), step: Step) -> Event {
    Event { invoked, answered, certain: true, thread: KEEPER, since: 0, step }
}
