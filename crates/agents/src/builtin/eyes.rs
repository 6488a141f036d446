//! Looking at files: reading them, and searching in them. Looks change nothing and may run side by side.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Fault,
    ports::{
        agent::Line,
        sandbox::{Exec, Exit, Files, Output, Process, Sandbox, WORKSPACE_DIR},
    },
};

use super::{
    conversation::Done,
    files,
    output::MAX_TEXT,
    tools::{Call, Search},
};
use crate::prompts;

/// A search that takes longer is given up.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes shown of a line that was found.
const MAX_FOUND_LINE: usize = 300;

/// What can look into one sandbox.
#[derive(Clone, Copy)]
pub(super) struct Eyes<'a> {
    pub sandbox: &'a Arc<dyn Sandbox>,
    pub line: &'a dyn Line,
}

impl Eyes<'_> {
    /// Carries out a call that only looks at files.
    pub async fn look(self, call: Call) -> Done {
        match call {
            Call::Read(call) => on_files(self.sandbox, move |files| files::read(files, &call)).await,
            Call::Search(call) => self.search(call).await,
            _ => Done::error("This is nothing to look at."),
        }
    }

    async fn search(self, call: Search) -> Done {
        let path = call.path.as_deref().map_or(".", relative);
        let git = ["git", "grep", "-nI", "--untracked", "-E", "-e", &call.pattern, "--", path];
        match self.find(&git).await {
            // No git, no repository, or one that git will not read. (A wrong pattern comes here too; grep says the same of it.)
            Ok((Exit::NotStarted | Exit::Code(128), _)) => {}
            found => return told(&call.pattern, found),
        }
        let plain = ["grep", "-rnIE", "--exclude-dir=.git", "-e", &call.pattern, "--", path];
        told(&call.pattern, self.find(&plain).await)
    }

    async fn find(self, argv: &[&str]) -> Result<(Exit, Output), Done> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let mut process = spawn(self.sandbox, argv, SEARCH_TIMEOUT).await.map_err(|fault| files::failed(&fault))?;
        tokio::select! {
            biased;
            exit = process.wait(SEARCH_TIMEOUT) => Ok((exit.unwrap_or(Exit::TimedOut), process.output())),
            () = self.line.interrupted() => {
                process.kill().await;
                Err(Done::error("[stopped: the turn was interrupted]"))
            }
        }
    }
}

/// Starts a command of a tool.
pub(super) async fn spawn(
    sandbox: &Arc<dyn Sandbox>,
    argv: Vec<String>,
    timeout: Duration,
) -> Result<Box<dyn Process>, Fault> {
    // No pager, no prompt, no colours: nobody is at a terminal.
    let env = [("PAGER", "cat"), ("GIT_PAGER", "cat"), ("GIT_TERMINAL_PROMPT", "0"), ("NO_COLOR", "1")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    sandbox.spawn(Exec { argv, cwd: None, env, stdin: Bytes::new(), timeout }).await
}

/// A tool on files, with the sandbox's files as they are now; beside the runtime, as the disk and long files take their time.
pub(super) async fn on_files(
    sandbox: &Arc<dyn Sandbox>,
    tool: impl FnOnce(&dyn Files) -> Done + Send + 'static,
) -> Done {
    let files = match sandbox.files().await {
        Ok(files) => files,
        Err(fault) => return files::failed(&fault),
    };
    let done = tokio::task::spawn_blocking(move || tool(&*files)).await;
    done.unwrap_or_else(|error| files::failed(&Fault::bug(format!("the tool broke off: {error}"))))
}

/// What a search found, as lines of bounded length and number.
fn told(pattern: &str, found: Result<(Exit, Output), Done>) -> Done {
    let (exit, output) = match found {
        Ok(found) => found,
        Err(done) => return done,
    };
    match exit {
        Exit::Code(0) => {}
        Exit::Code(1) if output.total == 0 => return Done::ok(format!("Nothing matches {pattern}.")),
        Exit::TimedOut => return Done::error("The search took too long: name a path, or make the pattern simpler."),
        Exit::OverQuota { held, quota } => {
            return Done::error(format!("The search was killed: {}.", prompts::over_quota(held, quota)));
        }
        Exit::Code(_) | Exit::Signal(_) | Exit::NotStarted => {
            return Done::error(format!("The search failed: {}", String::from_utf8_lossy(&output.head).trim()));
        }
    }
    let (mut text, mut shown) = (String::new(), 0);
    for line in output.head.split_inclusive(|byte| *byte == b'\n') {
        let cut = crate::clip::head(String::from_utf8_lossy(line).trim_end(), MAX_FOUND_LINE).replace('\n', " ");
        if text.len() + cut.len() > MAX_TEXT {
            break;
        }
        text.push_str(&cut);
        text.push('\n');
        shown += line.len() as u64;
    }
    let left = output.total.saturating_sub(shown);
    if left > 0 {
        text.push_str(&format!("[{left} more bytes of matches: narrow the pattern or the path]"));
    }
    text.truncate(text.trim_end().len());
    Done::ok(text)
}

/// A path as it stands from the workspace's root, which is not at its constant place where nothing is confined.
fn relative(path: &str) -> &str {
    match path.strip_prefix(WORKSPACE_DIR) {
        Some("" | "/") => ".",
        Some(rest) => rest.strip_prefix('/').unwrap_or(path),
        None if path.is_empty() => ".",
        None => path,
    }
}
