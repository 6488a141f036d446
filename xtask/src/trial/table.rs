//! The table of docs/agents.md: what the suite found of every agent, scene by scene.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::agents;
use crate::{house, program};

const PAGE: &str = "docs/agents.md";
/// What lies between them is written anew.
const BEGIN: &str = "<!-- made by `cargo xtask agents --table` -->\n";
const END: &str = "<!-- until here -->\n";
/// Tells the suite where to leave what it found.
const VARIABLE: &str = "OVERNIGHT_AGENTS_TABLE";

const SCENES: [(&str, &str); 9] = [
    ("smoke", "does the work"),
    ("follow_up", "hears a comment"),
    ("reload", "goes on after kill -9"),
    ("cancel", "ends at once"),
    ("dead_key", "dead key"),
    ("busy", "busy provider"),
    ("cut", "cut stream"),
    ("budget_end", "end of budget"),
    ("question", "asks"),
];

/// Runs the suite on all agents and writes what came of it. Says whether nothing failed.
pub fn write() -> Result<bool> {
    let found = tempfile::tempdir().context("cannot make a directory")?;
    let outcomes = suite(found.path())?;
    let path = house::root().join(PAGE);
    let page = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (before, rest) = page.split_once(BEGIN).with_context(|| format!("{PAGE} has no line {BEGIN}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{PAGE} has no line {END}"))?;
    let table = render(&outcomes, &rows(found.path())?);
    fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(outcomes.values().all(|outcome| *outcome))
}

/// Agent and scene, and whether the test passed.
type Outcomes = BTreeMap<(String, String), bool>;

fn suite(found: &Path) -> Result<Outcomes> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(house::root()).args(["test", "-p", "overnight", "--test", "agents", "--locked", "--"]);
    cargo.args(["--include-ignored", "--test-threads=2"]);
    cargo.env(agents::VARIABLE, agents::install()?).env(VARIABLE, found);
    cargo.env("OVERNIGHT_TEST_CACHE", house::cache()?).env(program::VARIABLE, program::beside_tests()?);
    let mut child = cargo.stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let out = child.stdout.take().context("cargo's output is a pipe")?;
    let mut outcomes = Outcomes::new();
    for line in BufReader::new(out).lines() {
        let line = line.context("cannot read what cargo prints")?;
        println!("{line}");
        if let Some((test, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
            && let Some((agent, scene)) = test.trim().split_once("::")
        {
            outcomes.insert((agent.replace('_', "-"), column(scene)), outcome.starts_with("ok"));
        }
    }
    child.wait().context("cannot wait for cargo")?;
    Ok(outcomes)
}

/// An agent without a shell does the work in a scene of its own.
fn column(scene: &str) -> String {
    if scene == "edits" { "smoke".to_owned() } else { scene.to_owned() }
}

/// What the suite left: a file for each scene that was played to its end.
fn rows(found: &Path) -> Result<BTreeMap<(String, String), Value>> {
    let mut rows = BTreeMap::new();
    for entry in fs::read_dir(found)? {
        let row: Value = serde_json::from_slice(&fs::read(entry?.path())?)?;
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        rows.insert((text("agent"), column(&text("scene"))), row);
    }
    Ok(rows)
}

fn render(outcomes: &Outcomes, rows: &BTreeMap<(String, String), Value>) -> String {
    let heads: Vec<&str> = SCENES.iter().map(|(_, head)| *head).collect();
    let mut text = format!("| agent | version | driven by | {} |\n|---|---|---|", heads.join(" | "));
    text.push_str(&"---|".repeat(SCENES.len()));
    text.push('\n');
    let mut agents: Vec<&String> = outcomes.keys().map(|(agent, _)| agent).collect();
    agents.dedup();
    let mut remarks = String::new();
    for agent in agents {
        let Some(row) = rows.iter().find(|((of, _), _)| of == agent).map(|(_, row)| row) else {
            text.push_str(&format!("| {agent} | not installed here |{}\n", " |".repeat(SCENES.len() + 1)));
            continue;
        };
        let cells = SCENES.iter().map(|(scene, _)| {
            let key = (agent.clone(), (*scene).to_owned());
            match (outcomes.get(&key), rows.contains_key(&key)) {
                (Some(true), true) => "works",
                (Some(false), _) => "**fails**",
                (Some(true), false) | (None, _) => "–",
            }
        });
        let cells: Vec<&str> = cells.collect();
        let word = |name: &str| row[name].as_str().unwrap_or("–");
        text.push_str(&format!("| {agent} | {} | {} | {} |\n", word("version"), word("driven"), cells.join(" | ")));
        for remark in row["remarks"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            remarks.push_str(&format!("- {agent}: {remark}\n"));
        }
    }
    format!("{text}\nWhat differs:\n\n{remarks}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_is_a_line_with_what_was_found_of_it() {
        let key = |agent: &str, scene: &str| (agent.to_owned(), scene.to_owned());
        let outcomes = [(key("codex", "smoke"), true), (key("codex", "cancel"), false), (key("pi", "smoke"), true)];
        let row = json!({ "version": "1.2", "driven": "acp", "remarks": ["It is slow."] });
        let table = render(&outcomes.into_iter().collect(), &[(key("codex", "smoke"), row)].into_iter().collect());
        assert!(table.contains("| codex | 1.2 | acp | works | – | – | **fails** | –"), "{table}");
        assert!(table.contains("| pi | not installed here |"), "{table}");
        assert!(table.ends_with("- codex: It is slow.\n"), "{table}");
    }
}
