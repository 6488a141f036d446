//! What was promised, counted from four books that know nothing of each other: the provider's record, the exported journal
//! and transcript, and the target branch.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use domain::{
    event::{Envelope, Event, Receipt},
    ids::TaskId,
    ports::{
        agent::{Entry, EntryBody},
        model::Part,
    },
    step::{open, step},
};
use jiff::Timestamp;
use serde_json::Value;

use super::{ROUNDS, file, line};
use crate::scene::{Repository, Request, Scene};

/// What the storm came to. All but the first two ought to be 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    pub landed: usize,
    /// Model calls whose reply never came to be recorded, and that were therefore made again.
    pub cut_calls: usize,
    pub paid_again: usize,
    pub run_twice: usize,
    pub lost_writes: usize,
    pub double_landings: usize,
    pub other_on_replay: usize,
}

pub(super) fn compare(scene: &Scene, repository: &Repository, ids: &[String]) -> Result<Books> {
    let requests = scene.requests()?;
    let mut books = Books::default();
    for (number, id) in ids.iter().enumerate() {
        let export = Export::read(&scene.ask(scene.directory(), &["export", id])?)
            .with_context(|| format!("the export of {id} cannot be read"))?;
        books.landed += usize::from(export.summary.get("detail").and_then(Value::as_str) == Some("landed"));
        books.other_on_replay += usize::from(!export.replays()?);
        books.count_calls(&export, &requests).with_context(|| format!("the calls of {id} cannot be counted"))?;
        books.count_writes(&export, repository, number)?;
    }
    books.count_landings(repository)?;
    Ok(books)
}

/// One task's export.
struct Export {
    id: TaskId,
    /// As lists show it.
    summary: Value,
    events: Vec<(Envelope, Receipt)>,
    entries: Vec<(Timestamp, Entry)>,
}

impl Export {
    fn read(text: &str) -> Result<Self> {
        let (mut summary, mut events, mut entries, mut is_whole) = (Value::Null, Vec::new(), Vec::new(), false);
        for line in text.lines() {
            let value: Value = serde_json::from_str(line)?;
            match value.get("kind").and_then(Value::as_str) {
                Some("task") => summary = value.get("task").cloned().unwrap_or_default(),
                Some("event") => {
                    let receipt = value.get("receipt").cloned().unwrap_or_default();
                    events.push((serde_json::from_value(value)?, serde_json::from_value(receipt)?));
                }
                Some("entry") => {
                    let at = value.get("at").and_then(Value::as_str).context("an entry without a time")?.parse()?;
                    entries.push((at, serde_json::from_value(value)?));
                }
                Some("end") => is_whole = true,
                _ => {}
            }
        }
        ensure!(is_whole, "it was cut off");
        let id = summary.get("id").and_then(Value::as_str).and_then(|id| id.strip_prefix("T-"));
        let id = TaskId(id.and_then(|id| id.parse().ok()).context("no task in the first line")?);
        Ok(Self { id, summary, events, entries })
    }

    /// Whether the events alone, decided anew, give every receipt and the state that lists show.
    fn replays(&self) -> Result<bool> {
        let mut events = self.events.iter();
        let (first, _) = events.next().context("a journal without events")?;
        let Event::Submitted(submission) = &first.event else { return Ok(false) };
        let (mut task, _) = open(self.id, first, submission);
        for (envelope, receipt) in events {
            if step(&mut task, envelope).receipt != *receipt {
                return Ok(false);
            }
        }
        let mut replayed = serde_json::to_value(task.summary())?;
        let mut shown = self.summary.clone();
        for summary in [&mut replayed, &mut shown] {
            if let Some(fields) = summary.as_object_mut() {
                // A number in one, a name in the other.
                fields.remove("id");
            }
        }
        Ok(replayed == shown)
    }
}

impl Books {
    /// A call for a reply that was in the transcript before is paid twice; one before that was cut off by a kill.
    fn count_calls(&mut self, export: &Export, requests: &[Request]) -> Result<()> {
        let replies = export.entries.iter().filter(|(_, entry)| matches!(entry.body, EntryBody::Reply { .. }));
        let recorded: Vec<Timestamp> = replies.map(|(at, _)| *at).collect();
        let first = export.events.first().map(|(envelope, _)| &envelope.event);
        let Some(Event::Submitted(submission)) = first else { bail!("its journal begins with no submission") };
        let conversation = requests
            .iter()
            .find(|request| !request.matched.is_empty() && submission.brief.goal.contains(&request.matched))
            .map(|request| request.conversation.as_str())
            .context("the provider has no record of it")?;
        let mut calls = BTreeMap::<u64, usize>::new();
        for request in requests.iter().filter(|request| request.conversation == conversation) {
            *calls.entry(request.index).or_default() += 1;
            let known = usize::try_from(request.index).ok().and_then(|index| recorded.get(index));
            self.paid_again += usize::from(known.is_some_and(|known| request.at > *known));
        }
        self.cut_calls += calls.values().map(|count| count.saturating_sub(1)).sum::<usize>();
        Ok(())
    }

    /// Every commit on the branch names its task: a task that is named twice was landed twice.
    fn count_landings(&mut self, repository: &Repository) -> Result<()> {
        let tasks =
            repository.git(&["log", "--format=%(trailers:key=Overnight-Task,valueonly,separator=%x2C)", "main"])?;
        let named: Vec<&str> = tasks.lines().filter(|line| !line.is_empty()).collect();
        let distinct: BTreeSet<&str> = named.iter().copied().collect();
        ensure!(
            distinct.len() >= self.landed,
            "{} tasks have landed, and the branch names {}",
            self.landed,
            distinct.len()
        );
        self.double_landings += named.len() - distinct.len();
        Ok(())
    }

    /// A line that is there twice was written by a call that ran twice; one that is missing though its result was recorded is lost.
    fn count_writes(&mut self, export: &Export, repository: &Repository, number: usize) -> Result<()> {
        let file = file(number);
        let text = repository.git(&["show", &format!("main:{file}")]).unwrap_or_default();
        let recorded = recorded_commands(export);
        for round in 1..ROUNDS {
            let line = line(number, round);
            let there = text.lines().filter(|written| *written == line).count();
            self.run_twice += usize::from(there > 1);
            self.lost_writes += usize::from(there == 0 && recorded.iter().any(|command| command.contains(&line)));
        }
        Ok(())
    }
}

/// Arguments of the tool calls whose own result is in the transcript.
fn recorded_commands(export: &Export) -> Vec<String> {
    let bodies = || export.entries.iter().map(|(_, entry)| &entry.body);
    let done: BTreeSet<&str> = bodies()
        .filter_map(|body| match body {
            EntryBody::Result { id, is_error: false, .. } => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let parts = bodies().filter_map(|body| match body {
        EntryBody::Reply { message, .. } => Some(&message.parts),
        _ => None,
    });
    let calls = parts.flatten().filter_map(|part| match part {
        Part::ToolCall { id, arguments, .. } if done.contains(id.as_str()) => Some(arguments.clone()),
        _ => None,
    });
    calls.collect()
}
