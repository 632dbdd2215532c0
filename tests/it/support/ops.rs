//! One set of operations, for the model test and for the fuzzer.

#![cfg_attr(
    not(feature = "transaction"),
    expect(
        dead_code,
        reason = "the same bytes are the same program, with the features and without"
    )
)]

use arbitrary::{Arbitrary, Result, Unstructured};

/// Few keys and few requests, so that operations collide.
pub const KEYS: u8 = 4;
/// Together with the keys that only a flood uses, which needs many.
pub const ALL_KEYS: u8 = 16;
pub const REQUESTS: u8 = 2;
/// The longest result and the longest checkpoint that a test's store accepts.
pub const LEN_MAX: u16 = 16 * 1024;
/// A fuzzer that finds a longer program finds a slower one.
const OPS_MAX: usize = 64;
/// At most this many of a program's operations may read or write the whole store. Otherwise the
/// fuzzer would fill its programs with them, and run only a few.
const DEAR_MAX: usize = 4;

/// A sequence of operations on a new store.
#[derive(Clone, Debug)]
pub struct Program {
    /// The bits of a key's hash that the live table uses. With none left, it can't tell keys apart
    /// by hash.
    pub hash_mask: u64,
    pub ops: Vec<Op>,
}

impl Program {
    /// Any bytes are a program, so the fuzzer and `cargo test` run the same one for the same bytes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut source = Unstructured::new(bytes);
        let collide = bool::arbitrary(&mut source).unwrap_or_default();
        let mut dear = 0;
        let ops =
            std::iter::from_fn(|| if source.is_empty() { None } else { op(&mut source).ok() });
        let ops = ops.take(OPS_MAX).filter(|op| {
            dear += usize::from(op.is_dear());
            !op.is_dear() || dear <= DEAR_MAX
        });
        Self { hash_mask: if collide { 0 } else { u64::MAX }, ops: ops.collect() }
    }
}

/// A key and the request that is made under it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Request {
    #[arbitrary(with = key)]
    pub key: u8,
    #[arbitrary(with = request)]
    pub request: u8,
}

/// Bytes of a result or of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Len(pub u16);

/// What runs inside one call.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Run {
    pub checkpoint: Option<Len>,
    pub end: End,
}

/// How it ends.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum End {
    Done { len: Len },
    DidNotHappen,
    Unknown,
    Panic,
}

/// What happens in a transaction on the store.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Shared {
    /// A row of the caller's own table, and its new value.
    #[arbitrary(with = key)]
    pub row: u8,
    pub value: u8,
    pub end: SharedEnd,
}

/// How it ends.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum SharedEnd {
    Commit,
    Refuse,
    Panic,
    /// Opens one of the store's own tables.
    Reserved,
}

#[derive(Arbitrary, Clone, Debug)]
pub enum Op {
    Begin(Request),
    /// `start` of a permit, `retry` of an interrupted operation.
    Start {
        handle: u8,
    },
    /// `Permit::retention`.
    Retain {
        handle: u8,
        #[arbitrary(with = retention)]
        ms: u64,
    },
    Checkpoint {
        handle: u8,
        len: Len,
    },
    /// `complete`, or `resolve`.
    Complete {
        handle: u8,
        len: Len,
    },
    /// `complete_digest`, or `resolve_digest`.
    NotKept {
        handle: u8,
        len: Len,
    },
    /// `abandon`, or `release`.
    Abandon {
        handle: u8,
    },
    Detach {
        handle: u8,
    },
    Drop {
        handle: u8,
    },
    /// `run` of a handle.
    RunHandle {
        handle: u8,
        run: Run,
    },
    /// `Store::run`.
    Run {
        request: Request,
        run: Run,
    },
    /// `complete_with` of a permit.
    CompleteWith {
        handle: u8,
        len: Len,
        shared: Shared,
    },
    /// `Store::transaction`.
    Write(Shared),
    /// `begin_many`; a request may come twice.
    BeginMany {
        #[arbitrary(with = requests)]
        requests: Vec<Request>,
    },
    /// `start_many` of all handles of one kind.
    StartMany {
        kind: Kind,
    },
    /// `complete_many` of all handles of one kind. Every second result is short.
    CompleteMany {
        kind: Kind,
        len: Len,
    },
    CompleteByKey {
        #[arbitrary(with = key)]
        key: u8,
        len: Len,
    },
    AbandonByKey {
        #[arbitrary(with = key)]
        key: u8,
    },
    Forget {
        #[arbitrary(with = key)]
        key: u8,
    },
    Get {
        #[arbitrary(with = key)]
        key: u8,
    },
    /// `iter`; the status is one of five, or none.
    List {
        status: Option<u8>,
        #[arbitrary(with = tick)]
        older_than_ms: u16,
    },
    Tick {
        #[arbitrary(with = tick)]
        ms: u16,
    },
    /// The wall clock is set; the store must not react unless it moves forwards.
    StepBack {
        ms: u16,
    },
    Sweep,
    Settle,
    /// The store's numbers are compared, and again after everything is settled and swept.
    Count,
    Compact,
    /// A copy is made, suffers a power cut, and is opened and compared.
    Backup {
        seed: u64,
    },
    Reopen,
    /// SIGKILL: everything written survives, synced or not.
    Kill,
    /// Unsynced writes survive, are torn, or are lost.
    PowerCut {
        seed: u64,
    },
    /// While the disk is slow to sync: more starts of one scope than may wait, starts of the other
    /// scope, and an end or a checkpoint of everything that is executing.
    #[arbitrary(skip)]
    Flood(Flood),
}

/// The calls made while the disk is slow.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Flood {
    /// Which scope sends more than its share.
    pub scoped_is_loud: bool,
    /// Whether the ends come first.
    pub ends_first: bool,
    pub len: Len,
}

impl Op {
    fn is_dear(&self) -> bool {
        use Op::{Backup, Compact, Flood, Kill, PowerCut, Reopen};
        matches!(self, Backup { .. } | Compact | Flood(_) | Kill | PowerCut { .. } | Reopen)
    }
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Kind {
    Permit,
    Execution,
    Interrupted,
}

impl<'a> Arbitrary<'a> for Len {
    /// No byte, a few, about as many as need a separate row, and as many as the store accepts, or
    /// one more.
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match source.int_in_range(0..=7)? {
            0 => 0,
            1..=3 => source.int_in_range(1..=40)?,
            4 | 5 => source.int_in_range(500..=530)?,
            6 => LEN_MAX,
            _ => LEN_MAX + 1,
        }))
    }
}

/// An operation that begins with this byte is a flood. The numbers of the other operations did not
/// change when it was added, so the programs in the corpus kept their meaning.
const FLOOD: u8 = 74;

fn op(source: &mut Unstructured<'_>) -> Result<Op> {
    if source.peek_bytes(1) == Some(&[FLOOD]) {
        source.bytes(1)?;
        return Flood::arbitrary(source).map(Op::Flood);
    }
    Op::arbitrary(source)
}

fn key(source: &mut Unstructured<'_>) -> Result<u8> {
    source.int_in_range(0..=KEYS - 1)
}

fn request(source: &mut Unstructured<'_>) -> Result<u8> {
    source.int_in_range(0..=REQUESTS - 1)
}

fn retention(source: &mut Unstructured<'_>) -> Result<u64> {
    source.choose_iter([0, 1, 500, 2_500, u64::MAX])
}

/// Around the retention and its half.
fn tick(source: &mut Unstructured<'_>) -> Result<u16> {
    source.choose_iter([0, 1, 2, 499, 500, 999, 1_000, 1_001])
}

fn requests(source: &mut Unstructured<'_>) -> Result<Vec<Request>> {
    let len = source.int_in_range(0..=5_u8)?;
    (0..len).map(|_| Request::arbitrary(source)).collect()
}

/// The same operations with weights, for the test that generates them. The fuzzer doesn't need it.
#[cfg(not(fuzzing))]
pub mod random {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = u8> {
        0..KEYS
    }

    fn request() -> impl Strategy<Value = Request> {
        (key(), 0..REQUESTS).prop_map(|(key, request)| Request { key, request })
    }

    fn len() -> impl Strategy<Value = Len> {
        // Results of no bytes, of a few, of a separate row, and of more than the store accepts.
        prop_oneof![Just(0), 1..40_u16, 500..530_u16, Just(LEN_MAX), Just(LEN_MAX + 1)]
            .prop_map(Len)
    }

    fn run() -> impl Strategy<Value = Run> {
        let end = prop_oneof![
            2 => len().prop_map(|len| End::Done { len }),
            1 => Just(End::DidNotHappen),
            1 => Just(End::Unknown),
            1 => Just(End::Panic),
        ];
        (prop::option::of(len()), end).prop_map(|(checkpoint, end)| Run { checkpoint, end })
    }

    fn shared() -> impl Strategy<Value = Shared> {
        let end = prop_oneof![
            3 => Just(SharedEnd::Commit),
            1 => Just(SharedEnd::Refuse),
            1 => Just(SharedEnd::Panic),
            1 => Just(SharedEnd::Reserved),
        ];
        (key(), any::<u8>(), end).prop_map(|(row, value, end)| Shared { row, value, end })
    }

    fn with_handle() -> impl Strategy<Value = Op> {
        let handle = || any::<u8>();
        let retention = prop_oneof![Just(0), 1..3_000_u64, Just(u64::MAX)];
        prop_oneof![
            8 => handle().prop_map(|handle| Op::Start { handle }),
            2 => (handle(), retention).prop_map(|(handle, ms)| Op::Retain { handle, ms }),
            4 => (handle(), len()).prop_map(|(handle, len)| Op::Checkpoint { handle, len }),
            8 => (handle(), len()).prop_map(|(handle, len)| Op::Complete { handle, len }),
            2 => (handle(), len()).prop_map(|(handle, len)| Op::NotKept { handle, len }),
            2 => handle().prop_map(|handle| Op::Abandon { handle }),
            2 => handle().prop_map(|handle| Op::Detach { handle }),
            2 => handle().prop_map(|handle| Op::Drop { handle }),
            2 => (handle(), run()).prop_map(|(handle, run)| Op::RunHandle { handle, run }),
            2 => (handle(), len(), shared())
                .prop_map(|(handle, len, shared)| Op::CompleteWith { handle, len, shared }),
        ]
    }

    fn of_many() -> impl Strategy<Value = Op> {
        let kind =
            || prop_oneof![Just(Kind::Permit), Just(Kind::Execution), Just(Kind::Interrupted)];
        prop_oneof![
            prop::collection::vec(request(), 0..6).prop_map(|requests| Op::BeginMany { requests }),
            kind().prop_map(|kind| Op::StartMany { kind }),
            (kind(), len()).prop_map(|(kind, len)| Op::CompleteMany { kind, len }),
        ]
    }

    fn by_key() -> impl Strategy<Value = Op> {
        prop_oneof![
            12 => request().prop_map(Op::Begin),
            2 => (request(), run()).prop_map(|(request, run)| Op::Run { request, run }),
            2 => (key(), len()).prop_map(|(key, len)| Op::CompleteByKey { key, len }),
            1 => key().prop_map(|key| Op::AbandonByKey { key }),
            2 => key().prop_map(|key| Op::Forget { key }),
            2 => key().prop_map(|key| Op::Get { key }),
        ]
    }

    fn of_all() -> impl Strategy<Value = Op> {
        let ms = || prop_oneof![0..3_u16, 400..600_u16, Just(999), Just(1000), Just(1001)];
        prop_oneof![
            6 => ms().prop_map(|ms| Op::Tick { ms }),
            2 => any::<u16>().prop_map(|ms| Op::StepBack { ms }),
            2 => (prop::option::of(any::<u8>()), ms())
                .prop_map(|(status, older_than_ms)| Op::List { status, older_than_ms }),
            2 => shared().prop_map(Op::Write),
            4 => Just(Op::Sweep),
            4 => Just(Op::Settle),
            2 => Just(Op::Count),
            1 => Just(Op::Compact),
            1 => any::<u64>().prop_map(|seed| Op::Backup { seed }),
            2 => Just(Op::Reopen),
            2 => Just(Op::Kill),
            2 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
        ]
    }

    fn flood() -> impl Strategy<Value = Op> {
        (any::<bool>(), any::<bool>(), len()).prop_map(|(scoped_is_loud, ends_first, len)| {
            Op::Flood(Flood { scoped_is_loud, ends_first, len })
        })
    }

    pub fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            21 => by_key(),
            34 => with_handle(),
            4 => of_many(),
            15 => of_all(),
            2 => flood(),
        ]
    }
}
