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
        egress::{Refusal, Refusals},
        environments::{OpenRequest, Opened, Purpose},
        sandbox::{Exec, Exit, Output, Tree},
        workspace::{CheckoutRequest, Prepared, Repository, Surroundings},
    },
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{
    Options, blocked,
    parse::{self, Report},
    places::Places,
    report_files,
};

/// How long one call waits for a command that has no reason to end soon.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Output and reports up to this are read where the execution runs; more would hold up others on the same thread.
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
    /// Whose definition furnishes the sandbox, whatever commit is checked.
    pub base: CommitId,
    pub commit: CommitId,
    pub protect: Option<(CommitId, Vec<String>)>,
    pub check: CheckSpec,
    pub surroundings: Surroundings,
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
    /// Services of the environment that were not ready. Such an outcome is not kept.
    #[serde(skip)]
    pub unready: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Execution {
    pub outcome: Outcome,
    pub duration: Duration,
    /// As printed.
    pub output: Bytes,
    /// As a person reads it.
    pub text: String,
    /// What it wanted to reach and was not let.
    pub refused: Vec<Refusal>,
}

/// Runs jobs, a bounded number at a time.
#[derive(Clone, Debug)]
pub(crate) struct Runner {
    options: Options,
    places: Places,
    serial: Arc<AtomicU64>,
}

impl Runner {
    pub fn new(options: Options) -> Self {
        let places = Places::new(options.parallel, options.late_after);
        Self { options, places, serial: Arc::default() }
    }

    /// Dropping the future stops the command; the checkout is removed all the same, by a task of its own.
    pub async fn execute(&self, job: Job) -> Result<Execution, Fault> {
        let place = self.places.take().await?;
        let (wanted, unwanted) = oneshot::channel::<Infallible>();
        let runner = self.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                done = runner.carry_out(job, unwanted) => done,
                never = place.hold() => match never {},
            }
        });
        let done = task.await;
        drop(wanted);
        done.unwrap_or_else(|error| Err(Fault::bug(format!("a check's execution broke off: {error}"))))
    }

    async fn carry_out(&self, job: Job, unwanted: oneshot::Receiver<Infallible>) -> Result<Execution, Fault> {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{serial}", job.label);
        let request = CheckoutRequest {
            repository: job.repository.clone(),
            commit: job.commit.clone(),
            protect: job.protect.clone(),
            name: name.clone(),
            surroundings: job.surroundings.clone(),
        };
        let place = self.options.workspaces.checkout(request).await?;
        let host = Host::of(&place);
        let refused = Refusals::at_most(blocked::MOST);
        let result = match self.options.environments.open(self.opening(&job, place, &refused)).await {
            Ok(opened) => {
                let result = tokio::select! {
                    result = self.run(&job, &opened, host) => result,
                    _ = unwanted => Err(Fault::transient("nobody waits for this check any more")),
                };
                opened.sandbox.kill().await;
                result
            }
            Err(fault) => Err(fault),
        };
        self.options.workspaces.discard_checkout(name).await;
        result.map(|execution| Execution { refused: refused.all(), ..execution })
    }

    fn opening(&self, job: &Job, place: Prepared, refused: &Refusals) -> OpenRequest {
        let env = ENV.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        OpenRequest {
            repository: job.repository.clone(),
            base: job.base.clone(),
            place,
            purpose: Purpose::Check,
            confinement: job.surroundings.confinement,
            env: env
                .filter(|(name, _)| job.env.iter().all(|(given, _)| given != name))
                .chain(job.env.clone())
                .collect(),
            programs: Vec::new(),
            allow: Vec::new(),
            bridges: Vec::new(),
            refused: refused.receiver(),
            output_bytes: self.options.output_bytes,
        }
    }

    async fn run(&self, job: &Job, opened: &Opened, host: Host) -> Result<Execution, Fault> {
        let files = opened.sandbox.files().await?;
        let before = {
            let files = Arc::clone(&files);
            aside(job, move || report_files::find(&*files)).await??
        };
        let started = Instant::now();
        let exec = Exec {
            argv: ["sh", "-c", &job.check.command].map(str::to_owned).to_vec(),
            cwd: None,
            env: Vec::new(),
            stdin: Bytes::new(),
            timeout: job.check.timeout_s.map_or(self.options.timeout, Duration::from_secs),
        };
        let mut process = opened.sandbox.spawn(exec).await?;
        let exit = loop {
            if let Some(exit) = process.wait(PATIENCE).await {
                break exit;
            }
        };
        let duration = started.elapsed();
        // What it left running must not write while its results are read.
        process.kill().await;
        let (output, whole) = collect(process.output()).await?;
        let written = aside(job, move || report_files::read(&*files, &before)).await?;
        let length = output.len() + written.iter().map(String::len).sum::<usize>();
        let read = Reading { exit, output: output.clone(), files: written, host, whole };
        let (mut outcome, text) = match length < SMALL {
            true => read.outcome(),
            false => aside(job, move || read.outcome()).await?,
        };
        outcome.unready.clone_from(&opened.notes);
        Ok(Execution { outcome, duration, output, text, refused: Vec::new() })
    }
}

/// Does what takes a while where it holds up nobody.
async fn aside<T: Send + 'static>(job: &Job, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    let broke_off = |error| Fault::bug(format!("reading what `{}` left broke off: {error}", job.check.name));
    tokio::task::spawn_blocking(work).await.map_err(broke_off)
}

/// Where workspace and HOME are on the host, for commands that see them there: plain processes, to which nothing else can be
/// shown.
#[derive(Clone, Debug)]
struct Host {
    root: Option<PathBuf>,
    home: Option<PathBuf>,
}

impl Host {
    fn of(place: &Prepared) -> Self {
        let plain = |tree: &Tree| match tree {
            Tree::Directory(path) => Some(path.clone()),
            Tree::Layers(_) => None,
        };
        Self { root: plain(&place.root), home: plain(&place.home) }
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
    host: Host,
    whole: bool,
}

impl Reading {
    fn outcome(&self) -> (Outcome, String) {
        let readable = |raw: &[u8]| parse::readable(raw, self.host.root.as_deref(), self.host.home.as_deref());
        let text = readable(&self.output);
        let files: Vec<String> = self.files.iter().map(|file| readable(file.as_bytes())).collect();
        let mut report = parse::parse(&text, &files);
        report.cut_short |=
            !self.whole || matches!(self.exit, Exit::TimedOut | Exit::OverQuota { .. } | Exit::Signal(_));
        report.broken |= !self.whole;
        let absent = absent_program(self.exit, &text);
        let end = match self.exit {
            Exit::Code(_) if absent.is_some() => CheckEnd::NotStarted,
            Exit::Code(code) => CheckEnd::Exited(code),
            Exit::Signal(signal) => CheckEnd::Signaled(signal),
            Exit::TimedOut => CheckEnd::TimedOut,
            Exit::OverQuota { .. } => CheckEnd::OverQuota,
            Exit::NotStarted => CheckEnd::NotStarted,
        };
        let complaint = parse::complaint(&text, COMPLAINT);
        (Outcome { end, report, absent, complaint, unready: Vec::new() }, text)
    }
}

/// The program a shell did not find (127) or could not start (126), or the script that dash could not open (2), by its last
/// words: `sh: 1: foo: not found`.
fn absent_program(exit: Exit, text: &str) -> Option<String> {
    let marks: &[&str] = match exit {
        Exit::Code(127) => &[": not found", ": command not found", ": No such file"],
        Exit::Code(126) => &[": Permission denied", ": cannot execute", ": Is a directory", ": Exec format error"],
        Exit::Code(2) if text.trim_end().lines().next_back()?.starts_with("sh: 0: cannot open ") => &[": No such file"],
        Exit::Code(_) | Exit::Signal(_) | Exit::TimedOut | Exit::OverQuota { .. } | Exit::NotStarted => return None,
    };
    text.lines().rev().take(20).find_map(|line| {
        let (before, _) = marks.iter().find_map(|mark| line.rsplit_once(mark))?;
        let name = before.rsplit(": ").next().unwrap_or(before).trim_start_matches("cannot open ").trim();
        (!name.is_empty()).then(|| name.to_owned())
    })
}
