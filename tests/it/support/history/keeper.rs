//! A thread that maintains a store while others call it: it settles, sweeps, compacts, moves the
//! clock, and at the end closes it or takes what a kill leaves.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use idemstore::{Clock, Timestamp};

use super::caller::Scene;
use super::round::End;
use super::site::Site;
use super::spec::Step;
use super::{Dice, Stamp, stamp};
use crate::support::{RETENTION_MS, SimDisk};

/// The files at some moment between two stamps.
pub struct Image {
    pub taken: (Stamp, Stamp),
    pub disk: SimDisk,
}

type Ticks = Vec<((Stamp, Stamp), Step)>;

/// Maintains the store until the callers are done.
pub fn run(
    scene: &Scene<'_>,
    site: &Site,
    end: End,
    dice: &mut Dice,
    is_over: impl Fn() -> bool,
) -> (Ticks, Option<Image>) {
    let mut ticks = Vec::new();
    // A permit whose start fails doesn't reveal when it was begun: that is known only if the clock
    // stands still.
    let ticks_max = if end == End::Fault { 0 } else { 3 };
    let mut moment = Some(dice.below(8));
    let mut image = None;
    for turn in 0.. {
        let is_over = is_over();
        if is_over || moment == Some(turn) {
            if moment.take().is_some() {
                image = finish(scene, site, end, dice);
            }
            if is_over {
                break;
            }
        }
        match dice.below(12) {
            0..3 => check(scene, scene.store.settle()),
            3..5 => check(scene, scene.store.sweep()),
            5 if dice.one_in(4) => check(scene, scene.store.compact()),
            6..9 if ticks.len() < ticks_max => ticks.push(tick(scene, dice)),
            _ => {}
        }
        thread::sleep(Duration::from_micros(dice.below(200)));
    }
    (ticks, image)
}

fn finish(scene: &Scene<'_>, site: &Site, end: End, dice: &mut Dice) -> Option<Image> {
    let from = stamp();
    let disk = match end {
        End::Kill => site.disk().after_kill(),
        End::PowerCut => site.disk().after_power_cut(|below| dice.below(below)),
        End::Close => {
            scene.store.clone().close().expect("the store closes");
            return None;
        }
        End::Rest | End::Fault => return None,
    };
    let taken = (from, stamp());
    scene.stop.store(true, Ordering::SeqCst);
    Some(Image { taken, disk })
}

/// Moves the clock by a step that often ends exactly where something begun before expires.
fn tick(scene: &Scene<'_>, dice: &mut Dice) -> ((Stamp, Stamp), Step) {
    let steps = [1, RETENTION_MS / 2, RETENTION_MS - 1, RETENTION_MS];
    let now = scene.clock.now().as_unix_ms() + steps[dice.below(4) as usize];
    let invoked = stamp();
    scene.clock.set(Timestamp::from_unix_ms(now));
    ((invoked, stamp()), Step::Tick(now))
}

fn check<T, E: std::fmt::Debug>(scene: &Scene<'_>, done: Result<T, E>) {
    if !scene.may_fail {
        done.expect("the store is looked after");
    }
}
