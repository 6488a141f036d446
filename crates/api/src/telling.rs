//! What happened, in words for people: the text of log lines. As untrusted as what it quotes; a terminal client cleans it.

use domain::{
    check::{Judged, Verdict},
    environment::{EnvironmentUse, Health},
    event::{Event, Receipt},
    ids::{AttemptNo, CommentId, TurnNo},
    ports::{
        agent::{EntryBody, PlanStep, StepState, TurnConclusion, TurnEnd},
        egress::Refusal,
        model::{Message, Part},
        workspace::{Landing, Snapshot},
    },
    task::Timer,
};

use jiff::{Timestamp, tz::TimeZone};

use crate::wire::{LogBody, LogEntry, LogEvent};

impl LogBody {
    /// One or more lines of text; empty where a person learns nothing new.
    pub fn text(&self) -> String {
        match self {
            Self::Event(event) => event.text(),
            Self::Entry(entry) => entry.text(),
        }
    }
}

impl LogEvent {
    fn text(&self) -> String {
        let text = event_text(&self.event);
        if !self.event.is_said() {
            return text;
        }
        match &self.receipt {
            Receipt::Accepted { note } => format!("{}: {text} ({note})", self.actor),
            Receipt::Refused { fault } => format!("{}: {text}: refused: {fault}", self.actor),
        }
    }
}

fn event_text(event: &Event) -> String {
    match event {
        Event::Submitted(submission) => match &submission.fork {
            None => format!("submitted: {}", submission.brief.title()),
            Some(fork) => {
                format!("submitted: {} (from {} after turn {})", submission.brief.title(), fork.from, fork.turn)
            }
        },
        Event::WorkspaceReady { environment: None, .. } => "the workspace is ready".to_owned(),
        Event::WorkspaceReady { environment: Some(used), .. } => {
            format!("the workspace is ready\nenvironment: {}", environment(used))
        }
        Event::TurnEnded { end, .. } => turn_text(end),
        Event::SnapshotTaken { snapshot, .. } => snapshot_text(snapshot),
        Event::ChecksRan { judged, .. } => judged_text(judged),
        Event::LandingDone { landing, .. } => landing_text(landing),
        Event::Done { .. } => String::new(),
        Event::CommandFailed { fault, .. } => format!("given up: {fault}"),
        Event::CommentsDelivered { attempt, turn, comments, .. } => delivered_text(*attempt, *turn, comments),
        Event::Progressed { percent: Some(percent), text, .. } => format!("{percent}% {text}"),
        Event::Progressed { percent: None, text, .. } => text.clone(),
        Event::EgressRefused { refusal, .. } => blocked(refusal),
        Event::TimerFired { timer } => timer_text(timer).to_owned(),
        Event::CommentAdded { text, by_hand: false } => format!("comment: {text}"),
        Event::CommentAdded { text, by_hand: true } => text.clone(),
        Event::QuestionAnswered { request, answer } => format!("answer to request {request}: {answer}"),
        Event::PlanApproved { .. } => "plan approved".to_owned(),
        Event::PlanRefined { text, .. } => format!("plan to be refined: {text}"),
        Event::Approved { head, accept } if accept.is_empty() => format!("approve {}", head.short()),
        Event::Approved { head, accept } => {
            let risks: Vec<&str> = accept.iter().map(domain::check::Risk::word).collect();
            format!("approve {}, accepting {}", head.short(), risks.join(", "))
        }
        Event::Rejected { why } => reasoned("reject", why.as_deref()),
        Event::CancelRequested { why } => reasoned("cancel", why.as_deref()),
        Event::WorkedByHand { snapshot, note, .. } => format!("worked by hand: {note}\n{}", snapshot_text(snapshot)),
        Event::Rewound { turn, text: None, .. } => format!("back to turn {turn}"),
        Event::Rewound { turn, text: Some(text), .. } => format!("back to turn {turn}: {text}"),
        Event::RetryRequested => "retry".to_owned(),
        Event::RestoreRequested => "restore".to_owned(),
    }
}

/// What a task stands on, in a line.
pub fn environment(used: &EnvironmentUse) -> String {
    let mut text = match (&used.layer, &used.health) {
        (None, _) => "none".to_owned(),
        (Some(layer), Health::Healthy) => format!("{} · healthy", layer.short()),
        (Some(layer), Health::Unknown) => format!("{} · nothing says whether it is healthy", layer.short()),
        (Some(layer), Health::Unhealthy { why, .. }) => format!("{} · unhealthy: {why}", layer.short()),
    };
    if let Some(note) = &used.note {
        text.push_str(&format!(" · {note}"));
    }
    text
}

/// The most of a command line that is told, in characters.
const LINE: usize = 80;

/// A host that was not let through, and by whom it was wanted.
pub fn blocked(refusal: &Refusal) -> String {
    let by = refusal.by.as_ref().map_or_else(String::new, |by| {
        let rest = if by.chars().count() > LINE { "…" } else { "" };
        format!(" by `{}{rest}`", by.chars().take(LINE).collect::<String>())
    });
    let port = if matches!(refusal.port, 80 | 443) { String::new() } else { format!(":{}", refusal.port) };
    format!("blocked: {}{port}{by}: {}", refusal.host, refusal.why)
}

fn reasoned(verb: &str, why: Option<&str>) -> String {
    why.map_or_else(|| verb.to_owned(), |why| format!("{verb}: {why}"))
}

fn turn_text(end: &TurnEnd) -> String {
    let how = match &end.conclusion {
        TurnConclusion::Finished => "the turn ended".to_owned(),
        TurnConclusion::Asked { question, choices, default } => asked_text(question, choices, default.as_deref()),
        TurnConclusion::Interrupted => "the turn was interrupted".to_owned(),
        TurnConclusion::OutOfBudget { why } => format!("the budget is used up: {why}"),
        TurnConclusion::OutOfRounds => "the turn used up its rounds".to_owned(),
        TurnConclusion::Held { why, until } => format!("it waits for its model until {}: {why}", clock(*until)),
        TurnConclusion::Stalled { why } => format!("the turn got nowhere: {why}"),
        TurnConclusion::DeadEnd { why } => format!("the turn cannot go on: {why}"),
        TurnConclusion::Failed { why } => format!("the turn failed: {why}"),
    };
    let summary = end.summary.trim();
    if summary.is_empty() { how } else { format!("{how}\n{summary}") }
}

fn asked_text(question: &str, choices: &[String], default: Option<&str>) -> String {
    let mut text = format!("question: {question}");
    if !choices.is_empty() {
        text.push_str(&format!(" [{}]", choices.join(" | ")));
    }
    if let Some(default) = default {
        text.push_str(&format!(" (without an answer: {default})"));
    }
    text
}

/// A time as people here read it: with its day where that is not today.
pub fn clock(at: Timestamp) -> String {
    let at = at.to_zoned(TimeZone::system());
    let is_today = at.date() == Timestamp::now().to_zoned(TimeZone::system()).date();
    at.strftime(if is_today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

fn snapshot_text(snapshot: &Snapshot) -> String {
    if snapshot.empty {
        return "snapshot: nothing has changed".to_owned();
    }
    let stat = snapshot.stat;
    let files = if stat.files == 1 { "file" } else { "files" };
    format!("snapshot {}: {} {files}, +{} -{}", snapshot.commit.short(), stat.files, stat.added, stat.deleted)
}

fn judged_text(judged: &Judged) -> String {
    let digest = judged.digest.trim();
    match judged.verdict {
        Verdict::Green => "checks: green".to_owned(),
        verdict if digest.is_empty() => format!("checks: {}", verdict.word()),
        verdict => format!("checks: {}\n{digest}", verdict.word()),
    }
}

fn landing_text(landing: &Landing) -> String {
    match landing {
        Landing::Landed { target, commit } => format!("landed on {target} as {}", commit.short()),
        Landing::LeftOnBranch { branch, hint, why, .. } => format!("left on the branch {branch}: {why}\n{hint}"),
        Landing::Moved { combined, .. } => format!("the target has moved: the merge {} is checked", combined.short()),
        Landing::Conflict { paths, .. } => format!("the target conflicts in {}", paths.join(", ")),
    }
}

fn delivered_text(attempt: AttemptNo, turn: TurnNo, comments: &[CommentId]) -> String {
    let numbers: Vec<String> = comments.iter().map(ToString::to_string).collect();
    format!("the agent has read comment {} (attempt {attempt}, turn {turn})", numbers.join(", "))
}

fn timer_text(timer: &Timer) -> &'static str {
    match timer {
        Timer::Command(_) => "a step has taken too long",
        Timer::Person(_) => "reminder: a person's decision is wanted",
        Timer::Rest(_) => "the rest is over: trying again",
        Timer::Deadline => "the deadline has passed",
        Timer::Closing => "closing has taken too long",
        Timer::Purge => "the snapshots are forgotten",
    }
}

impl LogEntry {
    fn text(&self) -> String {
        match &self.entry {
            EntryBody::Prompt { message } => format!("prompt: {}", message_text(message)),
            EntryBody::Reply { message, .. } => message_text(message),
            EntryBody::Result { text, is_error: false, .. } | EntryBody::Output { text } | EntryBody::Note { text } => {
                text.clone()
            }
            EntryBody::Result { text, is_error: true, .. } => format!("error: {text}"),
            EntryBody::Plan { steps } => steps.iter().map(step_text).collect::<Vec<_>>().join("\n"),
            // Said before: each result on its own, each comment and the turn's end as an event.
            EntryBody::Results { .. }
            | EntryBody::Comments { .. }
            | EntryBody::Session { .. }
            | EntryBody::End { .. } => String::new(),
        }
    }
}

/// A step of an agent's plan, with its state.
pub fn step_text(step: &PlanStep) -> String {
    let mark = match step.state {
        StepState::Pending => ' ',
        StepState::Doing => '>',
        StepState::Done => 'x',
    };
    format!("[{mark}] {}", step.text.trim())
}

fn message_text(message: &Message) -> String {
    let parts = message.parts.iter().filter_map(|part| match part {
        Part::Text { text } => Some(text.trim().to_owned()),
        Part::ToolCall { name, arguments, .. } => Some(format!("→ {name} {arguments}")),
        Part::ToolResult { text, .. } => Some(text.clone()),
        Part::Image { media, .. } => Some(format!("({media})")),
        Part::Opaque { .. } => None,
    });
    parts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}
