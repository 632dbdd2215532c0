//! Changes to the files of a store.

use arbitrary::{Result, Unstructured};

#[cfg(feature = "transaction")]
use super::forge::Forgery;
use super::image::{Files, NAMES};

const PAGE: usize = 4096;

/// A change of the files.
#[derive(Debug)]
pub enum Edit {
    Flip {
        place: Place,
        bit: u8,
    },
    Put {
        place: Place,
        bytes: Vec<u8>,
    },
    Zero {
        place: Place,
        len: usize,
    },
    Cut {
        place: Place,
    },
    Extend {
        file: usize,
        len: usize,
    },
    CopyPage {
        from: Place,
        to: Place,
    },
    Swap {
        file: usize,
        with: usize,
    },
    Replace {
        file: usize,
        bytes: Vec<u8>,
    },
    Remove {
        file: usize,
    },
    #[cfg(feature = "transaction")]
    Forge(Forgery),
    /// A forgery, where forging isn't possible.
    #[cfg(not(feature = "transaction"))]
    Nothing,
}

/// A place in a file: one of the pages that aren't all zeros, and an offset in it.
#[derive(Debug)]
pub struct Place {
    file: usize,
    page: usize,
    at: usize,
}

impl Edit {
    pub fn take(source: &mut Unstructured<'_>) -> Result<Self> {
        let file = |source: &mut Unstructured<'_>| source.choose_index(NAMES.len());
        Ok(match source.int_in_range(0..=15_u8)? {
            0 => Self::Flip { place: Place::take(source)?, bit: source.int_in_range(0..=7)? },
            1 => Self::Put { place: Place::take(source)?, bytes: bytes(source, 16)? },
            2 => Self::Zero { place: Place::take(source)?, len: source.arbitrary::<u16>()?.into() },
            3 => Self::Cut { place: Place::take(source)? },
            4 => Self::Extend { file: file(source)?, len: source.arbitrary::<u16>()?.into() },
            5 => Self::CopyPage { from: Place::take(source)?, to: Place::take(source)? },
            6 => Self::Swap { file: file(source)?, with: file(source)? },
            7 => Self::Replace { file: file(source)?, bytes: bytes(source, 512)? },
            8 => Self::Remove { file: file(source)? },
            #[cfg(feature = "transaction")]
            _ => Self::Forge(Forgery::take(source)?),
            #[cfg(not(feature = "transaction"))]
            _ => Self::Nothing,
        })
    }

    #[cfg_attr(not(feature = "transaction"), expect(clippy::unused_self, reason = "nothing is"))]
    pub fn is_forgery(&self) -> bool {
        #[cfg(feature = "transaction")]
        return matches!(self, Self::Forge(_));
        #[cfg(not(feature = "transaction"))]
        false
    }

    pub fn apply(&self, files: &mut Files) {
        match self {
            Self::Flip { place, bit } => place.within(files, |file, at| file[at] ^= 1 << bit),
            Self::Put { place, bytes } => place.within(files, |file, at| {
                file[at..].iter_mut().zip(bytes).for_each(|(to, byte)| *to = *byte);
            }),
            Self::Zero { place, len } => place.within(files, |file, at| {
                file[at..].iter_mut().take(*len).for_each(|byte| *byte = 0);
            }),
            Self::Cut { place } => place.within(files, Vec::truncate),
            Self::Extend { file, len } => {
                if let Some(file) = files.get_mut(NAMES[*file]) {
                    file.resize(file.len() + len, 0);
                }
            }
            Self::CopyPage { from, to } => {
                let mut page = Vec::new();
                from.within(files, |file, at| {
                    page.extend(file[at / PAGE * PAGE..].iter().take(PAGE));
                });
                to.within(files, |file, at| {
                    let to = file[at / PAGE * PAGE..].iter_mut();
                    to.zip(&page).for_each(|(to, byte)| *to = *byte);
                });
            }
            Self::Swap { file, with } => {
                let (one, other) = (files.remove(NAMES[*file]), files.remove(NAMES[*with]));
                files.extend(one.map(|bytes| (NAMES[*with].to_owned(), bytes)));
                files.extend(other.map(|bytes| (NAMES[*file].to_owned(), bytes)));
            }
            Self::Replace { file, bytes } => {
                files.insert(NAMES[*file].to_owned(), bytes.clone());
            }
            Self::Remove { file } => drop(files.remove(NAMES[*file])),
            #[cfg(feature = "transaction")]
            Self::Forge(forgery) => forgery.apply(files),
            #[cfg(not(feature = "transaction"))]
            Self::Nothing => {}
        }
    }
}

/// At most this many bytes, and fewer only if there are no more.
pub fn bytes(source: &mut Unstructured<'_>, max: usize) -> Result<Vec<u8>> {
    let len = source.int_in_range(0..=max)?.min(source.len());
    Ok(source.bytes(len)?.to_vec())
}

impl Place {
    pub fn take(source: &mut Unstructured<'_>) -> Result<Self> {
        let file = source.choose_index(NAMES.len())?;
        let (page, at) = (source.arbitrary::<u8>()?.into(), source.arbitrary::<u16>()?.into());
        Ok(Self { file, page, at })
    }

    /// Changes the file at this place, if it exists and isn't empty.
    fn within(&self, files: &mut Files, change: impl FnOnce(&mut Vec<u8>, usize)) {
        let Some(file) = files.get_mut(NAMES[self.file]) else { return };
        let in_use =
            |number: &usize| file[number * PAGE..].iter().take(PAGE).any(|byte| *byte != 0);
        let pages: Vec<_> = (0..file.len().div_ceil(PAGE)).filter(in_use).collect();
        if pages.is_empty() {
            return;
        }
        let page = pages[self.page % pages.len()];
        // Everything in use in the first page is at its start.
        let len = if page == 0 { 320 } else { PAGE };
        let at = (page * PAGE + self.at % len).min(file.len() - 1);
        change(file, at);
    }
}
