//! Real tasks for the store to hold: made and moved on by the real `step`.

use std::{path::Path, sync::Arc};

use domain::{
    brief::Brief,
    check::{BlobId, CheckSpec, Judged, Risk, Verdict},
    command::Command,
    event::{Envelope, Event, Submission},
    ids::{Actor, AttemptKey, AttemptNo, CommitId, RepositoryId, TaskId, TurnNo, Via},
    ports::{
        Clock,
        agent::{Entry, EntryBody, TurnConclusion, TurnEnd},
        sandbox::Confinement,
        store::Commit,
        workspace::{DiffStat, Origin, Repository, Snapshot},
    },
    step,
    task::Task,
};
use jiff::{SignedDuration, Timestamp};

/// A clock that stands still.
pub struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        at(0)
    }
}

pub fn options(home: &Path) -> store::Options {
    store::Options { home: home.to_owned(), clock: Arc::new(Still) }
}

pub fn open(home: &Path) -> Arc<store::Store> {
    store::Store::open(options(home)).unwrap()
}

pub fn at(second: u64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_secs(second as i64)
}

pub fn commit_id(number: u64) -> CommitId {
    CommitId::parse(&format!("{number:040x}")).unwrap()
}

pub fn attempt(task: u64, attempt: u32) -> AttemptKey {
    AttemptKey { task: TaskId(task), attempt: AttemptNo(attempt) }
}

pub fn output(text: &str) -> Entry {
    Entry { turn: TurnNo(1), round: 1, body: EntryBody::Output { text: text.to_owned() } }
}

pub fn submission() -> Submission {
    let brief = Brief {
        goal: "Handle the overflow in insert_many\n\nThe length must not wrap around when the iterator lies."
            .to_owned(),
        acceptance: vec!["inserting past the capacity is an error".to_owned()],
        checks: vec![CheckSpec::from_command("cargo test")],
        max_corrections: u32::MAX,
        ..Brief::default()
    };
    let repository = Repository { id: RepositoryId("smallvec-0badcafe".to_owned()), path: "/home/ada/smallvec".into() };
    let target = Some("main".to_owned());
    let origin = Origin { repository, base: commit_id(1), target, notes: Vec::new() };
    Submission {
        brief,
        origin,
        model: Some("anthropic/some-model".to_owned()),
        confinement: Confinement::Confined,
        profile: None,
        fork: None,
    }
}

pub fn envelope(seq: u64, dedup: &str, event: Event) -> Envelope {
    let said = event.is_said();
    let actor = if said { Actor::Person("ada".to_owned()) } else { Actor::System };
    let via = if said { Via::CommandLine } else { Via::Engine };
    Envelope { seq, at: at(seq), dedup: dedup.to_owned(), actor, via, event }
}

/// A new task, and the commit that submits it.
pub fn submit(id: TaskId, dedup: &str) -> (Task, Commit) {
    let submission = submission();
    let envelope = envelope(1, dedup, Event::Submitted(submission.clone()));
    let (task, decision) = step::open(id, &envelope, &submission);
    let commit = commit(&task, envelope, decision);
    (task, commit)
}

/// Moves the task on by one event.
pub fn advance(task: &mut Task, dedup: &str, event: Event) -> Commit {
    let envelope = envelope(task.seq + 1, dedup, event);
    let decision = step::step(task, &envelope);
    commit(task, envelope, decision)
}

/// The task's journal so far, played again.
pub fn replay(id: TaskId, journal: &[Envelope]) -> Task {
    let Event::Submitted(submission) = &journal[0].event else { panic!("{id} does not begin with its submission") };
    let (mut task, _) = step::open(id, &journal[0], submission);
    for envelope in &journal[1..] {
        step::step(&mut task, envelope);
    }
    task
}

/// What the task's oldest command came to: it goes from turn to snapshot to red checks to the next turn, for ever.
pub fn next_event(task: &Task) -> Event {
    let (&command, what) = task.in_flight.first_key_value().unwrap();
    match what {
        Command::PrepareWorkspace { .. } => Event::WorkspaceReady { command, detected: Vec::new(), environment: None },
        Command::StartTurn { .. } => {
            let summary = "The length is checked before the elements are moved.".to_owned();
            let end = TurnEnd { conclusion: TurnConclusion::Finished, summary, rounds: 10 };
            Event::TurnEnded { command, end, report: None }
        }
        Command::TakeSnapshot { .. } => {
            let stat = DiffStat { files: 2, added: 31, deleted: 7 };
            Event::SnapshotTaken { command, snapshot: Snapshot { commit: commit_id(task.seq), empty: false, stat } }
        }
        Command::RunChecks { .. } => {
            let judged = Judged {
                verdict: Verdict::Red,
                risks: vec![Risk::NotGreen],
                fingerprint: format!("failure {}", task.seq),
                digest: "test tests::insert_many_overflow ... FAILED\n".repeat(20),
                detail: BlobId("5".repeat(64)),
            };
            Event::ChecksRan { command, judged }
        }
        _ => Event::Done { command },
    }
}

/// [`next_event`], applied.
pub fn next(task: &mut Task) -> Commit {
    let event = next_event(task);
    advance(task, &format!("event {}", task.seq + 1), event)
}

fn commit(task: &Task, envelope: Envelope, decision: step::Decision) -> Commit {
    Commit {
        task: task.id,
        expected_seq: envelope.seq - 1,
        envelope,
        receipt: decision.receipt,
        state: task.clone(),
        summary: task.summary(),
        issued: decision.issued,
        retired: decision.retired,
    }
}
