//! A user with a home and a repository, a daemon's rooms beside them, and attempts that turn hostile.

use std::{
    fs,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use domain::{
    Fault,
    environment::Stage,
    ids::{AttemptKey, AttemptNo, CommitId, TaskId, TurnNo},
    ports::{
        Clock,
        egress::Refusal,
        environments::{BuildRequest, Built, Environments as _, OpenRequest, Purpose, Start},
        model::Credentials,
        sandbox::{Confinement, Exec, Exit, Files, Limits, Output, Process, Sandbox, Sandboxes as _, Tree},
        store::Secrets as _,
        workspace::{
            CheckoutRequest, Origin, PrepareRequest, Prepared, ResolveRequest, Snapshot, SnapshotRequest, Surroundings,
            Workspaces as _,
        },
    },
};
use environments::{Environments, Rooms};
use sandbox::{Sandboxes, ZYGOTE_ARGUMENT};
use store::Store;
use tempfile::TempDir;
use workspace::{Rung, Workspaces};

use crate::upstream::Upstreams;

/// Longer than anything here takes; nothing waits for it to pass.
pub const LONG: Duration = Duration::from_secs(60);

pub struct World {
    /// In every file of the user's home that an attack looks for; no other world has the same.
    pub canary: String,
    pub sandboxes: Arc<Sandboxes>,
    pub workspaces: Arc<Workspaces>,
    pub environments: Arc<Environments>,
    pub store: Arc<Store>,
    pub upstreams: Upstreams,
    pub directory: TempDir,
    checkouts: Mutex<u32>,
    /// A service of the host's, at `bus`.
    _bus: UnixListener,
}

struct Now;

impl Clock for Now {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }
}

/// The program, where the user who runs this may execute it.
fn program() -> PathBuf {
    std::env::var_os("ESCAPE_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_overnight").into(), PathBuf::from)
}

impl World {
    pub async fn new() -> Self {
        Self::of(&[]).await
    }

    /// With these files in its repository. Below `/opt` where this user may write there: that is shown to sandboxes, so that what
    /// must be hidden there is hidden by a veil, and not merely absent.
    pub async fn of(files: &[(&str, &str)]) -> Self {
        let builder = || tempfile::Builder::new().prefix("overnight-escape-").to_owned();
        let directory = builder().tempdir_in("/opt").or_else(|_| builder().tempdir()).unwrap();
        let below = |name: &str| directory.path().join(name);
        let name = directory.path().file_name().unwrap().to_string_lossy().into_owned();
        let canary = name.replace("overnight-escape-", "canary-");
        for (path, content) in [
            ("user/.ssh/id_ed25519", canary.as_str()),
            ("user/.netrc", canary.as_str()),
            ("user/.aws/credentials", canary.as_str()),
            ("user/.config/gh/hosts.yml", canary.as_str()),
            ("user/.git-credentials", canary.as_str()),
            ("user/.gnupg/private.key", canary.as_str()),
            ("user/.cargo/credentials.toml", canary.as_str()),
            ("user/.cargo/registry/cached", "as downloaded\n"),
            ("user/notes.txt", canary.as_str()),
            ("user/repository/file.txt", "one\n"),
            ("user/repository/src/lib.txt", "two\n"),
        ] {
            write(&below(path), content);
        }
        for (path, content) in files {
            write(&below("user/repository").join(path), content);
        }
        let bus = UnixListener::bind(below("bus")).unwrap();
        git(&below("user/repository"), &["init", "-q", "-b", "main"]);
        git(&below("user/repository"), &["add", "-A"]);
        git(&below("user/repository"), &["commit", "-q", "-m", "First"]);
        let home = below("home");
        let store = Store::open(store::Options { home: home.clone(), clock: Arc::new(Now) }).unwrap();
        let sandboxes = Sandboxes::start(sandbox::Options {
            zygote: vec![program().into(), ZYGOTE_ARGUMENT.into()],
            home: Some(below("user")),
            path: "/usr/local/bin:/usr/bin:/bin".into(),
            cargo_home: None,
            rustup_home: None,
            state: home.clone(),
            hidden: vec![home.clone()],
        });
        let sandboxes = sandboxes.unwrap();
        let rung = if sandboxes.probe().layers { Rung::Overlay } else { Rung::Copy };
        let workspaces = Workspaces::open(workspace::Options { home: home.clone(), rung, layers_bytes: None }).unwrap();
        let upstreams = Upstreams::open().await;
        let egress = Arc::new(upstreams.proxy(&home.join("egress")));
        let environments = Environments::new(environments::Options {
            hidden: vec![home],
            ..environments::Options::new(Rooms {
                workspaces: workspaces.clone(),
                sandboxes: sandboxes.clone(),
                egress,
                secrets: store.clone(),
                blobs: store.clone(),
                cache: store.clone(),
            })
        });
        Self {
            canary,
            sandboxes,
            workspaces,
            environments,
            store,
            upstreams,
            directory,
            checkouts: Mutex::new(0),
            _bus: bus,
        }
    }

    /// With this in its `overnight.toml`.
    pub async fn defined(definition: &str) -> Self {
        Self::of(&[("overnight.toml", definition)]).await
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub fn repository(&self) -> PathBuf {
        self.path("user/repository")
    }

    /// Whether the machine has this wall. Says so where it has not: then the probe, which `doctor` shows, says why.
    pub fn stands(&self, name: &str) -> bool {
        let wall = self.sandboxes.probe().walls.into_iter().find(|wall| wall.name == name).unwrap();
        if !wall.stands {
            assert!(!wall.note.is_empty(), "{name} is missing, and nobody says why");
            eprintln!("SKIPPED: {name}: {}", wall.note);
        }
        wall.stands
    }

    pub async fn origin(&self) -> Origin {
        let request = ResolveRequest { directory: self.repository(), ..ResolveRequest::default() };
        self.workspaces.resolve(request).await.unwrap()
    }

    pub async fn secret(&self, name: &str, value: &str) {
        self.secrets(&[(name, value)]).await;
    }

    /// These, and no others.
    pub async fn secrets(&self, values: &[(&str, &str)]) {
        self.secrets_of(Stage::Staging, values).await;
    }

    pub async fn secrets_of(&self, stage: Stage, values: &[(&str, &str)]) {
        let scope = format!("repository/{}/{}", self.origin().await.repository.id.0, stage.word());
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.store.put(scope, Credentials(values.iter().map(own).collect())).await.unwrap();
    }

    pub async fn build(&self) -> Result<Built, Fault> {
        let origin = self.origin().await;
        let request = BuildRequest {
            repository: origin.repository,
            base: origin.base,
            confinement: Confinement::Confined,
            checks: Vec::new(),
            told: Arc::new(|_| {}),
        };
        self.environments.build(request, Start::Nothing).await
    }

    /// An attempt, confined, at its first turn.
    pub async fn attempt(&self, task: u64) -> Attempt<'_> {
        self.attempt_over(task, Surroundings { environment: None, confinement: Confinement::Confined }).await
    }

    /// The control: an attempt by plain processes.
    pub async fn plain(&self) -> Attempt<'_> {
        self.attempt_over(900, Surroundings { environment: None, confinement: Confinement::Unconfined }).await
    }

    pub async fn attempt_over(&self, task: u64, surroundings: Surroundings) -> Attempt<'_> {
        let origin = self.origin().await;
        let key = AttemptKey { task: TaskId(task), attempt: AttemptNo(1) };
        let confinement = surroundings.confinement;
        let request =
            PrepareRequest { repository: origin.repository.clone(), key, commit: origin.base.clone(), surroundings };
        let place = self.workspaces.prepare(request).await.unwrap();
        self.open(key, place, Purpose::Turn, confinement).await
    }

    /// A check run on the base.
    pub async fn check(&self) -> Attempt<'_> {
        let origin = self.origin().await;
        let name = {
            let mut checkouts = self.checkouts.lock().unwrap();
            *checkouts += 1;
            format!("check-{checkouts}")
        };
        let surroundings = Surroundings { environment: None, confinement: Confinement::Confined };
        let (repository, commit) = (origin.repository.clone(), origin.base.clone());
        let request = CheckoutRequest { repository, commit, protect: None, name, surroundings };
        let place = self.workspaces.checkout(request).await.unwrap();
        let key = AttemptKey { task: TaskId(901), attempt: AttemptNo(1) };
        self.open(key, place, Purpose::Check, Confinement::Confined).await
    }

    async fn open(&self, key: AttemptKey, place: Prepared, purpose: Purpose, confinement: Confinement) -> Attempt<'_> {
        let origin = self.origin().await;
        let refused: Arc<Mutex<Vec<Refusal>>> = Arc::default();
        let receiver = Arc::clone(&refused);
        let request = OpenRequest {
            repository: origin.repository.clone(),
            base: origin.base.clone(),
            place: place.clone(),
            purpose,
            confinement,
            programs: Vec::new(),
            allow: Vec::new(),
            env: Vec::new(),
            bridges: Vec::new(),
            refused: Arc::new(move |refusal| receiver.lock().unwrap().push(refusal)),
            output_bytes: Limits::default().output_bytes,
        };
        let opened = self.environments.open(request).await.unwrap();
        Attempt { world: self, origin, key, place, sandbox: opened.sandbox, notes: opened.notes, refused }
    }

    /// Runs a script as plain processes and in a sandbox: what each printed, and that the attack is one.
    pub async fn tried(&self, script: &str) -> (String, String) {
        let plain = self.plain().await.sh(script).await;
        (plain, self.attempt(1).await.sh(script).await)
    }
}

/// One attempt that turned hostile.
pub struct Attempt<'a> {
    world: &'a World,
    pub origin: Origin,
    pub key: AttemptKey,
    pub place: Prepared,
    pub sandbox: Arc<dyn Sandbox>,
    pub notes: Vec<String>,
    refused: Arc<Mutex<Vec<Refusal>>>,
}

impl Attempt<'_> {
    pub async fn start(&self, argv: &[&str]) -> Box<dyn Process> {
        let argv = argv.iter().map(|argument| (*argument).to_owned()).collect();
        let exec = Exec { argv, cwd: None, env: Vec::new(), stdin: Bytes::new(), timeout: LONG };
        self.sandbox.spawn(exec).await.unwrap()
    }

    pub async fn run(&self, argv: &[&str]) -> (Exit, String) {
        let mut process = self.start(argv).await;
        let exit = process.wait(LONG).await.expect("a command that ends");
        (exit, text(&process.output()))
    }

    /// What a script prints, on both outputs, however it ends.
    pub async fn sh(&self, script: &str) -> String {
        self.run(&["sh", "-c", script]).await.1
    }

    /// What Python prints: it can make any system call.
    pub async fn python(&self, code: &str) -> String {
        self.run(&["/usr/bin/python3", "-c", code]).await.1
    }

    pub async fn files(&self) -> Arc<dyn Files> {
        self.sandbox.files().await.unwrap()
    }

    /// Each as `host:port why`.
    pub fn refused(&self) -> Vec<String> {
        let refused = self.refused.lock().unwrap();
        refused.iter().map(|one| format!("{}:{} {}", one.host, one.port, one.why)).collect()
    }

    pub async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let redactor = self.world.environments.redactor(self.origin.repository.clone()).await.unwrap();
        let request = SnapshotRequest {
            repository: self.origin.repository.clone(),
            key: self.key,
            turn: TurnNo(1),
            base: self.origin.base.clone(),
            message: "Work".to_owned(),
            at: "2026-11-20T10:00:00Z".parse().unwrap(),
            redactor,
        };
        self.world.workspaces.snapshot(request).await
    }

    /// The private store's own words on a commit, read by a git that trusts nothing else.
    pub fn stored(&self, arguments: &[&str]) -> String {
        git(&self.store(), arguments)
    }

    pub fn store(&self) -> PathBuf {
        self.world.home().join("repositories").join(&self.origin.repository.id.0).join("private.git")
    }

    /// Modes and names of all files of a commit.
    pub fn listing(&self, commit: &CommitId) -> String {
        self.stored(&["-c", "core.quotePath=true", "ls-tree", "-r", commit.as_str()])
    }

    /// The directory on the host in which changes are found.
    pub fn upper(&self) -> PathBuf {
        match &self.place.root {
            Tree::Directory(path) => path.clone(),
            Tree::Layers(layers) => layers.upper.clone(),
        }
    }
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.head[..], &output.tail].concat()).into_owned()
}

/// Waits until the command has printed `what`.
#[track_caller]
pub fn printed<'a>(process: &'a mut dyn Process, what: &'a str) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        while !text(&process.output()).contains(what) {
            let ended = process.wait(Duration::from_millis(10)).await;
            let told = text(&process.output());
            assert!(ended.is_none() || told.contains(what), "{caller}: {ended:?} without `{what}`: {told}");
        }
    }
}

pub fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Git as a person runs it.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let (ok, out, err) = try_git(directory, arguments);
    assert!(ok, "git {arguments:?}: {err}");
    out
}

pub fn try_git(directory: &Path, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-C"]).arg(directory).args(arguments);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", directory);
    command.env("GIT_CONFIG_NOSYSTEM", "1").stdin(std::process::Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Every regular file below a directory, links not followed.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

/// The files below a directory that hold one of these.
pub fn holding(directory: &Path, needles: &[String]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        let content = fs::read(path).unwrap_or_default();
        needles.iter().any(|needle| content.windows(needle.len()).any(|window| window == needle.as_bytes()))
    };
    files_below(directory).into_iter().filter(holds).collect()
}
