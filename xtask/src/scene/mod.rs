//! A whole Overnight in a temporary directory: a home, a daemon, a scripted provider, and the command line to drive it. What
//! benchmarks, the crash storm and the real-bug suite play in. Nothing of the caller's environment gets in but the toolchain.

mod group;
mod provider;
mod repository;

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

pub use group::Group;
pub use provider::{Provider, Request};
pub use repository::Repository;

/// How long anything may take before the scene is given up; far above what a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two looks at a fact that is waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Variables of the toolchain that reach the daemon, as HOME is not the caller's.
const TOOLCHAIN: [(&str, &str); 2] = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];

#[derive(Debug)]
pub struct Scene {
    directory: PathBuf,
    binary: PathBuf,
    provider: Provider,
    daemon: Option<Child>,
    group: Option<Group>,
    keep: bool,
}

impl Scene {
    /// A scene in which the provider plays `script`. No daemon runs yet.
    pub fn new(binary: &Path, script: &Value) -> Result<Self> {
        let name = format!("overnight-scene-{}-{:x}", std::process::id(), nanos());
        let directory = std::env::temp_dir().join(name);
        for part in ["home", "person"] {
            // For their owner only, as the daemon wants its home.
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory.join(part))
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        let mut bare = Command::new(binary);
        clear(&mut bare, &directory);
        let provider = Provider::start(bare, &directory, script)?;
        let keep = std::env::var_os("OVERNIGHT_KEEP_SCENES").is_some();
        Ok(Self { directory, binary: binary.into(), provider, daemon: None, group: None, keep })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts `config.toml` into the home, for the next start.
    pub fn configure(&self, text: &str) -> Result<()> {
        let path = self.directory.join("home/config.toml");
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Starts the daemon, which is a child of this process so that it can be killed and weighed.
    pub fn start(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.directory.join("daemon.log"))?;
        let enter = self.group.as_ref().map_or("exec \"$@\"", Group::enter);
        let mut shell = Command::new("/bin/sh");
        clear(&mut shell, &self.directory);
        shell.args(["-c", enter, "sh"]).arg(&self.binary).arg("serve");
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(shell.spawn().context("cannot start the daemon")?);
        wait("the daemon to answer", || {
            if let Some(daemon) = &mut self.daemon
                && let Some(status) = daemon.try_wait()?
            {
                bail!("the daemon ended with {status}; its log:\n{}", tail(&self.directory.join("daemon.log")));
            }
            Ok(self.overnight(&["daemon", "status"]).output()?.status.success().then_some(()))
        })
    }

    /// `kill -9`, without a word to anybody. The daemon is gone when this returns.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut daemon) = self.daemon.take() else { bail!("no daemon runs") };
        daemon.kill().context("cannot kill the daemon")?;
        daemon.wait().context("cannot wait for the daemon")?;
        Ok(())
    }

    pub fn daemon_pid(&self) -> Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon runs")?.id())
    }

    /// From the next start on, everything that the daemon starts, and it, can be weighed together.
    pub fn weigh(&mut self) -> Result<()> {
        self.group = Some(Group::make()?);
        Ok(())
    }

    /// What [`weigh`](Self::weigh) has set up.
    pub fn group(&self) -> Result<&Group> {
        self.group.as_ref().context("nobody asked to weigh this scene")
    }

    /// The command line, with the keys that lead to the scripted provider.
    pub fn overnight(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        clear(&mut command, &self.directory);
        command.env("ANTHROPIC_API_KEY", "a-key-of-nobody").env("ANTHROPIC_BASE_URL", self.provider.url());
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the command line in `directory`; standard output of a success.
    pub fn ask(&self, directory: &Path, arguments: &[&str]) -> Result<String> {
        let output = self.overnight(arguments).current_dir(directory).output().context("cannot start overnight")?;
        ensure!(output.status.success(), "overnight {} failed: {}", arguments.join(" "), told(&output));
        String::from_utf8(output.stdout).context("overnight printed something that is not UTF-8")
    }

    /// Hands over a task; its id. `goal` must be unlike every other goal in the scene: it is how the provider tells tasks apart.
    pub fn submit(&self, repository: &Repository, goal: &str, more: &[&str]) -> Result<String> {
        let mut arguments = vec!["run", goal, "--model", "claude-scripted"];
        arguments.extend(more);
        Ok(self.ask(repository.path(), &arguments)?.trim().to_owned())
    }

    /// `list --json` of everything.
    pub fn tasks(&self) -> Result<Vec<Value>> {
        let text = self.ask(&self.directory, &["list", "--limit", "1000", "--json"])?;
        let list: Value = serde_json::from_str(&text).context("`list --json` printed no JSON")?;
        Ok(list.get("tasks").and_then(Value::as_array).cloned().unwrap_or_default())
    }

    /// Waits until no task works any more: each has ended or needs a person.
    pub fn settle(&self) -> Result<()> {
        wait("all tasks to come to rest", || {
            let status: Value = serde_json::from_str(&self.ask(&self.directory, &["daemon", "status", "--json"])?)?;
            let count = |phase: &str| status.pointer(&format!("/tasks/{phase}")).and_then(Value::as_u64).unwrap_or(1);
            Ok((count("working") + count("landing") + count("closing") == 0).then_some(()))
        })
    }

    /// What reached the provider so far.
    pub fn requests(&self) -> Result<Vec<Request>> {
        self.provider.requests()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let mut stop = self.overnight(&["daemon", "stop"]);
            let stopped = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
            // One that does not stop when asked is ended; there is nobody left to tell.
            if !stopped.is_ok_and(|status| status.success()) {
                let _ = daemon.kill();
            }
            let _ = daemon.wait();
        }
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn clear(command: &mut Command, directory: &Path) {
    command.env_clear();
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    command.env("PATH", set("PATH").unwrap_or_default()).env("HOME", directory.join("person"));
    command.env("OVERNIGHT_HOME", directory.join("home")).env("LANG", "C.UTF-8");
    for (name, below_home) in TOOLCHAIN {
        let usual = set("HOME").map(|home| Path::new(&home).join(below_home).into_os_string());
        if let Some(value) = set(name).or(usual) {
            command.env(name, value);
        }
    }
}

/// Looks at a fact until it is there.
pub fn wait<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        ensure!(start.elapsed() < PATIENCE, "waited {} s for {what} in vain", PATIENCE.as_secs());
        thread::sleep(LOOK_AGAIN);
    }
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    format!("{}\n{}", output.status, String::from_utf8_lossy(&text).trim_end())
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}
