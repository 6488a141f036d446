//! The crash storm: `kill -9` of the daemon again and again while tasks work and land, then the books are compared.

mod books;

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hasher, RandomState},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Section;
use crate::scene::{Repository, Scene};

pub use books::Books;

const ROUNDS: usize = 10;
const LATENCY_MS: u64 = 100;
/// A life is at most so long, so that kills fall into starts, turns, snapshots, checks and landings alike.
const LONGEST_LIFE_MS: u64 = 900;

/// How hard it blows.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub tasks: usize,
    pub kills: usize,
}

pub(super) fn measure(binary: &Path) -> Result<Section> {
    let storm = Storm { tasks: 40, kills: 50 };
    let books = self::storm(binary, storm)?;
    let mut section = Section::new(
        "Crash storm",
        &format!(
            "`kill -9` of the daemon {} times, each after a random life of at most {LONGEST_LIFE_MS} ms, over {} tasks of {ROUNDS} rounds \
             ({LATENCY_MS} ms latency) that are approved as soon as they are green and land on one branch. Afterwards journal, \
             transcripts, the provider's record and the branch are compared.",
            storm.kills, storm.tasks
        ),
    );
    section.row("landed", format!("{} of {}", books.landed, storm.tasks), "all");
    section.row("replies paid again after they were recorded", books.paid_again, "0");
    section.row("model calls that were under way at a kill and made again", books.cut_calls, "");
    section.row("tool calls run twice", books.run_twice, "0");
    section.row("recorded writes that are missing", books.lost_writes, "0");
    section.row("double landings", books.double_landings, "0");
    section.row("tasks whose replayed journal is not their state", books.other_on_replay, "0");
    Ok(section)
}

/// Plays the storm, waits until all is quiet, and compares the books.
pub fn storm(binary: &Path, storm: Storm) -> Result<Books> {
    let mut scene = Scene::new(binary, &script(storm.tasks))?;
    let repository = Repository::of_files(&scene, "fleet", &[("README.md", "# Fleet\n"), ("work/.keep", "")])?;
    scene.start()?;
    let mut ids = Vec::new();
    let mut approved = BTreeSet::new();
    for number in 0..storm.kills {
        // Tasks come in over the first half of the storm.
        let wanted = (storm.tasks * (number + 1) * 2).div_ceil(storm.kills.max(1)).min(storm.tasks);
        submit(&scene, &repository, &mut ids, wanted)?;
        thread::sleep(Duration::from_millis(random() % LONGEST_LIFE_MS));
        scene.kill()?;
        scene.start()?;
        approve(&scene, &mut approved)?;
    }
    submit(&scene, &repository, &mut ids, storm.tasks)?;
    loop {
        scene.settle()?;
        let before = approved.len();
        approve(&scene, &mut approved)?;
        scene.settle()?;
        if approved.len() == before {
            break;
        }
    }
    books::compare(&scene, &repository, &ids)
}

fn goal(number: usize) -> String {
    format!("Crew {number:03} logs its rounds")
}

/// The file that a task appends to.
fn file(number: usize) -> String {
    format!("work/{number:03}.txt")
}

/// What the `round`th round appends.
fn line(number: usize, round: usize) -> String {
    format!("crew {number:03} round {round:02}")
}

fn script(tasks: usize) -> Value {
    let reply = |number: usize, round: usize| {
        let call = if round == ROUNDS {
            json!({ "name": "finish", "arguments": { "summary": "All rounds are logged." } })
        } else {
            let command = format!("echo '{}' >> {}", line(number, round), file(number));
            json!({ "name": "shell", "arguments": { "command": command } })
        };
        json!({ "text": format!("Round {round}."), "tools": [call] })
    };
    let conversation = |number: usize| {
        let replies: Vec<Value> = (1..=ROUNDS).map(|round| reply(number, round)).collect();
        json!({ "match": goal(number), "replies": replies })
    };
    json!({ "latency_ms": LATENCY_MS, "conversations": (0..tasks).map(conversation).collect::<Vec<_>>() })
}

fn submit(scene: &Scene, repository: &Repository, ids: &mut Vec<String>, wanted: usize) -> Result<()> {
    for number in ids.len()..wanted {
        let check = format!("test -s {}", file(number));
        ids.push(scene.submit(repository, &goal(number), &["--check", &check])?);
    }
    Ok(())
}

/// Signs off whatever waits for it, by the head that the list shows.
fn approve(scene: &Scene, approved: &mut BTreeSet<String>) -> Result<()> {
    for task in scene.tasks()? {
        let text = |key: &str| task.get(key).and_then(Value::as_str);
        let id = text("id").context("a task without an id")?;
        let is_ready = text("phase") == Some("needs_you") && text("verdict") == Some("green");
        if let Some(head) = text("head").filter(|_| is_ready && !approved.contains(id)) {
            scene.ask(scene.directory(), &["approve", id, "--head", head])?;
            approved.insert(id.to_owned());
        }
    }
    Ok(())
}

/// From the system's own randomness, as every hasher is.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
