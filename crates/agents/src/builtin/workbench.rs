//! Where tool calls are carried out: files, and commands that may outlast the call that started them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use domain::ports::{
    agent::{Hands, Line, Mode, StepState, TurnRequest},
    sandbox::{Exit, Process, Sandbox},
};

use super::{
    conversation::Done,
    eyes::{self, Eyes},
    files, output,
    servers::Servers,
    tools::{Call, Plan, Poll, Progress, Shell},
};
use crate::prompts;

/// Commands that may go on at once.
const MAX_RUNNING: usize = 8;
const DEFAULT_WAIT_S: f64 = 60.0;
const MAX_WAIT_S: f64 = 600.0;

/// One turn's tools. What is still running when it is dropped is killed.
pub(super) struct Workbench<'a> {
    sandbox: &'a Arc<dyn Sandbox>,
    line: &'a dyn Line,
    mode: Mode,
    command_timeout: Duration,
    /// `sh` once `bash` was not to be found.
    shell: &'static str,
    running: BTreeMap<String, Running>,
    pub servers: Servers<'a>,
    pub eyes: Eyes<'a>,
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
            servers: Servers::new(&hands.sandbox, &*hands.line, &request.guidance),
            eyes: Eyes { sandbox: &hands.sandbox, line: &*hands.line },
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
            Call::Read(_) | Call::Search(_) => self.eyes.look(call).await,
            Call::Edit(call) => eyes::on_files(self.sandbox, move |files| files::edit(files, &call)).await,
            Call::Write(call) => eyes::on_files(self.sandbox, move |files| files::write(files, &call)).await,
            Call::Progress(Progress { text, percent }) => {
                let percent = percent.and_then(|percent| u8::try_from(percent.clamp(0, 100)).ok());
                self.line.progress(percent, text);
                Done::ok("Told.")
            }
            Call::Plan(Plan { steps }) => {
                let done = steps.iter().filter(|step| step.state == StepState::Done).count();
                let now = steps.iter().find(|step| step.state == StepState::Doing);
                let percent = (done * 100).checked_div(steps.len()).and_then(|percent| u8::try_from(percent).ok());
                self.line.progress(percent, now.map_or_else(|| "planned".to_owned(), |step| step.text.clone()));
                Done::ok("Kept.")
            }
            Call::Server(call) => self.servers.call(call, id).await,
            Call::Ask(_) | Call::Finish(_) => Done::error("This ends the turn and is nothing to carry out."),
        }
    }

    /// Ends all that is still running, and resolves when it is gone.
    pub async fn clear(&mut self) {
        for (_, mut running) in std::mem::take(&mut self.running) {
            running.process.kill().await;
        }
        self.servers.clear().await;
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
            let process = match eyes::spawn(self.sandbox, argv, self.command_timeout).await {
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
        Done { text, is_error, images: Vec::new() }
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
}
