//! `show`: everything about one task, on a screen or two.

use api::{
    telling,
    wire::{self, Environment, Task, environment::Definition},
};
use domain::{
    Fault,
    check::{CheckRun, Verdict},
    event::Receipt,
    ids::TaskId,
    ports::sandbox::Confinement,
    summary::Wanted,
};

use super::{
    Context, console,
    env::{self, List},
    wait,
};
use crate::{
    Exit,
    client::{of_task, read_json},
    seen::{self, Shown},
    terminal::{self, Form, Paint, Screen, clean},
};

pub fn show(context: &Context, id: TaskId) -> Result<Exit, Fault> {
    let body = context.client.body(context.client.get(&of_task(id, ""))?)?;
    let task: Task = read_json(&body)?;
    match context.form {
        Form::Json => context.print_json(&body),
        Form::Text => terminal::print(&Page::of(context, &task)),
    }
    if let Some(shown) = approvable(&task.summary) {
        seen::remember(context.client.home(), id, &shown)?;
    }
    Ok(Exit::Well)
}

/// What the task's base says, where the page is to name a line that would change it. A page is worth showing without it.
fn definition(context: &Context, task: &Task) -> Option<Definition> {
    let blocked = |attempt: &wire::Attempt| {
        let runs = attempt.judgement.iter().flat_map(|judgement| &judgement.runs);
        !attempt.refusals.is_empty() || runs.into_iter().any(|run| !run.blocked.is_empty())
    };
    if !task.attempts.iter().any(blocked) {
        return None;
    }
    let environment: Environment = context.client.get_json(&of_task(task.summary.id, "environment")).ok()?;
    Some(environment.definition)
}

/// What there is to approve, now that it was shown.
pub fn approvable(task: &wire::Summary) -> Option<Shown> {
    task.needs.iter().find_map(|need| match &need.wanted {
        Wanted::Review { head, .. } => Some(Shown::Head(head.clone())),
        Wanted::Plan { .. } => Some(Shown::Plan(need.request)),
        Wanted::Answer { .. } | Wanted::Help { .. } => None,
    })
}

/// The text under way.
pub struct Page<'a> {
    screen: &'a Screen,
    definition: Option<Definition>,
    text: String,
}

impl<'a> Page<'a> {
    pub fn of(context: &'a Context, task: &Task) -> String {
        let mut page = Self::headed(context, task);
        page.brief(task);
        for attempt in &task.attempts {
            page.attempt(attempt, task.attempts.len());
        }
        page.said(task);
        page.text
    }

    /// What a person decides on: how it stands, and the checks of what would land.
    pub fn evidence(context: &'a Context, task: &Task) -> String {
        let mut page = Self::headed(context, task);
        let head = task.summary.head.as_ref();
        let shown =
            task.attempts.iter().find(|attempt| attempt.snapshot.as_ref().map(|snapshot| &snapshot.commit) == head);
        if let Some(attempt) = shown {
            page.attempt(attempt, task.attempts.len());
        }
        page.text
    }

    fn headed(context: &'a Context, task: &Task) -> Self {
        let screen = &context.screen;
        Self { screen, definition: definition(context, task), text: wait::told(screen, &task.summary) }
    }

    fn heading(&mut self, title: &str) {
        self.text.push_str(&format!("\n{}\n", self.screen.paint(Paint::Bold, title)));
    }

    fn field(&mut self, name: &str, value: &str) {
        console::row(self.screen, &mut self.text, name, value);
    }

    fn brief(&mut self, task: &Task) {
        let (brief, summary) = (&task.brief, &task.summary);
        self.heading("Brief");
        self.field("goal", &brief.goal);
        self.field("not", &brief.non_goals.join("\n"));
        self.field("required", &brief.requirements.join("\n"));
        self.field("accepted", &brief.acceptance.join("\n"));
        self.field("notes", &brief.notes);
        self.field("may change", &brief.allowed_paths.join(" "));
        self.field("protected", &brief.protected_paths.join(" "));
        let checks: Vec<&str> = task.checks.iter().map(|check| check.command.as_str()).collect();
        self.field("checks", if checks.is_empty() { "none".to_owned() } else { checks.join("\n") }.as_str());
        let target = task.target.clone().unwrap_or_else(|| format!("overnight/{}", summary.id));
        self.field("where", &format!("{} · from {} for {target}", task.repository_path, task.base.short()));
        let walls = match task.confinement {
            Confinement::Confined => "",
            Confinement::Unconfined => " · not confined",
        };
        self.field("stands on", &task.environment.as_ref().map(telling::environment).unwrap_or_default());
        let model = summary.model.as_deref().map_or_else(String::new, |model| format!(" · {model}"));
        let key =
            if summary.holds_key { " · holds a key: it was lent a login, and its spend is not metered" } else { "" };
        self.field("agent", &format!("{}{model}{walls}{key}", summary.agent));
        self.field("profile", brief.profile.as_deref().unwrap_or_default());
        let fallbacks: Vec<String> = brief.fallbacks.iter().cloned().map(String::from).collect();
        self.field("then", &fallbacks.join(", "));
        self.field("critic", brief.critic.as_deref().unwrap_or_default());
        if let Some(from) = &task.forked_from {
            self.field("forked", &format!("from {}, attempt {}, after turn {}", from.task, from.attempt, from.turn));
        }
        let limit = brief.budget.as_ref().map(|budget| console::budget(&budget.0));
        let limit = limit.map_or_else(String::new, |limit| format!("   (of {limit})"));
        self.field(
            "spent",
            &format!("{} · {}{limit}", console::spend(&task.spend), console::counted(task.rounds, "round")),
        );
        let asked = format!("by {}, {} ago", task.submitted_by, console::age(summary.submitted_at));
        self.field("asked for", &asked);
        if let Some(since) = summary.overdue_since {
            self.field("overdue", &format!("since {}", console::age(since)));
        }
        for note in &task.notes {
            self.field("note", note);
        }
        self.field("left", task.residue.as_deref().unwrap_or_default());
    }

    fn attempt(&mut self, attempt: &wire::Attempt, of: usize) {
        let number = if of > 1 { format!("Attempt {} of {of}", attempt.no) } else { "Attempt".to_owned() };
        let status = attempt.status.replace('_', " ");
        self.heading(&format!("{number}: {status}"));
        self.field("why", attempt.why.as_deref().unwrap_or_default());
        let turns = console::counted(attempt.turns, "turn");
        let corrections = console::counted(attempt.corrections, "correction");
        let turns = format!("{turns}, {corrections}, {} of work", console::length(attempt.worked_s));
        self.field("so far", &turns);
        self.worker(attempt);
        self.field("plan", attempt.plan.as_deref().unwrap_or_default());
        let steps: Vec<String> = attempt.steps.iter().map(telling::step_text).collect();
        self.field("steps", &steps.join("\n"));
        self.field("says", attempt.summary.as_deref().unwrap_or_default());
        if let Some(snapshot) = &attempt.snapshot {
            let stat = snapshot.stat;
            let change = format!(
                "{} · {}, +{} −{}",
                snapshot.commit.short(),
                console::counted(stat.files, "file"),
                stat.added,
                stat.deleted
            );
            self.field("change", &change);
        }
        if let Some(judgement) = &attempt.judgement {
            for run in &judgement.runs {
                self.check(run);
            }
            if judgement.runs.is_empty() {
                self.field(
                    "check",
                    "? none was named and none was found: nothing proves this change (`--check` names one)",
                );
            }
            self.field("outside", &judgement.outside_allowed.join("\n"));
            self.field("protected", &judgement.protected_touched.join("\n"));
        }
        let blocked = env::refused(&attempt.refusals, List::Turns, self.definition.as_ref());
        self.text.push_str(&blocked.lines().map(|line| format!("  {line}\n")).collect::<String>());
        let risks: Vec<&str> = attempt.risks.iter().map(|risk| risk.word()).collect();
        self.field("risks", &risks.join(", "));
        if let Some(report) = &attempt.report {
            self.heading("Report");
            self.text.push_str(&format!("{}\n", clean(report.trim_end())));
        }
    }

    /// Who works, and how it goes with that.
    fn worker(&mut self, attempt: &wire::Attempt) {
        let model = attempt.model.as_deref().map_or_else(String::new, |model| format!(" · {model}"));
        self.field("worker", &format!("{}{model}", attempt.agent));
        if let Some(until) = attempt.until {
            let what = if attempt.holds > 0 { "waits for its model" } else { "rests" };
            self.field("", &format!("{what} until {}", telling::clock(until)));
        }
        if attempt.stalls > 0 {
            self.field("stalled", &console::counted(attempt.stalls, "turn"));
        }
        let void: Vec<String> = attempt
            .void
            .iter()
            .map(|(first, last)| if first == last { format!("{first}") } else { format!("{first} to {last}") })
            .collect();
        if !void.is_empty() {
            self.field("taken back", &format!("turn {}", void.join(", ")));
        }
    }

    fn check(&mut self, run: &CheckRun) {
        let (paint, mark) = match run.verdict {
            Verdict::Green => (Paint::Green, "✓"),
            Verdict::Red => (Paint::Red, "✗"),
            Verdict::Inconclusive => (Paint::Yellow, "?"),
        };
        let seconds = run.duration_ms.div_ceil(1000);
        let line = format!("{} ({}) {}", run.check.command, console::length(seconds), run.reason);
        self.field("check", &format!("{mark} {line}"));
        let names = [("fixed", &run.fixed), ("new failure", &run.new_failures), ("missing", &run.missing)];
        if !run.blocked.is_empty() {
            self.field("", &format!("blocked: {}", run.blocked.join(", ")));
            let entries = run.blocked.iter().map(|host| host.strip_suffix(":443").unwrap_or(host));
            let line = self.definition.as_ref().and_then(|definition| env::allowing(definition, List::Checks, entries));
            self.field("", &line.unwrap_or_default());
        }
        for (what, names) in names {
            for name in names.iter().take(10) {
                let text = self.screen.paint(paint, format!("{what}: {}", clean(name)));
                self.text.push_str(&format!("  {:<10}    {text}\n", ""));
            }
        }
    }

    fn said(&mut self, task: &Task) {
        if task.comments.is_empty() && task.said.len() <= 1 {
            return;
        }
        self.heading("Said");
        for comment in &task.comments {
            let heard = if comment.delivered.is_empty() { "waits" } else { "heard" };
            self.field(heard, &format!("{}: {}", comment.by, comment.text));
        }
        for said in task.said.iter().filter(|said| !matches!(said.event.as_str(), "submitted" | "comment_added")) {
            let note = match &said.receipt {
                Receipt::Accepted { note } => note.clone(),
                Receipt::Refused { fault } => format!("refused: {}", fault.what),
            };
            let event = said.event.replace('_', " ");
            self.field(&console::age(said.at), &format!("{} {event}: {note}", said.by));
        }
    }
}
