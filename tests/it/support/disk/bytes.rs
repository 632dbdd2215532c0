//! The bytes of a file, in pages that its copies share until a page is written.

use std::sync::{Arc, LazyLock, OnceLock};

pub const PAGE: usize = 4096;

#[derive(Clone, Default)]
pub struct Bytes {
    /// The bytes of the last page after the file's length are zeros.
    pages: Vec<Arc<Page>>,
    len: usize,
}

struct Page {
    bytes: [u8; PAGE],
    digest: OnceLock<[u8; 32]>,
}

static ZEROS: LazyLock<Arc<Page>> =
    LazyLock::new(|| Arc::new(Page { bytes: [0; PAGE], digest: OnceLock::new() }));

impl Clone for Page {
    /// A page is cloned before it is written.
    fn clone(&self) -> Self {
        Self { bytes: self.bytes, digest: OnceLock::new() }
    }
}

impl Bytes {
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads all of `out`, or reports that the file ends before that.
    pub fn read(&self, at: usize, out: &mut [u8]) -> bool {
        if self.len < at + out.len() {
            return false;
        }
        for_parts(at, out.len(), |page, within, part| {
            let bytes = &self.pages[page].bytes;
            out[part.clone()].copy_from_slice(&bytes[within..within + part.len()]);
        });
        true
    }

    /// Writes, and extends the file if necessary.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.grow(at + bytes.len());
        for_parts(at, bytes.len(), |page, within, part| {
            let page = Arc::make_mut(&mut self.pages[page]);
            page.digest = OnceLock::new();
            page.bytes[within..within + part.len()].copy_from_slice(&bytes[part]);
        });
    }

    pub fn set_len(&mut self, len: usize) {
        if len < self.len {
            self.pages.truncate(len.div_ceil(PAGE));
            if let Some(last) = self.pages.last_mut().filter(|_| !len.is_multiple_of(PAGE)) {
                let last = Arc::make_mut(last);
                last.digest = OnceLock::new();
                last.bytes[len % PAGE..].fill(0);
            }
            self.len = len;
        }
        self.grow(len);
    }

    /// Extends it to at least this length.
    pub fn grow(&mut self, len: usize) {
        if self.len < len {
            self.pages.resize_with(len.div_ceil(PAGE), || Arc::clone(&ZEROS));
            self.len = len;
        }
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        assert!(self.read(0, &mut bytes), "it is as long as it says");
        bytes
    }

    /// Feeds the contents into the hasher. A page that was not written since then isn't hashed
    /// again.
    pub fn digest_into(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&self.len.to_le_bytes());
        for page in &self.pages {
            hasher.update(page.digest.get_or_init(|| *blake3::hash(&page.bytes).as_bytes()));
        }
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let mut new = Self::default();
        new.write(0, &bytes);
        new
    }
}

/// Shows the part of each page: the page's number, where it starts in it, and which part it is.
fn for_parts(at: usize, len: usize, mut each: impl FnMut(usize, usize, std::ops::Range<usize>)) {
    let mut from = 0;
    while from < len {
        let within = (at + from) % PAGE;
        let to = len.min(from + PAGE - within);
        each((at + from) / PAGE, within, from..to);
        from = to;
    }
}
