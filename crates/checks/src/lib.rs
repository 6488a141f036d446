//! Runs the judging commands on exact commits, and says what they mean.
//!
//! | file | for |
//! |---|---|
//! | `judge` | one judgement: every check on the head and on the base, the contract's paths, the verdict |
//! | `run` | one execution of a check: fresh checkout, fresh sandbox, whole output, always cleared away |
//! | `places` | how many executions go on at once |
//! | `blocked` | hosts that an execution was not let reach |
//! | `base` | the base's own results: run once, kept |
//! | `report_files` | the reports a run wrote into its checkout |
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
mod blocked;
mod contract;
mod detect;
mod digest;
mod judge;
mod parse;
mod places;
mod report_files;
mod run;
mod verdict;

use std::{sync::Arc, time::Duration};

pub use contract::PROTECTED;
use domain::{
    Fault,
    check::{CheckSpec, Judgement},
    ids::CommitId,
    ports::{
        BoxFuture,
        checks::{CheckCache, JudgeRequest},
        environments::Environments,
        store::Blobs,
        workspace::{Repository, Workspaces},
    },
};

/// What the room is wired with.
#[derive(Clone)]
pub struct Options {
    pub workspaces: Arc<dyn Workspaces>,
    pub environments: Arc<dyn Environments>,
    pub blobs: Arc<dyn Blobs>,
    pub cache: Arc<dyn CheckCache>,
    /// Executions at the same time, over all judgements. `None`: no limit.
    pub parallel: Option<usize>,
    /// One that lasts longer makes room for another, so that checks which hang do not hold up all others. At most `parallel` such
    /// late ones go on besides.
    pub late_after: Duration,
    /// For checks that name no timeout of their own.
    pub timeout: Duration,
    /// Of one execution's kept output.
    pub output_bytes: u64,
    /// Names what results depend on besides the repository and its environment: the program's version, the sandbox's. Base results
    /// that were kept under another name are not used.
    pub installation: String,
}

impl Options {
    /// Two executions at a time, late after two minutes, 30 minutes each, 32 MiB of output kept.
    pub fn new(
        workspaces: Arc<dyn Workspaces>,
        environments: Arc<dyn Environments>,
        blobs: Arc<dyn Blobs>,
        cache: Arc<dyn CheckCache>,
    ) -> Self {
        Self {
            workspaces,
            environments,
            blobs,
            cache,
            parallel: Some(2),
            late_after: Duration::from_secs(2 * 60),
            timeout: Duration::from_secs(30 * 60),
            output_bytes: 32 << 20,
            installation: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("parallel", &self.parallel)
            .field("late_after", &self.late_after)
            .field("timeout", &self.timeout)
            .field("output_bytes", &self.output_bytes)
            .field("installation", &self.installation)
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
        let runner = run::Runner::new(options.clone());
        let bases = base::Bases::new(options.cache.clone(), options.installation.clone());
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
