//! The agents that people have start behind the walls, from a place in the hidden home.

use std::{fs, path::PathBuf};

use domain::ports::sandbox::{Confinement, Exit, Limits, SandboxSpec, Sandboxes as _};

use crate::host::{Place, exec, run, sandboxes};

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

#[tokio::test]
async fn every_agent_starts() {
    let Some(agents) = std::env::var_os("OVERNIGHT_AGENTS").map(PathBuf::from) else {
        eprintln!("SKIPPED: OVERNIGHT_AGENTS is not set; `cargo xtask agents` installs them and says where");
        return;
    };
    let agents = fs::canonicalize(agents).unwrap();
    let place = Place::new();
    let path = ["bin", "node_modules/.bin"].map(|directory| agents.join(directory).display().to_string()).join(":");
    let env = vec![("PATH".to_owned(), path)];
    let limits = Limits { memory_bytes: Some(2 << 30), ..Limits::default() };
    let spec = SandboxSpec { readable: vec![agents.clone()], env, limits, ..place.spec(Confinement::Confined) };
    let sandbox = sandboxes().open(spec).await.unwrap();
    for (name, word) in PROGRAMS {
        if !["bin", "node_modules/.bin"].iter().any(|directory| agents.join(directory).join(name).exists()) {
            eprintln!("SKIPPED: {name} is not in {}", agents.display());
            continue;
        }
        let arguments: &[&str] = if name == "mini" { &[name, "--help"] } else { &[name, "--version"] };
        let (exit, printed) = run(&*sandbox, exec(arguments)).await;
        assert!(exit == Exit::Code(0) && printed.contains(word), "{name}: {exit:?} {printed}");
    }
}
