//! Every kind of event that can reach a task in its present state: what the picture is drawn from and the property tests draw from.

use crate::{
    Fault,
    check::{BlobId, Judged, Risk, Verdict},
    command::Command,
    event::Event,
    ids::{CommandId, CommentId, CommitId, RequestId},
    ports::{
        agent::{Mode, TurnConclusion, TurnEnd},
        egress::Refusal,
        workspace::{DiffStat, Landing, Snapshot},
    },
    task::{Status, Task},
};

/// An event with the words that tell it from others of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// The event's name, with what matters in brackets: `checks_ran(red)`.
    pub label: String,
    pub event: Event,
    /// Whether a person says it.
    pub said: bool,
}

fn letter(detail: &str, event: Event) -> Letter {
    let name = event.name();
    let label = if detail.is_empty() { name.to_owned() } else { format!("{name}({detail})") };
    Letter { label, said: event.is_said(), event }
}

/// A commit name made of one number, for states that are thought of and not met.
pub fn commit(number: u64) -> CommitId {
    CommitId::parse(&format!("{number:040x}")).unwrap_or_else(|| unreachable!("forty hexadecimal digits"))
}

/// All letters for `task`, in a fixed order.
pub fn letters(task: &Task) -> Vec<Letter> {
    let mut letters = Vec::new();
    for (id, command) in &task.in_flight {
        completions(task, *id, command, &mut letters);
    }
    for timer in task.timers.keys() {
        letters.push(letter(timer.name(), Event::TimerFired { timer: timer.clone() }));
    }
    people(task, &mut letters);
    letters
}

fn completions(task: &Task, id: CommandId, command: &Command, letters: &mut Vec<Letter>) {
    match command {
        Command::PrepareWorkspace { .. } => {
            letters.push(letter("", Event::WorkspaceReady { command: id, detected: Vec::new(), environment: None }));
            let fault = Fault::input("the base is gone");
            letters.push(letter("hopeless", Event::CommandFailed { command: id, fault }));
        }
        Command::StartTurn { attempt, turn, mode, .. } => {
            for (word, conclusion) in conclusions() {
                let report = (*mode == Mode::Report).then(|| BlobId("0".repeat(64)));
                let end = TurnEnd { conclusion, summary: "words".to_owned(), rounds: 3 };
                letters.push(letter(word, Event::TurnEnded { command: id, end, report }));
            }
            let (attempt, turn) = (*attempt, *turn);
            let comments: Vec<CommentId> = task.comments.iter().map(|comment| comment.id).collect();
            letters.push(letter("", Event::CommentsDelivered { attempt, turn, round: 2, comments }));
            let refusal = Refusal {
                host: "pypi.example".to_owned(),
                port: 443,
                why: "not on the allow-list".to_owned(),
                entry: Some("pypi.example".to_owned()),
                by: None,
            };
            letters.push(letter("", Event::EgressRefused { attempt, refusal }));
            let text = "halfway".to_owned();
            letters.push(letter("", Event::Progressed { attempt, turn, percent: Some(50), text }));
        }
        Command::TakeSnapshot { turn, .. } => {
            for (word, empty) in [("empty", true), ("changed", false)] {
                let stat = DiffStat { files: 1, added: 2, deleted: 1 };
                let snapshot = Snapshot { commit: commit(u64::from(turn.0) + u64::from(!empty) * 100), empty, stat };
                letters.push(letter(word, Event::SnapshotTaken { command: id, snapshot }));
            }
        }
        Command::RunChecks { .. } => {
            for verdict in [Verdict::Green, Verdict::Red, Verdict::Inconclusive] {
                letters.push(letter(verdict.word(), Event::ChecksRan { command: id, judged: judged(verdict) }));
            }
        }
        Command::Land { head, .. } => landings(id, head, letters),
        Command::Interrupt { .. }
        | Command::DeliverComment { .. }
        | Command::ReleaseWorkspace { .. }
        | Command::CleanUp { .. }
        | Command::Purge => letters.push(letter(command.name(), Event::Done { command: id })),
    }
    let fault = Fault::environment("the disk is full");
    letters.push(letter(command.name(), Event::CommandFailed { command: id, fault }));
}

fn conclusions() -> Vec<(&'static str, TurnConclusion)> {
    let why = || "because".to_owned();
    vec![
        ("finished", TurnConclusion::Finished),
        ("asked", TurnConclusion::Asked { question: "which?".to_owned(), choices: Vec::new(), default: None }),
        (
            "asked_with_default",
            TurnConclusion::Asked {
                question: "which?".to_owned(),
                choices: Vec::new(),
                default: Some("this".to_owned()),
            },
        ),
        ("interrupted", TurnConclusion::Interrupted),
        ("out_of_budget", TurnConclusion::OutOfBudget { why: why() }),
        ("out_of_rounds", TurnConclusion::OutOfRounds),
        ("dead_end", TurnConclusion::DeadEnd { why: why() }),
        ("failed", TurnConclusion::Failed { why: why() }),
        ("held", TurnConclusion::Held { why: why(), until: jiff::Timestamp::UNIX_EPOCH }),
        ("stalled", TurnConclusion::Stalled { why: why() }),
    ]
}

fn judged(verdict: Verdict) -> Judged {
    Judged {
        verdict,
        risks: if verdict == Verdict::Green { Vec::new() } else { vec![Risk::NotGreen] },
        fingerprint: if verdict == Verdict::Red { "same".to_owned() } else { String::new() },
        digest: "digest".to_owned(),
        detail: BlobId("1".repeat(64)),
    }
}

fn landings(id: CommandId, head: &CommitId, letters: &mut Vec<Letter>) {
    let target_head = commit(7);
    for (word, landing) in [
        ("landed", Landing::Landed { target: "main".to_owned(), commit: head.clone() }),
        (
            "left_on_branch",
            Landing::LeftOnBranch {
                branch: "overnight/T-1".to_owned(),
                commit: head.clone(),
                hint: "git merge overnight/T-1".to_owned(),
                why: "the work tree is dirty".to_owned(),
            },
        ),
        ("moved", Landing::Moved { combined: commit(8), target_head: target_head.clone() }),
        ("conflict", Landing::Conflict { paths: vec!["src/lib.rs".to_owned()], target_head }),
    ] {
        letters.push(letter(word, Event::LandingDone { command: id, landing }));
    }
}

fn worked_by_hand(task: &Task, letters: &mut Vec<Letter>) {
    let Some(attempt) = task.attempts.first() else { return };
    let at = attempt.snapshot.as_ref().map_or(&task.origin.base, |snapshot| &snapshot.commit);
    let stat = DiffStat { files: 1, added: 1, deleted: 0 };
    let snapshot = Snapshot { commit: commit(300), empty: false, stat };
    for (word, from) in [("", at.clone()), ("stale", commit(9))] {
        let (snapshot, note) = (snapshot.clone(), "1 file changed by hand".to_owned());
        letters.push(letter(word, Event::WorkedByHand { attempt: attempt.no, from, snapshot, note }));
    }
}

fn people(task: &Task, letters: &mut Vec<Letter>) {
    letters.push(letter("", Event::CommentAdded { text: "also mend the docs".to_owned(), by_hand: false }));
    letters.push(letter("by_hand", Event::CommentAdded { text: "2 files changed".to_owned(), by_hand: true }));
    worked_by_hand(task, letters);
    for (word, request) in [("", RequestId(task.last_request)), ("stale", RequestId(task.last_request + 1))] {
        letters.push(letter(word, Event::QuestionAnswered { request, answer: "the second".to_owned() }));
        letters.push(letter(word, Event::PlanApproved { request }));
        letters.push(letter(word, Event::PlanRefined { request, text: "smaller".to_owned() }));
    }
    let head = match &task.status {
        Status::AwaitingReview(review) => review.head.clone(),
        Status::Working | Status::Landing(_) | Status::Closing { .. } | Status::Ended { .. } => None,
    };
    let all = vec![Risk::NotGreen, Risk::ProtectedPaths, Risk::MissingTests];
    let seen = head.unwrap_or_else(|| commit(101));
    letters.push(letter("risks accepted", Event::Approved { head: seen.clone(), accept: all.clone() }));
    letters.push(letter("", Event::Approved { head: seen, accept: Vec::new() }));
    letters.push(letter("stale head", Event::Approved { head: commit(999), accept: all }));
    letters.push(letter("", Event::Rejected { why: None }));
    letters.push(letter("", Event::CancelRequested { why: None }));
    letters.push(letter("", Event::RetryRequested));
    letters.push(letter("", Event::RestoreRequested));
}
