//! What the tests share: a directory, a sandbox on it, and commands in it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use domain::ports::sandbox::{
    Confinement, Exec, Exit, Limits, Network, Output, Process, Sandbox, SandboxSpec, Sandboxes as _, Tree,
};
use sandbox::{Options, Sandboxes, ZYGOTE_ARGUMENT};
use tempfile::TempDir;

/// Longer than anything here takes; nothing waits for it to pass.
pub const LONG: Duration = Duration::from_secs(60);

pub fn options() -> Options {
    Options {
        zygote: vec![env!("CARGO_BIN_EXE_sandbox-fixture").into(), ZYGOTE_ARGUMENT.into()],
        ..Options::from_env(state())
    }
}

/// Where the tests keep what a daemon keeps in its home: nothing for long.
pub fn state() -> PathBuf {
    std::env::temp_dir().join(format!("overnight-tests-{}", rustix::process::geteuid().as_raw()))
}

/// One for all tests, as in the daemon.
pub fn sandboxes() -> &'static Arc<Sandboxes> {
    static SANDBOXES: OnceLock<Arc<Sandboxes>> = OnceLock::new();
    SANDBOXES.get_or_init(|| start(options()).0)
}

/// Further ones, with the process number of their zygote.
pub fn start(options: Options) -> (Arc<Sandboxes>, u32) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let before = zygotes();
    let sandboxes = Sandboxes::start(options).unwrap();
    loop {
        // It has its name a moment after it was started.
        if let Some(&zygote) = zygotes().iter().find(|pid| !before.contains(pid)) {
            return (sandboxes, zygote);
        }
    }
}

/// This process's children that are zygotes.
fn zygotes() -> Vec<u32> {
    let me = std::process::id().to_string();
    let stats = fs::read_dir("/proc").unwrap().flatten();
    stats
        .filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok())
        .filter_map(|stat| {
            let (left, right) = stat.rsplit_once(") ")?;
            let (pid, name) = left.split_once(" (")?;
            (name == "overnight-zygot" && right.split(' ').nth(1)? == me).then(|| pid.parse().ok()).flatten()
        })
        .collect()
}

/// An attempt's directories on the host.
pub struct Place {
    directory: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("overnight-sandbox-").tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        Self { directory }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn root(&self) -> PathBuf {
        self.path().join("root")
    }

    pub fn lock(&self) -> PathBuf {
        self.path().join("lock")
    }

    pub fn spec(&self, confinement: Confinement) -> SandboxSpec {
        SandboxSpec {
            root: Tree::Directory(self.root()),
            home: Tree::Directory(self.path().join("home")),
            scratch: self.path().join("scratch"),
            readable: Vec::new(),
            hidden: Vec::new(),
            env: Vec::new(),
            network: match confinement {
                Confinement::Confined => Network::Own(Vec::new()),
                Confinement::Unconfined => Network::Host,
            },
            redactor: Arc::default(),
            limits: Limits::default(),
            lock: self.lock(),
            spill: self.path().join("spill"),
            confinement,
        }
    }

    pub async fn open(&self, confinement: Confinement) -> Arc<dyn Sandbox> {
        sandboxes().open(self.spec(confinement)).await.unwrap()
    }
}

pub const BOTH: [Confinement; 2] = [Confinement::Confined, Confinement::Unconfined];

pub fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: Bytes::new(),
        timeout: LONG,
    }
}

pub fn sh(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

/// Runs to the end: how it ended, and what it printed.
pub async fn run(sandbox: &dyn Sandbox, exec: Exec) -> (Exit, String) {
    let mut process = sandbox.spawn(exec).await.unwrap();
    let exit = process.wait(LONG).await.unwrap();
    (exit, text(&process.output()))
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.head[..], &output.tail].concat()).into_owned()
}

/// Waits until the command has printed `what`.
pub async fn printed(process: &dyn Process, what: &str) {
    while !text(&process.output()).contains(what) {
        tokio::task::yield_now().await;
    }
}

/// How many processes of the host have `mark` in their arguments.
pub fn alive(mark: &str) -> usize {
    let holds = |path: PathBuf| fs::read(path).is_ok_and(|line| String::from_utf8_lossy(&line).contains(mark));
    fs::read_dir("/proc").unwrap().flatten().filter(|entry| holds(entry.path().join("cmdline"))).count()
}

/// A number of seconds to sleep that no other test uses: a mark by which to find a sleeping process.
pub fn mark() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("7{:06}{:03}", std::process::id() % 1_000_000, NEXT.fetch_add(1, Ordering::Relaxed))
}
