//! One history, cut at each of its points.

use std::fmt;

use fastrand::Rng;

use crate::check::Checker;
use crate::disk::Ignored;
use crate::history::History;
use crate::image::Image;
use crate::replay::Replay;

/// A cut that leaves open which names are there is checked this much more often: there are few of
/// them.
const NAMES_WEIGHT: u64 = 8;

/// How many random images are tried until one is new.
const DRAWS: usize = 4;

/// How to check a history.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub seed: u64,
    pub images: u64,
    pub ignored: Option<Ignored>,
    /// The only cut to check.
    pub cut: Option<u64>,
}

/// Something that a store must not do.
#[derive(Debug)]
pub struct Finding {
    pub life: usize,
    pub cut: u64,
    pub error: String,
}

impl Look {
    /// Checks as many images as requested, if there are that many, and returns the number of cuts.
    pub fn at(
        self,
        history: &History,
        checker: &mut Checker,
        mut found: impl FnMut(Finding),
        mut looked: impl FnMut(),
    ) -> Result<u64, String> {
        let (mut cuts, mut weight) = (0, 0);
        self.each_cut(history, |replay, _, cut| {
            cuts += 1;
            weight += self.weight(replay, cut);
        })?;
        let (mut before, mut images) = (0, 0);
        self.each_cut(history, |replay, life, cut| {
            before += self.weight(replay, cut);
            let mut rng = Rng::with_seed(self.seed.rotate_left(32) ^ cut);
            // What one cut lacks is made up for at the next.
            let due = self.images * before / weight.max(1);
            while images < due
                && let Some(image) = draw(replay, checker, &mut rng)
            {
                if let Err(error) = checker.check(&image, &replay.truth) {
                    found(Finding { life, cut, error });
                }
                images += 1;
                looked();
            }
        })?;
        Ok(cuts)
    }

    /// How often a cut is checked, relative to others.
    fn weight(&self, replay: &Replay, cut: u64) -> u64 {
        match self.cut {
            Some(only) => u64::from(only == cut),
            None if replay.disk.has_unsafe_names() => NAMES_WEIGHT,
            None => 1,
        }
    }

    /// Goes through a history, and stops at each point where a cut may leave something different.
    fn each_cut(
        &self,
        history: &History,
        mut stop: impl FnMut(&Replay, usize, u64),
    ) -> Result<(), String> {
        let mut replay = Replay::new(&history.root, self.ignored);
        let mut cut = 0;
        for (number, life) in history.lives.iter().enumerate() {
            replay.start(life.left.as_ref());
            for event in &life.events {
                if replay.step(event)? {
                    stop(&replay, number, cut);
                    cut += 1;
                }
            }
            replay.end(&life.after).map_err(|error| format!("life {number}: {error}"))?;
        }
        Ok(())
    }
}

/// An image that was not checked yet. Some cuts leave only one or two.
fn draw(replay: &Replay, checker: &mut Checker, rng: &mut Rng) -> Option<Image> {
    (0..DRAWS)
        .map(|_| Image::of_cut(&replay.disk, rng))
        .find(|image| checker.is_new(image, &replay.truth))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "life {}, cut {}: {}", self.life, self.cut, self.error)
    }
}
