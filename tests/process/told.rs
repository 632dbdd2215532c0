//! What the store reports about its work, to a `tracing` subscriber and a `metrics` recorder.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use idemstore::{CompleteError, Error};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, RETENTION_MS, Started};

/// Writes each event and each span as a line, with all of its fields.
#[derive(Clone, Default)]
struct Listener {
    lines: Arc<Mutex<Vec<String>>>,
    spans: Arc<AtomicU64>,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes it");
    }
}

impl Listener {
    fn note(&self, metadata: &Metadata<'_>, what: &str, record: impl FnOnce(&mut Line)) {
        assert_eq!(metadata.target(), "idemstore");
        let mut line = Line(format!("{} {what}", metadata.level()));
        record(&mut line);
        self.lines.lock().expect("nobody panics").push(line.0);
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "idemstore"
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let name = span.metadata().name();
        self.note(span.metadata(), &format!("[{name}]"), |line| span.record(line));
        Id::from_u64(1 + self.spans.fetch_add(1, Ordering::Relaxed))
    }

    fn event(&self, event: &Event<'_>) {
        self.note(event.metadata(), "", |line| event.record(line));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// A number, identified by its name and its labels.
fn numbers(snapshotter: &Snapshotter) -> BTreeMap<String, DebugValue> {
    let numbers = snapshotter.snapshot().into_vec().into_iter();
    let named = numbers.map(|(key, _, _, value)| {
        let key = key.key();
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        (format!("{}{}", key.name(), labels.collect::<String>()), value)
    });
    named.collect()
}

/// What the store reports while this runs: the lines, and the counts.
fn observe<T>(run: impl FnOnce() -> T) -> (T, Vec<String>, BTreeMap<String, DebugValue>) {
    let listener = Listener::default();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let ran = tracing::subscriber::with_default(listener.clone(), || {
        metrics::with_local_recorder(&recorder, run)
    });
    let lines = std::mem::take(&mut *listener.lines.lock().expect("nobody panics"));
    (ran, lines, numbers(&snapshotter))
}

/// Everything that the store reports while this runs, as text.
pub fn listen<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    let (ran, mut told, numbers) = observe(run);
    told.extend(numbers.into_iter().map(|(name, value)| format!("{name}: {value:?}")));
    (ran, told)
}

/// A store's life in which everything happens once or twice.
fn live() {
    let bench = Bench::new();
    let mut execution = bench.begin("k", "request").started();
    bench.begin("k", "request").in_flight();
    bench.begin("k", "another").mismatches();
    execution.checkpoint("half").expect("it is stored");
    execution.complete("result").expect("it completes");
    bench.begin("k", "request").replay();
    bench.begin("freed", "request").started().abandon().expect("it is freed");
    drop(bench.begin("left", "request").started());
    bench.store.settle().expect("it settles");
    drop(bench.begin("left", "request").interrupted());
    bench.store.stats().publish();
    bench.tick(RETENTION_MS);
    bench.store.sweep().expect("it sweeps");
    let fault = Fault { on: Op::Sync, after: 0, for_good: true, kind: std::io::ErrorKind::Other };
    bench.disk.fail(fault);
    let permit = bench.begin("lost", "request").fresh();
    let error = permit.complete("result").expect_err("the disk has failed");
    assert!(matches!(error, CompleteError::Store(Error::OutcomeUnknown(_))), "{error:?}");
}

#[test]
fn each_piece_of_work_is_told_in_its_order() {
    let ((), told, _) = observe(live);
    let commit = |bytes| {
        [format!("DEBUG [commit] changes=1 bytes={bytes}"), "DEBUG  message=committed".to_owned()]
    };
    let begin = |outcome: &str| vec![format!("DEBUG  message=begin outcome={outcome:?}")];
    let durable = |step: &str| format!("DEBUG  message=durable step={step:?}");
    let step = |name: &str, bytes| [commit(bytes).to_vec(), vec![durable(name)]].concat();
    let work = |level: &str, name: &str, fields: &str, end: &str| {
        vec![format!("{level} [{name}]{fields}"), format!("{level}  message={end}")]
    };
    let failed = "the outcome is unknown until the store is opened again: simulated";
    let expected = [
        work("INFO", "open", "", "opened records=0 recovered=0"),
        begin("fresh"),
        step("start", 53),
        begin("in_flight"),
        begin("mismatch"),
        step("checkpoint", 59),
        step("complete", 64),
        begin("replay"),
        begin("fresh"),
        step("start", 57),
        step("free", 57),
        begin("fresh"),
        step("start", 56),
        work("DEBUG", "settle", " changes=6", "settled"),
        begin("interrupted"),
        work("DEBUG", "sweep", "", "swept records=2"),
        begin("fresh"),
        vec![
            "DEBUG [commit] changes=1 bytes=1".to_owned(),
            "ERROR  message=poisoned error=simulated".to_owned(),
            format!("WARN  message=not durable step=\"complete\" error={failed}"),
        ],
    ]
    .concat();
    let without_bytes = |lines: Vec<String>| -> Vec<String> {
        let cut = |line: String| line.split(" bytes=").next().unwrap_or_default().to_owned();
        lines.into_iter().map(cut).collect()
    };
    let (told, expected) = (without_bytes(told), without_bytes(expected));
    for (at, line) in expected.iter().enumerate() {
        assert_eq!(told.get(at), Some(line), "line {at} of {told:#?}");
    }
    // The store is ending and settles nothing more.
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn each_number_is_counted_and_listed_with_its_unit() {
    let ((), _, numbers) = observe(live);
    let counters = [
        ("idemstore_begins_total outcome=fresh", 4),
        ("idemstore_begins_total outcome=in_flight", 1),
        ("idemstore_begins_total outcome=interrupted", 1),
        ("idemstore_begins_total outcome=mismatch", 1),
        ("idemstore_begins_total outcome=replay", 1),
        ("idemstore_poisoned_total", 1),
        ("idemstore_steps_total step=checkpoint outcome=durable", 1),
        ("idemstore_steps_total step=complete outcome=durable", 1),
        ("idemstore_steps_total step=complete outcome=error", 1),
        ("idemstore_steps_total step=free outcome=durable", 1),
        ("idemstore_steps_total step=start outcome=durable", 3),
        ("idemstore_swept_records_total", 2),
    ];
    for (name, count) in counters {
        assert_eq!(numbers.get(name), Some(&DebugValue::Counter(count)), "{name}: {numbers:#?}");
    }
    let gauges = [
        ("idemstore_live_keys", 2.0),
        ("idemstore_in_flight_keys", 0.0),
        ("idemstore_interrupted_keys", 1.0),
        ("idemstore_waited_for_keys", 0.0),
        ("idemstore_sweep_backlog_records", 0.0),
        ("idemstore_unsettled_changes", 0.0),
    ];
    for (name, value) in gauges {
        assert_eq!(numbers.get(name), Some(&DebugValue::Gauge(value.into())), "{name}");
    }
    let histograms =
        [("commit_seconds", 6), ("batch_changes", 6), ("settle_seconds", 1), ("open_seconds", 1)];
    for (name, count) in histograms {
        let Some(DebugValue::Histogram(values)) = numbers.get(&format!("idemstore_{name}")) else {
            panic!("{name}: {numbers:#?}")
        };
        assert_eq!(values.len(), count, "{name}");
    }
    // Each of them is documented, and the documentation lists no others.
    let docs = include_str!("../../docs/OBSERVABILITY.md");
    let listed = docs.lines().filter_map(|line| line.strip_prefix("| `idemstore_"));
    let listed = listed.filter_map(|line| line.split('`').next());
    // Those of the HTTP layer have their own tests.
    let mut listed: Vec<_> = listed.filter(|name| !name.starts_with("http_")).collect();
    let mut told: Vec<_> = numbers.keys().filter_map(|name| name.split(' ').next()).collect();
    told.dedup();
    listed.sort_unstable();
    let listed: Vec<_> = listed.iter().map(|name| format!("idemstore_{name}")).collect();
    assert_eq!(told, listed);
}

/// One request for each outcome of a handler, and for three problems.
#[cfg(feature = "tower")]
async fn requests() {
    use axum::extract::Request;
    use axum::http::StatusCode;
    use idemstore::http::{IdempotencyLayer, Scope};
    use tower::util::ServiceExt;

    let layer = IdempotencyLayer::new(
        idemstore::Store::in_memory().expect("it opens"),
        Scope::shared("tests"),
    );
    let handle = async |body: String| StatusCode::from_u16(body.parse().expect("it is a number"));
    let handle = async move |body: String| handle(body).await.expect("it is a status");
    let service = axum::Router::new().fallback(axum::routing::any(handle)).layer(layer);
    for (key, status) in [
        ("stored", "200"),
        ("stored", "200"),
        ("stored", "500"),
        ("freed", "400"),
        ("unknown", "504"),
        ("unknown", "504"),
        ("not a key", "200"),
    ] {
        let request = Request::post("/").header("Idempotency-Key", key);
        let request = request.body(axum::body::Body::from(status)).expect("it is a request");
        drop(service.clone().oneshot(request).await.expect("it cannot fail"));
    }
}

#[cfg(feature = "tower")]
#[test]
fn the_http_layer_counts_what_it_answers_and_has_each_number_from_the_start() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("it starts");
    let ((), told, numbers) = observe(|| runtime.block_on(requests()));
    let count = |name: &str| match numbers.get(name) {
        Some(DebugValue::Counter(count)) => *count,
        other => panic!("{name}: {other:?}"),
    };
    let responses = |outcome| count(&format!("idemstore_http_responses_total outcome={outcome}"));
    let outcomes = ["stored", "replayed", "freed", "interrupted", "left"].map(responses);
    assert_eq!(outcomes, [1, 1, 1, 1, 0]);
    let problems = |problem| count(&format!("idemstore_http_problems_total problem={problem}"));
    let problems = ["KeyReused", "Interrupted", "KeyMalformed", "InFlight"].map(problems);
    assert_eq!(problems, [1, 1, 1, 0]);
    let of_http = numbers.keys().filter(|name| name.starts_with("idemstore_http_"));
    assert_eq!(of_http.count(), 5 + 16, "each is there from the start");
    let said: Vec<_> = told
        .iter()
        .filter(|line| line.contains("message=response") || line.contains("message=problem"))
        .collect();
    assert_eq!(said.len(), 7, "{told:#?}");
    assert!(told.iter().any(|line| line == "DEBUG  message=problem problem=\"KeyReused\""));
    let docs = include_str!("../../docs/OBSERVABILITY.md");
    for name in ["responses_total", "problems_total"] {
        assert!(docs.contains(&format!("| `idemstore_http_{name}` | counter |")), "{name}");
    }
}

#[cfg(feature = "transaction")]
#[test]
fn a_completion_in_a_transaction_that_fails_is_counted() {
    let ((), _, numbers) = observe(|| {
        let bench = Bench::new();
        let permit = bench.begin("refused", "request").fresh();
        permit.complete_with(|_| Err::<&str, _>("no")).expect_err("it is refused");
        let permit = bench.begin("k", "request").fresh();
        let fault =
            Fault { on: Op::VaultSync, after: 0, for_good: true, kind: std::io::ErrorKind::Other };
        bench.disk.fail(fault);
        permit.complete_with(|_| Ok::<_, &str>("result")).expect_err("the disk has failed");
    });
    let failed = numbers.get("idemstore_steps_total step=complete outcome=error");
    // A refusal by the caller itself isn't a failure.
    assert_eq!(failed, Some(&DebugValue::Counter(1)), "{numbers:#?}");
}
