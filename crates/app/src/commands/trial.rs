//! `agents test`: the real agent through the whole program, with a scripted model. What works is read off the workspace and the
//! gateway's account, never off what the agent says.

use std::{collections::BTreeMap, fs, path::Path};

use api::wire::{self, Agent, Agents, Doctor, Log, LogBody, Spoken, Submitted, Task, brief};
use domain::{
    Fault,
    budget::{Budget, Usage},
    check::CheckSpec,
    ids::TaskId,
    ports::{
        agent::{EntryBody, ModelNeed},
        model::{Credentials, Protocol},
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Context,
    daemon::{STOP_PATIENCE, ends_within},
    stage::{Play, Stage},
    wait,
};
use crate::{
    Exit,
    client::{Client, of_task, read_json},
    daemon::start,
    terminal::{self, Form, Paint, Screen, clean},
};

/// A turn does one thing with the agent's own shell tool. The line does something else the second time, so that it makes no difference
/// whether the second turn goes on in the first one's session or begins a new one.
const SCRIPT: &str = r#"{"conversations": [{"replies": [
    {"text": "I write.", "shell": "if grep -q two file.txt; then printf 'three\\n' >>file.txt; else printf 'two\\n' >file.txt; fi"},
    {"text": "Done."},
    {"text": "I write.", "shell": "if grep -q two file.txt; then printf 'three\\n' >>file.txt; else printf 'two\\n' >file.txt; fi"},
    {"text": "Done."}
], "default": {"text": "Done."}}]}"#;
const FILES: [(&str, &str); 1] = [("file.txt", "one\n")];
/// Opens nothing, and must be found nowhere but at the model.
const KEY: &str = "sk-of-no-worth-7c1e";
/// A test that has not ended by then has failed.
const WITHIN: Budget = Budget { cost: None, tokens: None, rounds: Some(40), wall_s: Some(300) };

/// What was looked at, and what was found.
#[derive(Debug, Serialize)]
struct Fact {
    name: &'static str,
    ok: bool,
    note: String,
}

#[derive(Debug, Serialize)]
struct Trial<'a> {
    agent: &'a str,
    driven: &'a str,
    version: Option<&'a str>,
    ok: bool,
    facts: Vec<Fact>,
    /// Where all of it is still to be seen, after a test that went badly.
    kept: Option<&'a Path>,
}

pub fn trial(context: &Context, name: &str) -> Result<Exit, Fault> {
    let stage = Stage::build(&Play { name: "trial", repository: "repository", files: &FILES, script: SCRIPT })?;
    let client = Client::new(stage.home.clone());
    let played = take_over(context, &stage)
        .and_then(|()| start::start(&stage.home))
        .and_then(|()| agent(&client, name))
        .and_then(|agent| Ok((play(&client, &stage, &agent)?, agent)));
    let stopped = client.post("shutdown", &wire::Empty {}).is_ok() && ends_within(&stage.home, STOP_PATIENCE);
    let well = matches!(&played, Ok((facts, _)) if facts.iter().all(|fact| fact.ok));
    let keep = !well && played.is_ok();
    if stopped && !keep {
        // What stays behind is in the directory for such things.
        let _ = fs::remove_dir_all(&stage.directory);
    }
    let (facts, agent) = played?;
    let trial = Trial {
        agent: &agent.name,
        driven: &agent.driven,
        version: agent.version.as_deref(),
        ok: well,
        facts,
        kept: keep.then_some(stage.directory.as_path()),
    };
    match context.form {
        Form::Json => terminal::print(&format!("{}\n", serde_json::json!(trial))),
        Form::Text => terminal::print(&told(&context.screen, &trial, &agent)),
    }
    Ok(if well { Exit::Well } else { Exit::Badly })
}

/// The trial's home has the agents and the sandboxes of this person's, and nothing else of it.
fn take_over(context: &Context, stage: &Stage) -> Result<(), Fault> {
    let own = context.client.home().path();
    let mut config: toml::Table = match fs::read_to_string(own.join("config.toml")) {
        Ok(text) => toml::from_str(&text).map_err(|error| {
            Fault::input(format!("{}: {error}", own.join("config.toml").display())).hint("mend that line")
        })?,
        Err(_) => return Ok(()),
    };
    config.retain(|name, _| matches!(name, "agents" | "sandbox"));
    let directories = config.get_mut("agents").and_then(|agents| agents.get_mut("directories"));
    for directory in directories.and_then(toml::Value::as_array_mut).into_iter().flatten() {
        if let Some(path) = directory.as_str() {
            *directory = own.join(path).to_string_lossy().into_owned().into();
        }
    }
    stage.home.make()?;
    fs::write(stage.home.path().join("config.toml"), config.to_string())
        .map_err(|error| Fault::environment(format!("{} cannot be written: {error}", stage.home.path().display())))
}

fn agent(client: &Client, name: &str) -> Result<Agent, Fault> {
    let Agents { agents } = client.get_json("agents")?;
    let names: Vec<String> = agents.iter().map(|agent| agent.name.clone()).collect();
    let Some(agent) = agents.into_iter().find(|agent| agent.name == name) else {
        return Err(
            Fault::not_found(format!("there is no agent `{name}`")).hint(format!("agents here: {}", names.join(", ")))
        );
    };
    if let Some(missing) = &agent.missing {
        return Err(Fault::not_found(format!("the agent `{name}` cannot be tested: {missing}"))
            .hint("`overnight agents` lists what is here"));
    }
    match agent.model {
        ModelNeed::Required | ModelNeed::Client => Ok(agent),
        ModelNeed::None | ModelNeed::Offered => {
            Err(Fault::input(format!("the agent `{name}` calls no model by itself: there is nothing to script"))
                .hint("try it on a task: `overnight run … --agent command -- PROGRAM`"))
        }
    }
}

/// Acts it, and looks after each turn.
fn play(client: &Client, stage: &Stage, agent: &Agent) -> Result<Vec<Fact>, Fault> {
    let doctor: Doctor = client.get_json("doctor")?;
    let submission = submission(stage, agent, stage.start_model()?, !doctor.walls.confined);
    let submitted: Submitted = read_json(&client.post("tasks", &submission)?)?;
    let id = submitted.task.id;
    wait::watch(client, id, |_| {})?;
    let mut facts = Vec::new();
    let wrote = wrote(client, id, "two")?;
    facts.push(wrote);
    if facts[0].ok {
        let said = wire::Comment { text: "Add a line that says three.".to_owned() };
        read_json::<Spoken>(&client.post(&of_task(id, "comments"), &said)?)?;
        wait::watch(client, id, |_| {})?;
        let mut heard = self::wrote(client, id, "three")?;
        heard.name = "hears a comment";
        facts.push(heard);
    }
    let (task, requests) = (client.get_json(&of_task(id, ""))?, requests(stage)?);
    if let Some(heard) = facts.get_mut(1).filter(|heard| heard.ok) {
        heard.note.push_str(match sessions(client, id)? {
            0 | 1 => ", in the same session",
            _ => ", in a new session",
        });
    }
    facts.extend(accounts(&requests, &task));
    Ok(facts)
}

fn submission(stage: &Stage, agent: &Agent, url: String, unconfined: bool) -> wire::Submit {
    let protocol = agent.protocols.first().copied().unwrap_or(Protocol::Messages);
    let (provider, variable, url) = match protocol {
        Protocol::Messages => ("anthropic", "ANTHROPIC", url),
        Protocol::ChatCompletions | Protocol::Responses => ("openai", "OPENAI", format!("{url}/v1")),
        Protocol::GenerateContent => ("gemini", "GEMINI", url),
    };
    let brief = wire::Brief {
        goal: "Write two into file.txt, in place of what it says.".to_owned(),
        checks: vec![brief::Check(CheckSpec::from_command("grep -q two file.txt"))],
        agent: Some(agent.name.clone()),
        model: Some(format!("{provider}/scripted")),
        budget: Some(brief::Budget(WITHIN)),
        ..wire::Brief::default()
    };
    let credentials = [(format!("{variable}_API_KEY"), KEY.to_owned()), (format!("{variable}_BASE_URL"), url)];
    wire::Submit {
        brief: Some(brief),
        directory: Some(stage.repository.clone()),
        credentials: Credentials(BTreeMap::from(credentials)),
        unconfined,
        ..wire::Submit::default()
    }
}

/// Whether the workspace has the line now.
fn wrote(client: &Client, id: TaskId, line: &str) -> Result<Fact, Fault> {
    let task: Task = client.get_json(&of_task(id, ""))?;
    let diff = match &task.summary.head {
        Some(_) => client.body(client.get(&of_task(id, "diff"))?)?,
        None => Vec::new(),
    };
    let ok = String::from_utf8_lossy(&diff).lines().any(|found| found.strip_prefix('+') == Some(line));
    let attempt = task.attempts.first();
    let note = match (ok, attempt) {
        (true, _) => format!("`{line}` is in the change"),
        (false, Some(attempt)) => {
            let why = attempt.why.clone().or_else(|| attempt.summary.clone()).unwrap_or_default();
            format!("`{line}` is not in the change; it is {}: {why}", attempt.status.replace('_', " "))
        }
        (false, None) => "nothing was tried".to_owned(),
    };
    Ok(Fact { name: "works with its own tools", ok, note })
}

/// How many the agent had, by its own ids; 0 for one whose conversation is its transcript.
fn sessions(client: &Client, task: TaskId) -> Result<usize, Fault> {
    let log: Log = client.get_json(&of_task(task, "log?limit=500"))?;
    let mut ids: Vec<String> = log
        .lines
        .into_iter()
        .filter_map(|line| match line.body {
            LogBody::Entry(entry) => match entry.entry {
                EntryBody::Session { id, .. } => Some(id),
                _ => None,
            },
            LogBody::Event(_) => None,
        })
        .collect();
    ids.sort();
    ids.dedup();
    Ok(ids.len())
}

/// One request, as the scripted model logs it.
#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    usage: Option<Usage>,
}

fn requests(stage: &Stage) -> Result<Vec<Request>, Fault> {
    let path = stage.requests();
    let text = fs::read_to_string(&path)
        .map_err(|error| Fault::environment(format!("{} cannot be read: {error}", path.display())))?;
    text.lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .map_err(|error| Fault::bug(format!("{} is no log of requests: {error}", path.display())))
}

/// What the model saw, beside what the gateway counted.
fn accounts(requests: &[Request], task: &Task) -> [Fact; 2] {
    let paid = requests.iter().filter_map(|request| request.usage.as_ref());
    let paid = paid.fold(Usage::default(), |sum, usage| sum.plus(usage));
    let (counted, estimated) = (task.spend.usage, task.spend.estimated_calls);
    // An answer that the agent did not hear to its end is counted in full, whatever the model had said by then.
    let (ok, given_up) = match estimated {
        0 => (paid == counted, String::new()),
        calls => (paid.total() <= counted.total(), format!("; it hung up on {calls} answers")),
    };
    let metered = Fact {
        name: "is metered",
        ok: ok && !requests.is_empty(),
        note: format!("{} tokens, the model says {}{given_up}", counted.total(), paid.total()),
    };
    let stamped = requests.iter().filter(|request| request.key.as_deref() == Some(KEY)).count();
    let keyed = Fact {
        name: "holds no key",
        ok: !requests.is_empty() && stamped == requests.len(),
        note: format!("{stamped} of {} requests got theirs outside", requests.len()),
    };
    [metered, keyed]
}

fn told(screen: &Screen, trial: &Trial<'_>, agent: &Agent) -> String {
    let version = trial.version.map_or_else(String::new, |version| format!(" {version}"));
    let mut text = format!("{}{version}, {}\n", screen.paint(Paint::Bold, trial.agent), clean(trial.driven));
    for fact in &trial.facts {
        let (paint, mark) = if fact.ok { (Paint::Green, "ok") } else { (Paint::Red, "!!") };
        text.push_str(&format!("  {}  {:<25} {}\n", screen.paint(paint, mark), fact.name, clean(&fact.note)));
    }
    for remark in &agent.remarks {
        text.push_str(&format!("      {}\n", screen.paint(Paint::Dim, clean(remark))));
    }
    if let Some(kept) = trial.kept {
        let home = kept.join("home");
        text.push_str(&format!("\nIt is kept: OVERNIGHT_HOME={} overnight logs T-1\n", home.display()));
    }
    text
}
