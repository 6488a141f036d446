//! Port of `sandbox`: process trees that see a workspace and nothing else of the host.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BoxFuture;
use crate::{Fault, redact::Redactor};

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
    /// Whether a sandbox can be given [`Tree::Layers`] in the state directory.
    pub layers: bool,
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

/// A directory as a sandbox sees it. The sandbox makes it, in a namespace of its own: nothing of it is seen on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A host directory as it is, read-write.
    Directory(PathBuf),
    /// Immutable host directories under a writable one (overlayfs with `userxattr`).
    Layers(Layers),
}

/// The parts of an overlay; all on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layers {
    /// Topmost first; at least one. Never written while any overlay uses them.
    pub lower: Vec<PathBuf>,
    /// Holds exactly what differs from the layers: files, whiteouts (character device 0:0), opaque directories
    /// (`user.overlay.opaque`). Used by one sandbox at a time.
    pub upper: PathBuf,
    /// Overlayfs's own, empty at first.
    pub work: PathBuf,
}

/// What a sandbox reaches beyond its own loopback.
#[derive(Clone, Default)]
pub enum Network {
    /// The host's network as it is: for plain processes, and for them only. A confined sandbox is refused with it.
    #[default]
    Host,
    /// A network namespace with a loopback device and nothing else. What is served on it from outside comes in by these doors.
    Own(Vec<Bridge>),
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Own(bridges) => f.debug_list().entries(bridges.iter().map(|bridge| bridge.port)).finish(),
        }
    }
}

impl std::fmt::Debug for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bridge").field("port", &self.port).finish_non_exhaustive()
    }
}

/// A port of the sandbox's loopback that is served from outside.
#[derive(Clone)]
pub struct Bridge {
    pub port: u16,
    pub door: Arc<dyn Door>,
}

/// Serves a port of a sandbox's loopback from the daemon.
pub trait Door: Send + Sync {
    /// Takes connections from `listener`, a non-blocking socket made inside the sandbox, until it is dropped itself or accepting
    /// fails: a listener is shut when the sandbox is killed or dropped. Called within a tokio runtime, each time the sandbox's
    /// first process is started (anew).
    fn serve(&self, listener: std::net::TcpListener);
}

#[derive(Clone, Debug)]
pub struct SandboxSpec {
    /// Appears read-write at [`WORKSPACE_DIR`].
    pub root: Tree,
    /// Appears read-write at [`HOME_DIR`]; a plain directory is made if absent.
    pub home: Tree,
    /// Host directory (made if absent) for what is the sandbox's own: its `/tmp`, and what it writes over shared caches.
    pub scratch: PathBuf,
    /// Further host paths that appear read-only at the same path (a base store).
    pub readable: Vec<PathBuf>,
    /// Host paths that must never be seen, even below a readable one (Overnight's state, the daemon's socket).
    pub hidden: Vec<PathBuf>,
    /// Added to the cleared environment (PATH, HOME, LANG, TERM, USER and toolchain variables are set by the sandbox). The
    /// directories of a `PATH` come before the sandbox's own.
    pub env: Vec<(String, String)>,
    pub network: Network,
    /// Taken out of all output and of every file that is read, before anyone outside sees it.
    pub redactor: Arc<Redactor>,
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
    /// Of one processor in hundredths: 150 is one and a half. `None`: a share like everybody's.
    pub processor_percent: Option<u32>,
    /// What the workspace's and HOME's writable sides and the scratch directory may hold together: allocated blocks, or as many
    /// files as the file system makes room for in so many bytes. Looked at about once a second while commands run: beyond it all
    /// that run are ended as [`Exit::OverQuota`]. Later ones may run, and are ended so only if it grows further. `None`: half of
    /// what is free when the sandbox is opened, at most 64 GiB, on top of what it holds then; for plain processes, no quota.
    pub disk_bytes: Option<u64>,
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
            processor_percent: None,
            disk_bytes: None,
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

    /// Starts a command that is talked with, line by line, over its standard input and output. `exec.stdin` must be empty.
    fn converse(&self, exec: Exec) -> BoxFuture<'_, Result<Conversation, Fault>>;

    /// Starts a command on a terminal of its own, as a person's shell needs it. The output is not kept, nor redacted: it is the
    /// person's own typing, cursor and colors. `exec.stdin` must be empty; TERM is `xterm-256color` unless `exec.env` says
    /// otherwise.
    fn terminal(&self, exec: Exec, size: WindowSize) -> BoxFuture<'_, Result<Box<dyn Terminal>, Fault>>;

    /// Files of the workspace as commands see them, read and written from the host's side, never leaving it by any link. What is
    /// handed out fails (`Transient`) once the sandbox is killed, and works again when something is started in it.
    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn Files>, Fault>>;

    /// Connects to a port of the sandbox's loopback, for a look at a service in it. The stream is non-blocking. `NotFound` when
    /// nothing listens there.
    fn connect(&self, port: u16) -> BoxFuture<'_, Result<std::net::TcpStream, Fault>>;

    /// Command lines that run now, oldest first: arguments joined by spaces, at most 200 bytes each.
    fn running(&self) -> Vec<String>;

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

/// A command that speaks a protocol. The parts are used side by side; the command lives as long as `process`.
pub struct Conversation {
    /// Its [`Process::output`] is standard error alone.
    pub process: Box<dyn Process>,
    pub input: Box<dyn Input>,
    pub lines: Box<dyn Lines>,
}

impl std::fmt::Debug for Conversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conversation").finish_non_exhaustive()
    }
}

/// The standard input of a command. Dropping it closes it.
pub trait Input: Send {
    /// Resolves when all of it is written. `Transient`: the command has closed its end, or is gone.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), Fault>>;
}

/// The standard output of a command, line by line, redacted. What is not read holds the command up once the pipe is full.
pub trait Lines: Send {
    /// The next line without its end. `None`: nothing more comes. A safe point to be canceled at. `Input` for a line longer than
    /// [`LINE_BYTES`], of which the rest is skipped: the next call gives the line after it.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Bytes>, Fault>>;
}

/// The longest line of a conversation, in bytes.
pub const LINE_BYTES: usize = 16 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    TimedOut,
    /// Killed because the disk quota was used up; `held` is what was found, in bytes. Files count as their share of the file
    /// system's room for files where that is more than what is in them.
    OverQuota {
        held: u64,
        quota: u64,
    },
    /// argv[0] was not found or is not executable.
    NotStarted,
}

/// Of a terminal, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// A command on a terminal. Dropping it kills the command's tree.
pub trait Terminal: Send {
    /// The host's side: what is written is typed, what is read was printed. Non-blocking. Reading fails (EIO) once the command
    /// and all that hold the terminal are gone.
    fn io(&self) -> std::io::Result<std::os::fd::OwnedFd>;

    fn resize(&self, size: WindowSize);

    /// The end of the command. A safe point to be canceled at.
    fn wait(&mut self) -> BoxFuture<'_, Exit>;

    fn kill(&mut self) -> BoxFuture<'_, ()>;
}

/// What a command has printed so far, redacted. The beginning of what may become a secret's value is held back until more is
/// printed, or the command ends.
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
    /// The content up to `max` bytes from `offset`, and the whole length. `NotFound`, or `Input` for a directory or device. A
    /// secret's value reads as its name and stars, of the same length and with the same lines.
    fn read(&self, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault>;

    /// Writes the whole file by a temporary file and a rename, keeping the mode of an existing one; makes parent directories.
    /// `Input` where that would lose a secret's value, which whoever writes has not seen.
    fn write(&self, path: &str, content: &[u8]) -> Result<(), Fault>;

    /// The entries of a directory, links not followed, at most 10,000; names that are not UTF-8 are left out. Empty where there is
    /// none.
    fn list(&self, directory: &str) -> Result<Vec<Entry>, Fault>;
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: EntryKind,
    pub bytes: u64,
    pub modified: std::time::SystemTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    /// Link, pipe, socket, device.
    Other,
}
