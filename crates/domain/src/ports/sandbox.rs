//! Port of `sandbox`: process trees that see a workspace and nothing else of the host.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::Fault;

/// The constant path at which a workspace appears inside a sandbox.
pub const WORKSPACE_DIR: &str = "/workspace";
/// HOME inside a sandbox.
pub const HOME_DIR: &str = "/home/agent";

/// Opens sandboxes.
pub trait Sandboxes: Send + Sync {
    /// What this machine can enforce, found by doing it once. Cheap after the first call.
    fn probe(&self) -> Probe;

    /// Makes a sandbox for one attempt or one check run. Starts no process by itself. Refuses (class `Environment`, with
    /// the mend as hint) where `spec.confinement` is `Confined` and the machine has no user namespaces.
    fn open(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, Fault>>;

    /// Resolves once no process started in a sandbox with this `lock` lives any more; asks them to die first. Used by
    /// recovery before a workspace is touched. Class `Environment` when one survives `deadline`.
    fn ensure_dead(&self, lock: PathBuf, deadline: Duration) -> BoxFuture<'_, Result<(), Fault>>;
}

/// What the machine can enforce, for `doctor` and for the task page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    pub confined: bool,
    /// One line per wall: name, whether it stands, and why not or how to mend it.
    pub walls: Vec<Wall>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    pub name: String,
    pub stands: bool,
    pub note: String,
}

/// Whether processes are shut in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confinement {
    Confined,
    /// Plain processes: only when a person said `--unconfined`.
    Unconfined,
}

#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Host directory that appears read-write at [`WORKSPACE_DIR`].
    pub root: PathBuf,
    /// Host directory (made if absent) that appears read-write at [`HOME_DIR`].
    pub home: PathBuf,
    /// Further host paths that appear read-only at the same path (a base store).
    pub readable: Vec<PathBuf>,
    /// Host paths that must never be seen, even below a readable one (Overnight's state, the daemon's socket).
    pub hidden: Vec<PathBuf>,
    /// Added to the cleared environment (PATH, HOME, LANG, TERM, USER and toolchain variables are set by the sandbox).
    pub env: Vec<(String, String)>,
    pub limits: Limits,
    /// A host file that every process tree of this sandbox holds locked for as long as it lives.
    pub lock: PathBuf,
    /// Host directory for the full output of commands whose output does not fit in memory.
    pub spill: PathBuf,
    pub confinement: Confinement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all processes together; `None`: three quarters of what the daemon itself may use. What exceeds it is killed.
    pub memory_bytes: Option<u64>,
    pub processes: Option<u64>,
    pub open_files: Option<u64>,
    /// Of one file.
    pub file_bytes: Option<u64>,
    /// Of the kept output of one command; what comes after is counted and dropped.
    pub output_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: None,
            processes: Some(4096),
            open_files: Some(65_536),
            file_bytes: Some(16 << 30),
            output_bytes: 64 << 20,
        }
    }
}

/// One sandbox. Dropping the last handle kills everything in it.
pub trait Sandbox: Send + Sync {
    /// Starts a command. Returns once it runs; `Environment` or `Input` when it cannot be started.
    fn spawn(&self, exec: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>>;

    /// Reads and writes files of the workspace from the host's side, never leaving it by any link.
    fn files(&self) -> &dyn Files;

    /// Kills every process; resolves when none is left.
    fn kill(&self) -> BoxFuture<'_, ()>;
}

#[derive(Clone, Debug)]
pub struct Exec {
    pub argv: Vec<String>,
    /// Inside the sandbox; `None` is [`WORKSPACE_DIR`].
    pub cwd: Option<String>,
    pub env: Vec<(String, String)>,
    /// Given to standard input, then closed. Empty: `/dev/null`.
    pub stdin: Bytes,
    /// After it the whole tree of this command is killed and its end is [`Exit::TimedOut`].
    pub timeout: Duration,
}

/// A running or ended command. Dropping it kills the command's whole tree.
pub trait Process: Send {
    /// Waits up to `patience` for the end. `None`: it still runs (call again). Once `Some`, always `Some`. Resolves when the
    /// first process of the tree has ended *and* its output so far was read; daemons it left behind do not hold it up.
    fn wait(&mut self, patience: Duration) -> BoxFuture<'_, Option<Exit>>;

    /// Standard output and standard error in the order written, up to now.
    fn output(&self) -> Output;

    /// Kills the command's tree; resolves when it is gone.
    fn kill(&mut self) -> BoxFuture<'_, ()>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    TimedOut,
    /// argv[0] was not found or is not executable.
    NotStarted,
}

/// What a command has printed so far.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// The first bytes, at most 32 KiB.
    pub head: Bytes,
    /// The last bytes after `head`, at most 32 KiB; adjoins `head` when nothing was elided.
    pub tail: Bytes,
    /// All that was printed.
    pub total: u64,
    /// Host file with the kept output (up to `Limits::output_bytes`), present once `total` exceeds head and tail.
    pub file: Option<PathBuf>,
}

/// Host-side file access that resolves every path beneath the workspace: symlinks are followed inside it only, an
/// absolute path counts from [`WORKSPACE_DIR`]. Blocking, fast, bounded by `max`.
pub trait Files: Send + Sync {
    /// The content up to `max` bytes from `offset`, and the whole length. `NotFound`, or `Input` for a directory or device.
    fn read(&self, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault>;

    /// Writes the whole file by a temporary file and a rename, keeping the mode of an existing one; makes parent directories.
    fn write(&self, path: &str, content: &[u8]) -> Result<(), Fault>;
}
