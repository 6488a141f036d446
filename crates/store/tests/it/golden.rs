//! The stored form of events, held against files: one for each version that ever was.
//!
//! When this fails, the stored form has changed. Give it a new version (`EVENT_VERSION`), keep the old file and read it. A new
//! kind of event alone is an addition: `OVERNIGHT_WRITE_GOLDEN=1` writes the file anew; see in its diff that only lines were added.

use std::path::PathBuf;

use domain::{
    Fault,
    brief::{AgentChoice, Fallback, Login},
    check::{BlobId, CheckSpec, Judged, Risk, Tier, Verdict},
    environment::{EnvironmentId, EnvironmentUse, Health},
    event::{EVENT_VERSION, Event, Fork},
    ids::{AttemptKey, AttemptNo, CommandId, CommentId, RequestId, TaskId, TurnNo},
    ports::{
        agent::{TurnConclusion, TurnEnd},
        egress::Refusal,
        store::Store,
        workspace::{DiffStat, Landing, Snapshot},
    },
    profile::Profile,
    task::Timer,
};
use rusqlite::Connection;

use crate::sample::{at, commit_id, envelope, open, submission, submit};

#[tokio::test]
async fn events_are_stored_as_in_the_golden_file_and_read_back() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path());
    let events = every_event();
    let (task, mut commit) = submit(TaskId(1), "event 1");
    for (seq, event) in (1..).zip(&events) {
        commit.expected_seq = seq - 1;
        commit.envelope = envelope(seq, &format!("event {seq}"), event.clone());
        commit.state.seq = seq;
        commit.issued.clear();
        store.commit(commit.clone()).await.unwrap();
    }
    let read = store.journal(task.id, 0, 1000).await.unwrap();
    assert_eq!(read.iter().map(|event| event.envelope.event.clone()).collect::<Vec<_>>(), events);

    let stored: String = Connection::open(home.path().join("overnight.db"))
        .unwrap()
        .prepare("SELECT envelope FROM events ORDER BY seq")
        .unwrap()
        .query_map([], |row| row.get::<_, String>(0))
        .unwrap()
        .map(|line| line.unwrap() + "\n")
        .collect();
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/events-v{EVENT_VERSION}.jsonl"));
    if std::env::var_os("OVERNIGHT_WRITE_GOLDEN").is_some() {
        std::fs::write(&file, &stored).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap();
    for (line, (stored, golden)) in (1..).zip(stored.lines().zip(golden.lines())) {
        assert_eq!(stored, golden, "{}:{line}", file.display());
    }
    assert_eq!(stored.lines().count(), golden.lines().count(), "{}", file.display());
}

/// Every kind of event, and every kind of what is inside. A new kind does not compile here until `follows` knows it.
fn every_event() -> Vec<Event> {
    let mut events = vec![Event::Submitted(submission())];
    while let Some(next) = follows(events.last().unwrap()) {
        events.extend(next);
    }
    events
}

/// The examples of the kind after this one's.
fn follows(event: &Event) -> Option<Vec<Event>> {
    let command = CommandId(3);
    let request = RequestId(2);
    let (attempt, turn) = (AttemptNo(1), TurnNo(2));
    let text = || "mind the docs".to_owned();
    Some(match event {
        Event::Submitted(_) => {
            let detected = vec![CheckSpec {
                name: "test".to_owned(),
                timeout_s: Some(60),
                ..CheckSpec::from_command("make test")
            }];
            vec![Event::WorkspaceReady { command, detected, environment: None }]
        }
        Event::WorkspaceReady { .. } => turn_ends(),
        Event::TurnEnded { .. } => {
            let stat = DiffStat { files: 1, added: 2, deleted: 3 };
            vec![Event::SnapshotTaken { command, snapshot: Snapshot { commit: commit_id(7), empty: false, stat } }]
        }
        Event::SnapshotTaken { .. } => verdicts(),
        Event::ChecksRan { .. } => landings(),
        Event::LandingDone { .. } => vec![Event::Done { command }],
        Event::Done { .. } => {
            let fault = Fault::environment("the disk is full").hint("free some disk space");
            vec![Event::CommandFailed { command, fault }]
        }
        Event::CommandFailed { .. } => {
            vec![Event::CommentsDelivered { attempt, turn, round: 4, comments: vec![CommentId(1), CommentId(2)] }]
        }
        Event::CommentsDelivered { .. } => [Some(75), None]
            .map(|percent| Event::Progressed { attempt, turn, percent, text: "tests are written".to_owned() })
            .into(),
        Event::Progressed { .. } => [
            Timer::Command(command),
            Timer::Person(request),
            Timer::Rest(attempt),
            Timer::Deadline,
            Timer::Closing,
            Timer::Purge,
        ]
        .map(|timer| Event::TimerFired { timer })
        .into(),
        Event::TimerFired { .. } => vec![Event::CommentAdded { text: text(), by_hand: false }],
        Event::CommentAdded { .. } => vec![Event::QuestionAnswered { request, answer: "the second".to_owned() }],
        Event::QuestionAnswered { .. } => vec![Event::PlanApproved { request }],
        Event::PlanApproved { .. } => vec![Event::PlanRefined { request, text: text() }],
        Event::PlanRefined { .. } => {
            let accept = vec![Risk::NotGreen, Risk::ProtectedPaths, Risk::MissingTests];
            vec![Event::Approved { head: commit_id(7), accept }]
        }
        Event::Approved { .. } => vec![Event::Rejected { why: Some("not wanted any more".to_owned()) }],
        Event::Rejected { .. } => vec![Event::CancelRequested { why: None }],
        Event::CancelRequested { .. } => vec![Event::RetryRequested],
        Event::RetryRequested => vec![Event::RestoreRequested],
        Event::RestoreRequested => later_forms(),
        Event::WorkedByHand { .. } => {
            let refusal = Refusal {
                host: "pypi.example".to_owned(),
                port: 443,
                why: "not on the allow-list".to_owned(),
                entry: Some("pypi.example".to_owned()),
                by: Some("pip install six".to_owned()),
            };
            vec![Event::EgressRefused { attempt, refusal }]
        }
        Event::EgressRefused { .. } => forms_of_agents(),
        Event::Rewound { .. } => return None,
    })
}

/// Forms that earlier kinds have taken on since.
fn later_forms() -> Vec<Event> {
    let (command, attempt) = (CommandId(3), AttemptNo(1));
    let slow = CheckSpec { tier: Tier::Slow, ..CheckSpec::from_command("make slow") };
    let used = |health, layer| EnvironmentUse { layer, health, note: Some("an older one serves".to_owned()) };
    let unhealthy = Health::Unhealthy { why: "make test exits with 2".to_owned(), log: Some(BlobId("c".repeat(64))) };
    let snapshot = Snapshot { commit: commit_id(9), empty: false, stat: DiffStat { files: 1, added: 1, deleted: 0 } };
    let mut events = vec![Event::CommentAdded { text: "1 file changed by hand".to_owned(), by_hand: true }];
    for environment in [
        used(Health::Healthy, EnvironmentId::parse(&"d".repeat(32))),
        used(unhealthy, EnvironmentId::parse(&"e".repeat(32))),
        used(Health::Unknown, None),
    ] {
        let detected = vec![slow.clone()];
        events.push(Event::WorkspaceReady { command, detected, environment: Some(environment) });
    }
    let note = "1 file changed by hand".to_owned();
    events.push(Event::WorkedByHand { attempt, from: commit_id(7), snapshot, note });
    events
}

/// Forms that came with agents of every kind.
fn forms_of_agents() -> Vec<Event> {
    let snapshot = Snapshot { commit: commit_id(9), empty: false, stat: DiffStat { files: 1, added: 1, deleted: 0 } };
    let text = || "try it with a queue".to_owned();
    let mut submission = submission();
    submission.brief.agent = AgentChoice { name: "codex".to_owned(), argv: Vec::new(), login: Login::Own };
    submission.brief.fallbacks = vec![Fallback { agent: Some("builtin".to_owned()), model: None }];
    submission.brief.profile = Some("implementer".to_owned());
    submission.brief.critic = Some("anthropic/other-model".to_owned());
    submission.profile = Some(Profile { name: "implementer".to_owned(), max_rounds: Some(40), ..Profile::default() });
    let from = AttemptKey { task: TaskId(1), attempt: AttemptNo(2) };
    submission.fork = Some(Fork { from, turn: TurnNo(3), snapshot: snapshot.clone(), text: text() });
    let why = || "out of quota".to_owned();
    let (question, choices) = ("Which one?".to_owned(), vec!["the first".to_owned(), "the second".to_owned()]);
    let conclusions = [
        TurnConclusion::Asked { question, choices, default: Some("the first".to_owned()) },
        TurnConclusion::Held { why: why(), until: at(3600) },
        TurnConclusion::Stalled { why: why() },
    ];
    let ended = conclusions.map(|conclusion| {
        let end = TurnEnd { conclusion, summary: String::new(), rounds: 3 };
        Event::TurnEnded { command: CommandId(3), end, report: None }
    });
    let rewound = [Some(text()), None].map(|text| Event::Rewound {
        attempt: AttemptNo(1),
        turn: TurnNo(2),
        snapshot: snapshot.clone(),
        text,
    });
    [Event::Submitted(submission)].into_iter().chain(ended).chain(rewound).collect()
}

fn turn_ends() -> Vec<Event> {
    let why = || "the provider refuses the key".to_owned();
    [
        TurnConclusion::Finished,
        TurnConclusion::Asked {
            question: "Which one?".to_owned(),
            choices: vec!["the first".to_owned()],
            default: None,
        },
        TurnConclusion::Interrupted,
        TurnConclusion::OutOfBudget { why: why() },
        TurnConclusion::OutOfRounds,
        TurnConclusion::DeadEnd { why: why() },
        TurnConclusion::Failed { why: why() },
    ]
    .map(|conclusion| {
        let report = (conclusion == TurnConclusion::Finished).then(|| BlobId("a".repeat(64)));
        let end = TurnEnd { conclusion, summary: "All is well — nearly.".to_owned(), rounds: 3 };
        Event::TurnEnded { command: CommandId(3), end, report }
    })
    .into()
}

fn verdicts() -> Vec<Event> {
    [Verdict::Green, Verdict::Red, Verdict::Inconclusive]
        .map(|verdict| {
            let judged = Judged {
                verdict,
                risks: if verdict == Verdict::Green { Vec::new() } else { vec![Risk::NotGreen] },
                fingerprint: "f1".to_owned(),
                digest: "test it_holds ... FAILED\n\u{1b}[31mleft: \"1\"".to_owned(),
                detail: BlobId("b".repeat(64)),
            };
            Event::ChecksRan { command: CommandId(3), judged }
        })
        .into()
}

fn landings() -> Vec<Event> {
    [
        Landing::Landed { target: "main".to_owned(), commit: commit_id(8) },
        Landing::LeftOnBranch {
            branch: "overnight/T-1".to_owned(),
            commit: commit_id(8),
            hint: "git merge overnight/T-1".to_owned(),
            why: "the work tree is not clean".to_owned(),
        },
        Landing::Moved { combined: commit_id(9), target_head: commit_id(10) },
        Landing::Conflict { paths: vec!["src/lib.rs".to_owned()], target_head: commit_id(10) },
    ]
    .map(|landing| Event::LandingDone { command: CommandId(3), landing })
    .into()
}
