//! One execution of a check: a fresh checkout, a fresh sandbox, its whole output, and everything cleared away afterwards,
//! whoever stopped waiting for it meanwhile.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use domain::{
    Fault,
    check::{CheckEnd, CheckSpec},
    ids::CommitId,
    ports::{
        sandbox::{Confinement, Exec, Exit, Output, Sandbox, SandboxSpec},
        workspace::{Checkout, CheckoutRequest, Repository},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    Options, junit_files,
    parse::{self, Report},
};

/// How long one call waits for a command that has no reason to end soon.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Output up to this is read where the execution runs; more would hold up others on the same thread.
const SMALL: usize = 256 << 10;
/// Bytes of the last complaint kept for a reason.
const COMPLAINT: usize = 200;

/// What every check finds in its environment.
const ENV: &[(&str, &str)] = &[
    ("CI", "true"),
    ("OVERNIGHT", "1"),
    ("TERM", "dumb"),
    ("NO_COLOR", "1"),
    ("CARGO_TERM_COLOR", "never"),
    // pytest names only failures by itself; with its passes named, a removed test can be told by name.
    ("PYTEST_ADDOPTS", "-rfEp"),
];

/// What to run, and on what.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub repository: Repository,
    pub commit: CommitId,
    pub protect: Option<(CommitId, Vec<String>)>,
    pub check: CheckSpec,
    pub confinement: Confinement,
    pub env: Vec<(String, String)>,
    /// Beginning of the checkout's name: letters, digits, `.` and `-`.
    pub label: String,
}

/// How an execution ended and what it reported: all that a verdict looks at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub end: CheckEnd,
    pub report: Report,
    /// The program the shell did not find or could not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent: Option<String>,
    /// The last line that looks like an error, or the last line.
    #[serde(default)]
    pub complaint: String,
}

#[derive(Debug)]
pub(crate) struct Execution {
    pub outcome: Outcome,
    pub duration: Duration,
    /// As printed.
    pub output: Bytes,
    /// As a person reads it.
    pub text: String,
}

/// Runs jobs, a bounded number at a time.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    options: Options,
    slots: Arc<Semaphore>,
    serial: Arc<AtomicU64>,
}

impl Runner {
    pub fn new(options: Options, slots: usize) -> Self {
        Self { options, slots: Arc::new(Semaphore::new(slots)), serial: Arc::default() }
    }

    /// Dropping the future stops the command; the checkout is removed all the same, by a task of its own.
    pub async fn execute(&self, job: Job) -> Result<Execution, Fault> {
        let slot =
            Arc::clone(&self.slots).acquire_owned().await.map_err(|_| Fault::bug("the check slots are closed"))?;
        let (wanted, unwanted) = oneshot::channel::<Infallible>();
        let runner = self.clone();
        let task = tokio::spawn(async move {
            let _slot = slot;
            runner.carry_out(job, unwanted).await
        });
        let done = task.await;
        drop(wanted);
        done.unwrap_or_else(|error| Err(Fault::bug(format!("a check's execution broke off: {error}"))))
    }

    async fn carry_out(&self, job: Job, unwanted: oneshot::Receiver<Infallible>) -> Result<Execution, Fault> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let request = CheckoutRequest {
            repository: job.repository.clone(),
            commit: job.commit.clone(),
            protect: job.protect.clone(),
            name: format!("{}-{serial}", job.label),
        };
        let checkout = self.options.workspaces.checkout(request).await?;
        let result = match self.options.sandboxes.open(self.sandbox(&job, &checkout)).await {
            Ok(sandbox) => {
                let result = tokio::select! {
                    result = self.run(&job, &checkout, &*sandbox) => result,
                    _ = unwanted => Err(Fault::transient("nobody waits for this check any more")),
                };
                sandbox.kill().await;
                result
            }
            Err(fault) => Err(fault),
        };
        self.options.workspaces.discard_checkout(checkout).await;
        result
    }

    fn sandbox(&self, job: &Job, checkout: &Checkout) -> SandboxSpec {
        let env = ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        SandboxSpec {
            root: checkout.root.clone(),
            home: checkout.home.clone(),
            readable: checkout.readable.clone(),
            hidden: self.options.hidden.clone(),
            env: env
                .filter(|(name, _)| job.env.iter().all(|(given, _)| given != name))
                .chain(job.env.clone())
                .collect(),
            limits: self.options.limits,
            lock: checkout.lock.clone(),
            spill: checkout.spill.clone(),
            confinement: job.confinement,
        }
    }

    async fn run(&self, job: &Job, checkout: &Checkout, sandbox: &dyn Sandbox) -> Result<Execution, Fault> {
        let before = junit_files::find(&checkout.root);
        let started = Instant::now();
        let exec = Exec {
            argv: ["sh", "-c", &job.check.command].map(str::to_owned).to_vec(),
            cwd: None,
            env: Vec::new(),
            stdin: Bytes::new(),
            timeout: job.check.timeout_s.map_or(self.options.timeout, Duration::from_secs),
        };
        let mut process = sandbox.spawn(exec).await?;
        let exit = loop {
            if let Some(exit) = process.wait(PATIENCE).await {
                break exit;
            }
        };
        let duration = started.elapsed();
        // What it left running must not write while its results are read.
        sandbox.kill().await;
        let (output, whole) = collect(process.output()).await?;
        let files = junit_files::read(sandbox.files(), &before, &checkout.root);
        let read = Reading {
            exit,
            output: output.clone(),
            files,
            root: checkout.root.clone(),
            home: checkout.home.clone(),
            whole,
        };
        let (outcome, text) = match output.len() < SMALL {
            true => read.outcome(),
            false => tokio::task::spawn_blocking(move || read.outcome()).await.map_err(|error| {
                Fault::bug(format!("reading the output of `{}` broke off: {error}", job.check.name))
            })?,
        };
        Ok(Execution { outcome, duration, output, text })
    }
}

/// The whole of what was kept, and whether that is all there was.
async fn collect(output: Output) -> Result<(Bytes, bool), Fault> {
    let ends = output.head.len() + output.tail.len();
    if output.total <= ends as u64 {
        return Ok((joined(&[&output.head, &output.tail]), true));
    }
    let Some(file) = &output.file else {
        let gap = gap(output.total - ends as u64);
        return Ok((joined(&[&output.head, gap.as_bytes(), &output.tail]), false));
    };
    let kept = tokio::fs::read(file).await.map_err(|error| {
        Fault::environment(format!("the output of a check cannot be read from {}: {error}", file.display()))
            .hint("see whether its disk is full or failing, then check again")
    })?;
    match output.total.saturating_sub(kept.len() as u64) {
        0 => Ok((kept.into(), true)),
        lost => {
            // The last words matter most, and the tail holds them.
            let tail = usize::try_from(lost)
                .map_or(&output.tail[..], |lost| &output.tail[output.tail.len().saturating_sub(lost)..]);
            let gap = gap(lost - tail.len() as u64);
            Ok((joined(&[&kept, gap.as_bytes(), tail]), false))
        }
    }
}

fn gap(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { format!("\n[{bytes} bytes were not kept]\n") }
}

fn joined(parts: &[&[u8]]) -> Bytes {
    let mut whole = BytesMut::with_capacity(parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| whole.extend_from_slice(part));
    whole.freeze()
}

/// All that is needed to make sense of an ended command.
struct Reading {
    exit: Exit,
    output: Bytes,
    files: Vec<String>,
    root: PathBuf,
    home: PathBuf,
    whole: bool,
}

impl Reading {
    fn outcome(&self) -> (Outcome, String) {
        let text = parse::readable(&self.output, &self.root, &self.home);
        let mut report = parse::parse(&text, &self.files);
        report.cut_short |= !self.whole || matches!(self.exit, Exit::TimedOut | Exit::Signal(_));
        report.broken |= !self.whole;
        let absent = absent_program(self.exit, &text);
        let end = match self.exit {
            Exit::Code(_) if absent.is_some() => CheckEnd::NotStarted,
            Exit::Code(code) => CheckEnd::Exited(code),
            Exit::Signal(signal) => CheckEnd::Signaled(signal),
            Exit::TimedOut => CheckEnd::TimedOut,
            Exit::NotStarted => CheckEnd::NotStarted,
        };
        let complaint = parse::complaint(&text, COMPLAINT);
        (Outcome { end, report, absent, complaint }, text)
    }
}

/// The program a shell did not find (127) or could not start (126), or the script that dash could not open (2), by its last
/// words: `sh: 1: foo: not found`.
fn absent_program(exit: Exit, text: &str) -> Option<String> {
    let marks: &[&str] = match exit {
        Exit::Code(127) => &[": not found", ": command not found", ": No such file"],
        Exit::Code(126) => &[": Permission denied", ": cannot execute", ": Is a directory", ": Exec format error"],
        Exit::Code(2) if text.trim_end().lines().next_back()?.starts_with("sh: 0: cannot open ") => &[": No such file"],
        Exit::Code(_) | Exit::Signal(_) | Exit::TimedOut | Exit::NotStarted => return None,
    };
    text.lines().rev().take(20).find_map(|line| {
        let (before, _) = marks.iter().find_map(|mark| line.rsplit_once(mark))?;
        let name = before.rsplit(": ").next().unwrap_or(before).trim_start_matches("cannot open ").trim();
        (!name.is_empty()).then(|| name.to_owned())
    })
}
