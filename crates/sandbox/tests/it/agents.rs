//! The agents that people have run behind the walls, from a place in the hidden home.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use domain::ports::sandbox::{Confinement, Exit, Limits, Sandbox, SandboxSpec, Sandboxes as _};

use crate::host::{LONG, Place, exec, run, sandboxes, text};

/// With a word of what each says of its version.
const PROGRAMS: [(&str, &str); 12] = [
    ("node", "v24."),
    ("codex", "codex-cli 0."),
    ("codex-acp", "2."),
    ("claude", "Claude Code"),
    ("claude-agent-acp", "0."),
    ("copilot", "GitHub Copilot CLI"),
    ("gemini", "0."),
    ("opencode", "1."),
    ("qwen", "0."),
    ("pi", "0."),
    ("mini", "mini-swe-agent"),
    ("aider", "aider 0."),
];

/// Those that speak the Agent Client Protocol, as they are started for it.
const SPEAKERS: [&[&str]; 6] = [
    &["codex-acp"],
    &["claude-agent-acp"],
    &["copilot", "--acp"],
    &["gemini", "--acp"],
    &["opencode", "acp"],
    &["qwen", "--acp"],
];

const PLACES: [&str; 2] = ["bin", "node_modules/.bin"];

/// Where the agents are; `None` where nobody installed them.
fn agents() -> Option<PathBuf> {
    let Some(agents) = std::env::var_os("OVERNIGHT_AGENTS") else {
        eprintln!("SKIPPED: OVERNIGHT_AGENTS is not set; `cargo xtask agents` installs them and says where");
        return None;
    };
    Some(fs::canonicalize(agents).unwrap())
}

fn has(agents: &Path, name: &str) -> bool {
    let there = PLACES.iter().any(|directory| agents.join(directory).join(name).exists());
    if !there {
        eprintln!("SKIPPED: {name} is not in {}", agents.display());
    }
    there
}

async fn open(place: &Place, agents: &Path) -> Arc<dyn Sandbox> {
    let path = PLACES.map(|directory| agents.join(directory).display().to_string()).join(":");
    let env = vec![("PATH".to_owned(), path)];
    let limits = Limits { memory_bytes: Some(2 << 30), ..Limits::default() };
    let spec = SandboxSpec { readable: vec![agents.into()], env, limits, ..place.spec(Confinement::Confined) };
    sandboxes().open(spec).await.unwrap()
}

#[tokio::test]
async fn every_agent_starts() {
    let Some(agents) = agents() else { return };
    let place = Place::new();
    let sandbox = open(&place, &agents).await;
    for (name, word) in PROGRAMS {
        if has(&agents, name) {
            let option = if name == "mini" { "--help" } else { "--version" };
            let (exit, printed) = run(&*sandbox, exec(&[name, option])).await;
            assert!(exit == Exit::Code(0) && printed.contains(word), "{name}: {exit:?} {printed}");
        }
    }
}

#[tokio::test]
async fn every_agent_answers_in_its_protocol() {
    let Some(agents) = agents() else { return };
    let place = Place::new();
    let sandbox = open(&place, &agents).await;
    let greeting =
        r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1,"clientCapabilities":{}}}"#;
    for argv in SPEAKERS {
        if has(&agents, argv[0]) {
            let mut told = sandbox.converse(exec(argv)).await.unwrap();
            told.input.write(Bytes::from(format!("{greeting}\n"))).await.unwrap();
            let answer = told.lines.next().await.unwrap();
            let words = answer.map(|line| String::from_utf8_lossy(&line).into_owned()).unwrap_or_default();
            let said = text(&told.process.output());
            assert!(words.contains(r#""protocolVersion":1"#), "{argv:?}: {words} {said}");
            drop(told.input);
            assert!(told.process.wait(LONG).await.is_some(), "{argv:?} goes on when nobody can talk to it any more");
        }
    }
}
