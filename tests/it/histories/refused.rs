//! The checker itself: it refuses what the contract does not allow, and nothing else.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::histories::{ALWAYS, record, simulated};
use crate::support::history::round::End;
use crate::support::history::spec::{
    Aim, Answer, Ask, Change, Facts, Info, Refusal, State, Status, Step,
};
use crate::support::history::{Event, History, Shown, linear};
use crate::support::{RETENTION_MS, size};

/// The facts of an operation that was begun when the clock showed 0.
const FIRST: Facts = Facts { begun: 0, expires: RETENTION_MS, attempt: 1, progress: None };
const SECOND: Facts = Facts { attempt: 2, ..FIRST };
const SAVED: Facts = Facts { progress: Some(5), ..FIRST };

const ALMOST: Step = Step::Tick(RETENTION_MS - 1);
const OVER: Step = Step::Tick(RETENTION_MS);
const OPEN: Step = Step::Open;
const FREE: Step = Step::Get(None);
const HELD: Step = Step::Refused(Aim::Execution, Refusal::Held);
const NOT_EXECUTING: Step = Step::Refused(Aim::Execution, Refusal::Nothing);
const NOTHING_TO_FORGET: Step = Step::Refused(Aim::Completed, Refusal::Either);
/// Result 7 through handle 1, when the retention was over.
const LATE: Step = Step::Change(1, Change::Complete(7), Some(RENEWED));
const RENEWED: Facts = Facts { expires: 2 * RETENTION_MS, ..FIRST };
const IN_FLIGHT: Step = begin(Answer::InFlight);
/// Handle 1 couldn't report whether result 7 is stored, and is gone.
const UNSURE: [Step; 2] = [Step::Unsure(1, Change::Complete(7)), let_go(1)];

const fn begin(answer: Answer) -> Step {
    Step::Begin(Ask { request: 0, waited: false }, answer)
}

const fn wait(answer: Answer) -> Step {
    Step::Begin(Ask { request: 0, waited: true }, answer)
}

/// A `begin` with another request.
const fn other(answer: Answer) -> Step {
    Step::Begin(Ask { request: 1, waited: false }, answer)
}

const fn fresh(handle: u64) -> Step {
    begin(Answer::Fresh(handle))
}

const fn interrupted(handle: u64, facts: Facts) -> Step {
    begin(Answer::Interrupted(handle, facts))
}

const fn replay(result: u64) -> Step {
    begin(Answer::Replay(FIRST, result))
}

const fn start(handle: u64, facts: Facts) -> Step {
    Step::Change(handle, Change::Start, Some(facts))
}

const fn save(handle: u64) -> Step {
    Step::Change(handle, Change::Checkpoint(5), Some(SAVED))
}

const fn complete(handle: u64, result: u64) -> Step {
    Step::Change(handle, Change::Complete(result), Some(FIRST))
}

const fn remove(handle: u64) -> Step {
    Step::Change(handle, Change::Remove, None)
}

const fn let_go(handle: u64) -> Step {
    Step::LetGo(handle)
}

const fn finish(handle: u64) -> Step {
    Step::Take(handle, Aim::Execution)
}

const fn forget(handle: u64) -> Step {
    Step::Take(handle, Aim::Completed)
}

const fn get(status: Status, attempts: u32) -> Step {
    Step::Get(Some(Info { status, attempts, progress: None }))
}

/// These steps, after a start through handle 1.
fn started(steps: &[Step]) -> Vec<Step> {
    [&[fresh(1), start(1, FIRST)], steps].concat()
}

/// Steps one after the other; or, if `at_once`, all of them begin before any of them ends.
fn history(steps: &[Step], at_once: bool) -> History {
    let mut now = 0;
    let event = |(thread, step): (usize, &Step)| {
        let (at, since) = (thread as u64, now);
        if let Step::Tick(to) = step {
            now = *to;
        }
        let (invoked, answered) = if at_once { (at, 100) } else { (2 * at, 2 * at + 1) };
        // Surfacing after a failed write is the only step that is optional.
        let certain = !matches!(step, Step::Surface(_));
        Event { invoked, answered, certain, thread, since, step: *step }
    };
    History::new(State::free(0), steps.iter().enumerate().map(event).collect())
}

fn right() -> Vec<Vec<Step>> {
    let (seen, mismatch) = (Status::Completed(7), other(Answer::Mismatch));
    vec![
        vec![fresh(1), let_go(1), other(Answer::Fresh(2))],
        vec![fresh(1), IN_FLIGHT, other(Answer::InFlight), complete(1, 7), replay(7), mismatch],
        vec![fresh(1), OPEN, fresh(2)],
        started(&[IN_FLIGHT, mismatch, get(Status::Executing, 1), HELD, complete(1, 7)]),
        started(&[complete(1, 7), get(seen, 1), NOT_EXECUTING, OVER, FREE, NOTHING_TO_FORGET]),
        started(&[let_go(1), interrupted(2, FIRST), start(2, SECOND), let_go(2)]),
        started(&[let_go(1), get(Status::Interrupted, 1), interrupted(2, FIRST)]),
        started(&[save(1), let_go(1), interrupted(2, SAVED), get_saved(), complete(2, 7)]),
        started(&[remove(1), FREE, fresh(2)]),
        started(&[Step::Detach(1), IN_FLIGHT, finish(2), complete(2, 7), replay(7)]),
        started(&[complete(1, 7), forget(2), IN_FLIGHT, remove(2), fresh(3)]),
        started(&[ALMOST, complete(1, 7), replay(7), OVER, other(Answer::Fresh(2))]),
        started(&[OVER, IN_FLIGHT, LATE, wait(Answer::Replay(RENEWED, 7)), replay_late()]),
        started(&[OVER, LATE, Step::Tick(2 * RETENTION_MS), fresh(2)]),
        started(&[OPEN, interrupted(2, FIRST)]),
        started(&[&UNSURE[..], &[Step::Surface(1), OPEN, replay(7)]].concat()),
        started(&[&UNSURE[..], &[Step::Surface(1), OPEN, interrupted(2, FIRST)]].concat()),
    ]
}

fn replay_late() -> Step {
    begin(Answer::Replay(RENEWED, 7))
}

fn get_saved() -> Step {
    Step::Get(Some(Info { status: Status::Reserved, attempts: 1, progress: Some(5) }))
}

/// A caller gets a wrong answer about who holds the key.
fn wrong_holders() -> Vec<(&'static str, Vec<Step>)> {
    let run_again = [let_go(1), OVER, fresh(2), let_go(2), interrupted(3, FIRST)];
    vec![
        ("two callers have it", vec![fresh(1), fresh(2)]),
        ("two find out", started(&[let_go(1), interrupted(2, FIRST), interrupted(3, FIRST)])),
        ("in flight, and nobody has it", vec![IN_FLIGHT]),
        ("in flight, and let go of", vec![fresh(1), let_go(1), IN_FLIGHT]),
        ("a handle goes on that is gone", vec![fresh(1), let_go(1), start(1, FIRST)]),
        ("in hand, and free", vec![fresh(1), FREE]),
        ("in hand, and given to a waiter", vec![fresh(1), wait(Answer::Fresh(2))]),
        ("in hand, and free when its retention is over", started(&[OVER, fresh(2)])),
        ("in hand, and finished by its key", started(&[finish(2)])),
        ("in hand, and forgotten", started(&[forget(2)])),
        ("running, and interrupted", started(&[get(Status::Interrupted, 1)])),
        ("detached, and not executing", started(&[Step::Detach(1), NOT_EXECUTING])),
        ("interrupted, and not executing", started(&[let_go(1), NOT_EXECUTING])),
        ("completed, and held", started(&[complete(1, 7), HELD])),
        ("begun anew, and its older record is back", started(&run_again)),
    ]
}

/// A caller gets a wrong answer about what is stored.
fn wrong_records() -> Vec<(&'static str, Vec<Step>)> {
    let early = [ALMOST, complete(1, 7), other(Answer::Fresh(2))];
    let same = other(Answer::Replay(FIRST, 7));
    vec![
        ("completed late, and free", started(&[OVER, LATE, fresh(2)])),
        ("completed late without a new retention", started(&[OVER, complete(1, 7)])),
        ("completed in time with a new retention", started(&[ALMOST, LATE])),
        ("another result", started(&[complete(1, 7), replay(8)])),
        ("a result too early", started(&[replay(7)])),
        ("completed, and free", started(&[complete(1, 7), fresh(2)])),
        ("completed twice", started(&[complete(1, 7), complete(1, 8)])),
        ("completed, and interrupted", started(&[complete(1, 7), interrupted(2, FIRST)])),
        ("completed, and nothing to forget", started(&[complete(1, 7), NOTHING_TO_FORGET])),
        ("interrupted, and free", started(&[let_go(1), fresh(2)])),
        ("abandoned, and interrupted", started(&[remove(1), interrupted(2, FIRST)])),
        ("an attempt twice", started(&[let_go(1), interrupted(2, FIRST), start(2, FIRST)])),
        ("an attempt too many", started(&[let_go(1), interrupted(2, SECOND)])),
        ("a checkpoint lost", started(&[save(1), let_go(1), interrupted(2, FIRST)])),
        ("the same request, and a mismatch", started(&[complete(1, 7), begin(Answer::Mismatch)])),
        ("another request, and a replay", started(&[complete(1, 7), same])),
        ("not started, and a mismatch", vec![fresh(1), other(Answer::Mismatch)]),
        ("free before its retention is over", started(&early)),
        ("replayed when its retention is over", started(&[complete(1, 7), OVER, replay(7)])),
        ("begun at another time", vec![Step::Tick(5), fresh(1), start(1, FIRST)]),
    ]
}

/// A caller gets a wrong answer after a restart, or too early.
fn wrong_restarts() -> Vec<(&'static str, Vec<Step>)> {
    let (early, late) = ([replay(7), Step::Surface(1)], [Step::Surface(1), OPEN]);
    let twice = [interrupted(2, FIRST), let_go(2), replay(7)];
    vec![
        ("a start lost", started(&[OPEN, fresh(2)])),
        ("a result lost", started(&[complete(1, 7), OPEN, interrupted(2, FIRST)])),
        ("in flight, and nobody is left", started(&[OPEN, IN_FLIGHT])),
        ("a handle of before goes on", started(&[OPEN, complete(1, 7)])),
        ("unknown, and given out", started(&[&UNSURE[..], &[interrupted(2, FIRST)]].concat())),
        ("unknown, and told before the open", started(&[&UNSURE[..], &early].concat())),
        ("unknown, and told both", started(&[&UNSURE[..], &late, &twice].concat())),
        ("unknown, and another", started(&[&UNSURE[..], &late, &[replay(8)]].concat())),
    ]
}

#[test]
fn a_history_that_keeps_the_contract_is_explained() {
    for steps in right() {
        for at_once in [false, true] {
            let history = history(&steps, at_once);
            if let Err(refused) = history.check() {
                panic!("{}", Shown(&history, &refused));
            }
        }
    }
}

#[test]
fn a_history_that_breaks_the_contract_is_refused() {
    for (what, steps) in [wrong_holders(), wrong_records(), wrong_restarts()].concat() {
        let refused = history(&steps, false).check().expect_err(what);
        assert!(!refused.given_up, "{what}");
        // Without its last step, the history keeps the contract.
        let mut before = steps.clone();
        let last = steps.iter().rposition(|step| !matches!(step, Step::Surface(_)));
        before.remove(last.expect("there is a step"));
        assert!(history(&before, false).check().is_ok(), "{what}: it is wrong before that");
    }
}

#[test]
fn a_search_that_takes_too_long_is_no_proof() {
    let history = history(&[[FREE; 20].as_slice(), &[replay(7)]].concat(), true);
    let refused = linear::check(history.initial, &history.events, 1_000);
    assert!(refused.expect_err("a replay of nothing").given_up);
}

/// False answers to replace this one, by name, and whether no order of any history explains them.
fn falsified(step: Step) -> Vec<(&'static str, bool, Step)> {
    let other = |facts: Facts| Facts { attempt: facts.attempt + 1, ..facts };
    match step {
        Step::Begin(ask, answer) => {
            let (fresh, step) = (Answer::Fresh(0), |answer| Step::Begin(ask, answer));
            match answer {
                Answer::Fresh(handle) => vec![
                    ("fresh is in flight", false, step(Answer::InFlight)),
                    ("fresh is interrupted", true, step(Answer::Interrupted(handle, FIRST))),
                ],
                Answer::InFlight => vec![("in flight is fresh", false, step(fresh))],
                Answer::Mismatch => {
                    let same = Ask { request: 1 - ask.request, ..ask };
                    vec![("a mismatch is none", false, Step::Begin(same, answer))]
                }
                Answer::Replay(facts, result) => vec![
                    ("a replay is fresh", false, step(fresh)),
                    ("another result", true, step(Answer::Replay(facts, !result))),
                    ("another attempt", true, step(Answer::Replay(other(facts), result))),
                ],
                Answer::Interrupted(handle, facts) => {
                    let lost = Facts { progress: Some(0), ..facts };
                    vec![
                        ("interrupted is fresh", false, step(Answer::Fresh(handle))),
                        // A retry whose write failed may have surfaced at the open.
                        (
                            "one attempt more",
                            false,
                            step(Answer::Interrupted(handle, other(facts))),
                        ),
                        ("another checkpoint", true, step(Answer::Interrupted(handle, lost))),
                    ]
                }
            }
        }
        Step::Change(handle, change, Some(facts)) => {
            let early = Facts { begun: 0, ..facts };
            vec![
                ("another attempt", true, Step::Change(handle, change, Some(other(facts)))),
                ("another time", true, Step::Change(handle, change, Some(early))),
                // The clock already showed 0 before.
                ("a change was not made", false, Step::Tick(0)),
            ]
        }
        Step::Get(Some(info @ Info { status: Status::Completed(result), .. })) => {
            let status = Status::Completed(!result);
            vec![("another result", true, Step::Get(Some(Info { status, ..info })))]
        }
        _ => Vec::new(),
    }
}

#[test]
fn a_recorded_history_with_one_false_answer_is_refused() {
    // For each kind: how many histories were falsified, and how many of them were refused.
    let counts = RefCell::new(BTreeMap::<_, (u64, u64)>::new());
    let ends = [End::Rest, End::Kill];
    record(size("HISTORY_FALSE_OPS", 2_000), &ALWAYS, &ends, simulated, |history| {
        for (at, event) in history.events.iter().enumerate().filter(|(_, event)| event.certain) {
            for (name, is_certain, step) in falsified(event.step) {
                let mut history = history.clone();
                history.events[at].step = step;
                let is_refused = history.check().is_err_and(|refused| !refused.given_up);
                assert!(is_refused || !is_certain, "{name}, {at}: {history:#?}");
                let mut counts = counts.borrow_mut();
                let (made, refused) = counts.entry(name).or_default();
                (*made, *refused) = (*made + 1, *refused + u64::from(is_refused));
            }
        }
    });
    let counts = counts.into_inner();
    assert_eq!(counts.len(), 12, "{counts:#?}");
    for (name, (made, refused)) in &counts {
        // A falsified answer may go unnoticed if no later call depends on it.
        assert!(2 * made <= 3 * refused, "of {made} only {refused} were refused: {name}");
    }
}
