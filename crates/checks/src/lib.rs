//! Runs the judging commands on exact commits, and says what they mean.
//!
//! | file | for |
//! |---|---|
//! | `judge` | one judgement: every check on the head and on the base, the contract's paths, the verdict |
//! | `run` | one execution of a check: fresh checkout, fresh sandbox, whole output, always cleared away |
//! | `base` | the base's own results: run once, kept |
//! | `junit_files` | the reports a run wrote into its checkout |
//! | `parse` | from what a run left behind to named tests and located messages, a file per format |
//! | `verdict` | head against base, a pure function |
//! | `contract` | which changed paths are protected or not allowed |
//! | `digest` | what the agent is told, and when two failures are the same |
//! | `detect` | the checks a base suggests |
//!
//! Nothing here believes the agent: a commit goes in, and what our own runs showed comes out. Where a report cannot be
//! understood the exit code alone counts, and a report can make a verdict worse, never better than the exit code and the base
//! allow.
#![forbid(unsafe_code)]

mod base;
mod contract;
mod detect;
mod digest;
mod judge;
mod junit_files;
mod parse;
mod run;
mod verdict;

use std::{path::PathBuf, sync::Arc, time::Duration};

use domain::{
    Fault,
    check::{CheckSpec, Judgement},
    ids::CommitId,
    ports::{
        BoxFuture,
        checks::{CheckCache, JudgeRequest},
        sandbox::{Limits, Sandboxes},
        store::Blobs,
        workspace::{Repository, Workspaces},
    },
};
use tokio::sync::Semaphore;

pub use contract::PROTECTED;

/// What the room is wired with.
#[derive(Clone)]
pub struct Options {
    pub workspaces: Arc<dyn Workspaces>,
    pub sandboxes: Arc<dyn Sandboxes>,
    pub blobs: Arc<dyn Blobs>,
    pub cache: Arc<dyn CheckCache>,
    /// Executions at the same time, over all judgements. `None`: no limit.
    pub parallel: Option<usize>,
    /// For checks that name no timeout of their own.
    pub timeout: Duration,
    pub limits: Limits,
    /// Host paths that no check may see.
    pub hidden: Vec<PathBuf>,
    /// Names what results depend on besides the repository: the program's version, the sandbox's, the toolchain's. Kept base
    /// results of another environment are not used.
    pub environment: String,
}

impl Options {
    /// Two executions at a time, 30 minutes each, 32 MiB of output kept, nothing hidden.
    pub fn new(
        workspaces: Arc<dyn Workspaces>,
        sandboxes: Arc<dyn Sandboxes>,
        blobs: Arc<dyn Blobs>,
        cache: Arc<dyn CheckCache>,
    ) -> Self {
        Self {
            workspaces,
            sandboxes,
            blobs,
            cache,
            parallel: Some(2),
            timeout: Duration::from_secs(30 * 60),
            limits: Limits { output_bytes: 32 << 20, ..Limits::default() },
            hidden: Vec::new(),
            environment: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("parallel", &self.parallel)
            .field("timeout", &self.timeout)
            .field("limits", &self.limits)
            .field("hidden", &self.hidden)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

/// The port's implementation. Must be used within a tokio runtime.
#[derive(Debug)]
pub struct Checks {
    options: Options,
    runner: run::Runner,
    bases: base::Bases,
}

impl Checks {
    pub fn new(options: Options) -> Arc<Self> {
        let slots = options.parallel.unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS);
        let runner = run::Runner::new(options.clone(), slots);
        let bases = base::Bases::new(options.cache.clone(), options.environment.clone());
        Arc::new(Self { options, runner, bases })
    }
}

impl domain::ports::checks::Checks for Checks {
    fn detect(&self, repository: Repository, base: CommitId) -> BoxFuture<'_, Result<Vec<CheckSpec>, Fault>> {
        Box::pin(async move { detect::Base::new(&*self.options.workspaces, repository, base).checks().await })
    }

    fn judge(&self, request: JudgeRequest) -> BoxFuture<'_, Result<Judgement, Fault>> {
        Box::pin(self.judge_all(request))
    }
}
