//! The picture of a task's life, found by walking every state that `step` can reach and drawn as a Mermaid state diagram.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::PathBuf,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    alphabet,
    brief::{Brief, Deliverable, Planning},
    command::Command,
    event::{Envelope, Event, Receipt, Submission},
    ids::{Actor, RepositoryId, TaskId, Via},
    ports::{
        sandbox::Confinement,
        workspace::{Origin, Repository},
    },
    step::{open, step},
    task::{Kept, LandingStage, Status, Task},
};

/// One arrow of the picture.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: String,
    pub to: String,
    pub label: String,
}

/// A task as it would be submitted, for walks of the state machine.
pub fn sample(brief: Brief) -> Task {
    let origin = Origin {
        repository: Repository { id: RepositoryId("sample".to_owned()), path: PathBuf::from("/sample") },
        base: alphabet::commit(1),
        target: Some("main".to_owned()),
        notes: Vec::new(),
    };
    let submission =
        Submission { brief, origin, model: None, confinement: Confinement::Confined, profile: None, fork: None };
    let envelope = Envelope {
        seq: 1,
        at: Timestamp::UNIX_EPOCH,
        dedup: "submit".to_owned(),
        actor: person(),
        via: Via::CommandLine,
        event: Event::Submitted(submission.clone()),
    };
    open(TaskId(1), &envelope, &submission).0
}

fn person() -> Actor {
    Actor::Person("ada".to_owned())
}

/// The envelope of `event` as the next one of `task`. A timer fires when it is due, everything else a second after the last event.
pub fn next_envelope(task: &Task, event: Event) -> Envelope {
    let soon = task.updated_at.checked_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX);
    let at = match &event {
        Event::TimerFired { timer } => task.timers.get(timer).copied().unwrap_or(soon).max(soon),
        _ => soon,
    };
    let said = event.is_said();
    let (actor, via) = if said { (person(), Via::CommandLine) } else { (Actor::System, Via::Engine) };
    Envelope { seq: task.seq + 1, at, dedup: format!("e{}", task.seq + 1), actor, via, event }
}

/// The box of the picture that a task with one attempt is in.
pub fn place(task: &Task) -> String {
    match &task.status {
        Status::Working => task.attempts.first().map_or("working", |attempt| attempt.status.word()).to_owned(),
        Status::AwaitingReview(review) if review.head.is_some() => "awaiting_review".to_owned(),
        Status::AwaitingReview(_) => "needs_help".to_owned(),
        Status::Landing(landing) => match landing.stage {
            LandingStage::Merging { .. } => "landing".to_owned(),
            LandingStage::Rechecking { .. } => "rechecking".to_owned(),
        },
        Status::Closing { .. } => "closing".to_owned(),
        Status::Ended { snapshots: Kept::Purged, .. } => "purged".to_owned(),
        Status::Ended { outcome, .. } => format!("ended_{}", outcome.word()),
    }
}

/// What distinguishes two states for the walk: coarse enough to end, fine enough that no arrow is missed.
fn signature(task: &Task) -> String {
    let attempt = task.attempts.first();
    let outcome = match &task.status {
        Status::Closing { outcome } | Status::Ended { outcome, .. } => outcome.word(),
        Status::Working | Status::AwaitingReview(_) | Status::Landing(_) => "",
    };
    let foreground: BTreeSet<&str> =
        task.in_flight.values().filter(|command| !is_background(command)).map(Command::name).collect();
    let details = attempt.map(|attempt| {
        let heard_all = attempt.heard as usize >= task.comments.len();
        let status = format!("{:?}", attempt.status);
        let kind = status.contains("Asked {");
        let cut = status.contains("cut: Some");
        let judged = attempt.judged.as_ref().map(|judged| judged.verdict.word());
        let empty = attempt.snapshot.as_ref().map(|snapshot| snapshot.empty);
        let ends = attempt_end(task);
        (heard_all, kind, cut, judged, empty, attempt.corrections, attempt.restarts, attempt.plan.is_some(), ends)
    });
    let landing = match &task.status {
        Status::Landing(landing) => Some((landing.moves, landing.accepted.is_empty())),
        Status::Working | Status::AwaitingReview(_) | Status::Closing { .. } | Status::Ended { .. } => None,
    };
    let ending = task.ending.is_some();
    format!("{} {outcome} {foreground:?} {details:?} {landing:?} {ending}", place(task))
}

/// What runs beside a task's life and never turns it.
fn is_background(command: &Command) -> bool {
    match command {
        Command::Interrupt { .. } | Command::DeliverComment { .. } | Command::ReleaseWorkspace { .. } => true,
        Command::PrepareWorkspace { .. }
        | Command::StartTurn { .. }
        | Command::TakeSnapshot { .. }
        | Command::RunChecks { .. }
        | Command::Land { .. }
        | Command::CleanUp { .. }
        | Command::Purge => false,
    }
}

fn attempt_end(task: &Task) -> String {
    use crate::attempt::AttemptStatus;
    match task.attempts.first().map(|attempt| &attempt.status) {
        Some(AttemptStatus::Snapshotting { end, mode, .. }) => {
            let conclusion = format!("{:?}", end.conclusion);
            format!("{mode:?} {}", conclusion.split_whitespace().next().unwrap_or_default())
        }
        Some(AttemptStatus::Turning { mode, .. }) => format!("{mode:?}"),
        Some(_) | None => String::new(),
    }
}

/// Walks every reachable state of tasks with one attempt and returns all arrows. `visit` sees each step once: the state before,
/// the event, the state after and the receipt.
pub fn walk(mut visit: impl FnMut(&Task, &Event, &Task, &Receipt)) -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    let mut known = BTreeSet::new();
    let mut queue = VecDeque::new();
    for brief in walked_briefs() {
        let task = sample(brief);
        arrows.insert(Arrow { from: "[*]".to_owned(), to: place(&task), label: "submitted".to_owned() });
        queue.push_back(task);
    }
    while let Some(task) = queue.pop_front() {
        for letter in alphabet::letters(&task) {
            let mut next = task.clone();
            let decision = step(&mut next, &next_envelope(&task, letter.event.clone()));
            visit(&task, &letter.event, &next, &decision.receipt);
            let (from, to) = (place(&task), place(&next));
            if from != to {
                arrows.insert(Arrow { from, to, label: letter.label });
            }
            if next.comments.len() <= 1 && known.insert(signature(&next)) {
                queue.push_back(next);
            }
        }
    }
    arrows
}

fn walked_briefs() -> Vec<Brief> {
    let brief = Brief { goal: "walk".to_owned(), max_corrections: 1, ..Brief::default() };
    vec![
        brief.clone(),
        Brief { planning: Planning::ApproveFirst, ..brief.clone() },
        Brief { deliverable: Deliverable::Report, ..brief },
    ]
}

/// The Mermaid text of `docs/task.mmd`.
pub fn render() -> String {
    let mut labels: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for arrow in walk(|_, _, _, _| {}) {
        labels.entry((arrow.from, arrow.to)).or_default().insert(arrow.label);
    }
    let mut text =
        String::from("%% Made by `cargo xtask picture` from domain::step; not to be edited.\nstateDiagram-v2\n");
    for ((from, to), labels) in labels {
        let labels: Vec<String> = labels.into_iter().collect();
        text.push_str(&format!("    {from} --> {to}: {}\n", labels.join("<br/>")));
    }
    text.push_str("    purged --> [*]\n");
    text
}
