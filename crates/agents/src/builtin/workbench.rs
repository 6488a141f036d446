//! Where tool calls are carried out: files, and commands that may outlast the call that started them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Fault,
    ports::{
        agent::{Hands, Line, Mode, TurnRequest},
        sandbox::{Exec, Exit, Files, Output, Process, Sandbox, WORKSPACE_DIR},
    },
};

use super::{
    conversation::Done,
    files,
    output::{self, MAX_TEXT},
    tools::{Call, Poll, Progress, Search, Shell},
};
use crate::prompts;

/// Commands that may go on at once.
const MAX_RUNNING: usize = 8;
const DEFAULT_WAIT_S: f64 = 60.0;
const MAX_WAIT_S: f64 = 600.0;
/// A search that takes longer is given up.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes shown of a line that was found.
const MAX_FOUND_LINE: usize = 300;

/// One turn's tools. What is still running when it is dropped is killed.
pub(super) struct Workbench<'a> {
    sandbox: &'a Arc<dyn Sandbox>,
    line: &'a dyn Line,
    mode: Mode,
    command_timeout: Duration,
    /// `sh` once `bash` was not to be found.
    shell: &'static str,
    running: BTreeMap<String, Running>,
}

/// A command that goes on after its call.
struct Running {
    process: Box<dyn Process>,
    command: String,
    /// Bytes of its output that the agent was shown.
    seen: u64,
}

/// How waiting for a command came out.
enum Waited {
    Ended(Exit),
    GoesOn,
    Interrupted,
}

impl<'a> Workbench<'a> {
    pub fn new(hands: &'a Hands, request: &TurnRequest, command_timeout: Duration) -> Self {
        Self {
            sandbox: &hands.sandbox,
            line: &*hands.line,
            mode: request.mode,
            command_timeout,
            shell: "bash",
            running: BTreeMap::new(),
        }
    }

    /// Carries out a call; `id` names it within the attempt. Whatever goes wrong is the call's result, for the agent to read.
    /// Resolves soon after the turn is interrupted.
    pub async fn carry_out(&mut self, call: Call, id: &str) -> Done {
        if self.mode == Mode::Plan && call.changes() {
            return Done::error(
                "Refused: this is a planning turn. You can read, search, ask, and finish with the plan.",
            );
        }
        match call {
            Call::Shell(call) => self.shell(call, id).await,
            Call::Poll(call) => self.poll(call).await,
            Call::Search(call) => self.search(call).await,
            Call::Read(call) => on_files(self.sandbox, move |files| files::read(files, &call)).await,
            Call::Edit(call) => on_files(self.sandbox, move |files| files::edit(files, &call)).await,
            Call::Write(call) => on_files(self.sandbox, move |files| files::write(files, &call)).await,
            Call::Progress(Progress { text, percent }) => {
                let percent = percent.and_then(|percent| u8::try_from(percent.clamp(0, 100)).ok());
                self.line.progress(percent, text);
                Done::ok("Told.")
            }
            Call::Ask(_) | Call::Finish(_) => Done::error("This ends the turn and is nothing to carry out."),
        }
    }

    /// Ends all that is still running, and resolves when it is gone.
    pub async fn clear(&mut self) {
        for (_, mut running) in std::mem::take(&mut self.running) {
            running.process.kill().await;
        }
    }

    async fn shell(&mut self, call: Shell, id: &str) -> Done {
        if self.running.len() >= MAX_RUNNING {
            return Done::error(format!(
                "{MAX_RUNNING} commands still go on: poll or kill one first.\n{}",
                self.list()
            ));
        }
        loop {
            let argv = [self.shell, "-c", &call.command].map(str::to_owned).to_vec();
            let process = match self.spawn(argv, self.command_timeout).await {
                Ok(process) => process,
                Err(fault) => return files::failed(&fault),
            };
            let mut running = Running { process, command: call.command.clone(), seen: 0 };
            match self.wait(&mut running, call.wait_s).await {
                Waited::Ended(Exit::NotStarted) if self.shell == "bash" => self.shell = "sh",
                waited => return self.report(running, waited, id).await,
            }
        }
    }

    async fn poll(&mut self, call: Poll) -> Done {
        let Some(mut running) = self.running.remove(&call.id) else {
            return Done::error(format!("No command `{}` is running. {}", call.id, self.list()));
        };
        if call.kill {
            running.process.kill().await;
            let news = output::news(&running.process.output(), running.seen);
            return Done::ok(format!("{}\n[killed]", news.text.trim_end()));
        }
        let waited = self.wait(&mut running, call.wait_s).await;
        self.report(running, waited, &call.id).await
    }

    async fn spawn(&mut self, argv: Vec<String>, timeout: Duration) -> Result<Box<dyn Process>, Fault> {
        // No pager, no prompt, no colours: nobody is at a terminal.
        let env = [("PAGER", "cat"), ("GIT_PAGER", "cat"), ("GIT_TERMINAL_PROMPT", "0"), ("NO_COLOR", "1")];
        let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        self.sandbox.spawn(Exec { argv, cwd: None, env, stdin: Bytes::new(), timeout }).await
    }

    /// Waits for the end for so long, but not past an interrupt; that kills the command.
    async fn wait(&mut self, running: &mut Running, wait_s: Option<f64>) -> Waited {
        let patience = Duration::from_secs_f64(wait_s.unwrap_or(DEFAULT_WAIT_S).clamp(0.0, MAX_WAIT_S));
        let exit = tokio::select! {
            biased;
            exit = running.process.wait(patience) => exit,
            () = self.line.interrupted() => {
                running.process.kill().await;
                return Waited::Interrupted;
            }
        };
        exit.map_or(Waited::GoesOn, Waited::Ended)
    }

    /// Tells what a command printed since it was last looked at and how it ended; one that goes on is kept under `id`.
    async fn report(&mut self, mut running: Running, waited: Waited, id: &str) -> Done {
        let output = running.process.output();
        let news = output::news(&output, running.seen);
        let mut text = news.text;
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        if let Waited::GoesOn = waited {
            running.seen = output.total;
            self.running.insert(id.to_owned(), running);
            text.push_str(&format!("[still running; its id is {id}]"));
            return Done::ok(text);
        }
        if news.elided > 0 {
            text.push_str(&output::keep(self.sandbox, output, id).await);
            text.push('\n');
        }
        let (end, is_error) = match waited {
            Waited::Ended(Exit::Code(0)) if text.is_empty() => ("[no output]".to_owned(), false),
            Waited::Ended(Exit::Code(0)) => (String::new(), false),
            Waited::Ended(Exit::Code(code)) => (format!("[exit code {code}]"), true),
            Waited::Ended(Exit::Signal(signal)) => (format!("[killed by signal {signal}]"), true),
            Waited::Ended(Exit::TimedOut) => {
                (format!("[killed: it ran for more than {} s]", self.command_timeout.as_secs()), true)
            }
            Waited::Ended(Exit::OverQuota { held, quota }) => {
                (format!("[killed: {}]", prompts::over_quota(held, quota)), true)
            }
            Waited::Ended(Exit::NotStarted) => ("[the sandbox has no shell to run it]".to_owned(), true),
            Waited::Interrupted | Waited::GoesOn => ("[killed: the turn was interrupted]".to_owned(), true),
        };
        text.push_str(&end);
        text.truncate(text.trim_end().len());
        Done { text, is_error }
    }

    fn list(&self) -> String {
        if self.running.is_empty() {
            return "None is. A command ends with its turn.".to_owned();
        }
        let lines = self.running.iter().map(|(id, running)| {
            format!("{id}: {}", crate::clip::head(running.command.lines().next().unwrap_or_default(), 100))
        });
        format!("Running:\n{}", lines.collect::<Vec<_>>().join("\n"))
    }

    async fn search(&mut self, call: Search) -> Done {
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

    async fn find(&mut self, argv: &[&str]) -> Result<(Exit, Output), Done> {
        let argv = argv.iter().map(|&word| word.to_owned()).collect();
        let mut process = self.spawn(argv, SEARCH_TIMEOUT).await.map_err(|fault| files::failed(&fault))?;
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

/// A tool on files, with the sandbox's files as they are now; beside the runtime, as the disk and long files take their time.
async fn on_files(sandbox: &Arc<dyn Sandbox>, tool: impl FnOnce(&dyn Files) -> Done + Send + 'static) -> Done {
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
