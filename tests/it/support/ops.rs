//! One alphabet of operations, for the model test and for the fuzzer.

use proptest::prelude::*;

/// Few keys and few requests, so that operations meet.
pub const KEYS: u8 = 4;
pub const REQUESTS: u8 = 2;

#[derive(Clone, Debug)]
pub enum Op {
    Begin {
        key: u8,
        request: u8,
    },
    /// `start` of a permit, `retry` of an interrupted operation.
    Start {
        handle: u8,
    },
    /// `complete`, or `resolve`.
    Complete {
        handle: u8,
        len: u16,
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
    CompleteByKey {
        key: u8,
        len: u16,
    },
    AbandonByKey {
        key: u8,
    },
    Tick {
        ms: u16,
    },
    /// The wall clock is set to another time; the store must not care unless it is forwards.
    StepBack {
        ms: u16,
    },
    Sweep,
    Settle,
    /// Everything is settled and swept, and the number of records is compared.
    Count,
    Reopen,
    /// SIGKILL: what was written is there, synced or not.
    Kill,
    /// What was not synced is there, is torn, or is not there.
    PowerCut {
        seed: u64,
    },
}

pub fn op() -> impl Strategy<Value = Op> {
    let key = 0..KEYS;
    // Results of no byte, of a few, of a row of their own, and of more than the store takes.
    let len = prop_oneof![Just(0), 1..40u16, 500..530u16, Just(16 * 1024), Just(16 * 1024 + 1)];
    prop_oneof![
        12 => (key.clone(), 0..REQUESTS).prop_map(|(key, request)| Op::Begin { key, request }),
        8 => any::<u8>().prop_map(|handle| Op::Start { handle }),
        8 => (any::<u8>(), len.clone()).prop_map(|(handle, len)| Op::Complete { handle, len }),
        2 => any::<u8>().prop_map(|handle| Op::Abandon { handle }),
        2 => any::<u8>().prop_map(|handle| Op::Detach { handle }),
        2 => any::<u8>().prop_map(|handle| Op::Drop { handle }),
        2 => (key.clone(), len).prop_map(|(key, len)| Op::CompleteByKey { key, len }),
        1 => key.prop_map(|key| Op::AbandonByKey { key }),
        3 => prop_oneof![0..3u16, 400..600u16, Just(999), Just(1000), Just(1001)]
            .prop_map(|ms| Op::Tick { ms }),
        1 => any::<u16>().prop_map(|ms| Op::StepBack { ms }),
        2 => Just(Op::Sweep),
        2 => Just(Op::Settle),
        1 => Just(Op::Count),
        1 => Just(Op::Reopen),
        1 => Just(Op::Kill),
        1 => any::<u64>().prop_map(|seed| Op::PowerCut { seed }),
    ]
}
