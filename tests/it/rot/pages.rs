//! Pages that are lost, that are in another page's place, or that are older than the rest.

use std::ops::Range;

use super::{Image, LOGS, Seen, VAULT, tally};
use crate::support::size;

const PAGE_LEN: usize = 4096;

fn page(number: usize) -> Range<usize> {
    number * PAGE_LEN..(number + 1) * PAGE_LEN
}

/// Each page of each file.
fn pages(image: &Image) -> Vec<(&'static str, usize)> {
    [VAULT, LOGS[0], LOGS[1]]
        .into_iter()
        .flat_map(|name| (0..image.files[name].len() / PAGE_LEN).map(move |page| (name, page)))
        .collect()
}

#[test]
fn a_page_that_is_lost_is_noticed_or_harmless() {
    let image = Image::new();
    let fills: Vec<_> =
        pages(&image).into_iter().flat_map(|at| [0, 0xFF].map(|byte| (at, byte))).collect();
    let tally = tally(&fills, |((name, number), byte)| {
        image.check(&format!("{byte} in all of page {number} of {name}"), |files| {
            files.get_mut(*name).expect("it is there")[page(*number)].fill(*byte);
        })
    });
    eprintln!("{tally:?}");
    assert!(tally.contains_key(&Seen::Refused) && tally.contains_key(&Seen::After(image.last())));
    // The page of the last frames, and nothing before them.
    assert!(2 < tally.len(), "{tally:?}");
}

#[test]
fn a_page_in_anothers_place_is_noticed_or_harmless() {
    let image = Image::new();
    let pages = pages(&image);
    let step = size("ROT_SWAP_STEP", 7) as usize;
    let swaps: Vec<_> = (0..pages.len())
        .flat_map(|one| (one + 1..pages.len()).map(move |other| (one, other)))
        .step_by(step)
        .collect();
    let tally = tally(&swaps, |(one, other)| {
        let ((one, first), (other, second)) = (pages[*one], pages[*other]);
        let what = format!("page {first} of {one} instead of page {second} of {other}");
        image.check(&what, |files| {
            let before = files[one][page(first)].to_vec();
            let after = files[other][page(second)].to_vec();
            files.get_mut(one).expect("it is there")[page(first)].copy_from_slice(&after);
            files.get_mut(other).expect("it is there")[page(second)].copy_from_slice(&before);
        })
    });
    eprintln!("{} swaps: {tally:?}", swaps.len());
    assert!(tally.contains_key(&Seen::Refused) && tally.contains_key(&Seen::After(image.last())));
}

#[test]
fn a_page_of_an_earlier_time_is_noticed_or_harmless() {
    let image = Image::new();
    let mut stale = Vec::new();
    for (time, earlier) in image.earlier.iter().enumerate() {
        for (name, number) in pages(&image) {
            let before = earlier[name].get(page(number));
            if before.is_some_and(|before| before != &image.files[name][page(number)]) {
                stale.push((time, name, number));
            }
        }
    }
    let tally = tally(&stale, |(time, name, number)| {
        let what = format!("page {number} of {name} as it was at time {time}");
        let seen = image.check(&what, |files| {
            let before = &image.earlier[*time][*name][page(*number)];
            files.get_mut(*name).expect("it is there")[page(*number)].copy_from_slice(before);
        });
        (*name, seen)
    });
    eprintln!("{} pages: {tally:?}", stale.len());
    for name in [VAULT, LOGS[0], LOGS[1]] {
        assert!(tally.contains_key(&(name, Seen::Refused)), "{name}");
    }
}
