//! A user's repository and an Overnight home in a temporary directory, and what a person or an agent does there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use domain::{
    Fault,
    brief::LandingMethod,
    environment::EnvironmentId,
    ids::{AttemptKey, AttemptNo, CommitId, TaskId, TurnNo},
    ports::{
        sandbox::{Confinement, Tree},
        workspace::{
            LandRequest, Landing, Origin, PrepareRequest, Prepared, ResolveRequest, Snapshot, SnapshotRequest,
            Surroundings, Workspaces as _,
        },
    },
};
use tempfile::TempDir;
use workspace::{Options, Rung, Workspaces};

pub const TASK: TaskId = TaskId(12);
pub const KEY: AttemptKey = AttemptKey { task: TASK, attempt: AttemptNo(1) };

/// No script of a test takes a hundredth of it.
const DEADLINE_SECONDS: &str = "120";

pub struct Ground {
    pub dir: TempDir,
    pub repo: PathBuf,
    pub rooms: Arc<Workspaces>,
}

/// A place on a plain rung.
#[derive(Clone, Debug)]
pub struct Plain {
    pub root: PathBuf,
    pub home: PathBuf,
    pub rest: Prepared,
}

impl Plain {
    pub fn new(rest: Prepared) -> Self {
        let [root, home] = [&rest.root, &rest.home].map(|tree| match tree {
            Tree::Directory(path) => path.clone(),
            Tree::Layers(layers) => panic!("{layers:?} is not plain"),
        });
        Self { root, home, rest }
    }
}

/// Of a confined process.
pub fn surroundings(environment: Option<&EnvironmentId>) -> Surroundings {
    Surroundings { environment: environment.cloned(), confinement: Confinement::Confined }
}

impl Ground {
    /// As [`Self::on`], on plain copies; they share their blocks where the file system can do that.
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let rung = Rung::probe_copy(dir.path());
        Self::within(dir, rung)
    }

    /// A repository on branch `main` with one commit: `a.txt`, `src/lib.rs`, `run.sh` (executable) and a link.
    pub fn on(rung: Rung) -> Self {
        Self::within(TempDir::new().unwrap(), rung)
    }

    pub fn within(dir: TempDir, rung: Rung) -> Self {
        let repo = dir.path().join("user");
        fs::create_dir(&repo).unwrap();
        git(&repo, &["init", "-q", "-b", "main"]);
        git(&repo, &["config", "user.name", "Ada"]);
        git(&repo, &["config", "user.email", "ada@example.org"]);
        write(&repo, "a.txt", "one\ntwo\nthree\n");
        write(&repo, "src/lib.rs", "pub fn f() {}\n");
        write(&repo, "run.sh", "#!/bin/sh\n");
        git(&repo, &["add", "."]);
        git(&repo, &["update-index", "--chmod=+x", "run.sh"]);
        git(&repo, &["commit", "-q", "-m", "first"]);
        git(&repo, &["reset", "-q", "--hard"]);
        let rooms = Workspaces::open(Options { home: dir.path().join("home"), rung, layers_bytes: None }).unwrap();
        Self { dir, repo, rooms }
    }

    /// Another life on the same home.
    pub fn open(&self, rung: Rung) -> Arc<Workspaces> {
        Workspaces::open(Options { home: self.home(), rung, layers_bytes: None }).unwrap()
    }

    pub fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub fn commit(&self, path: &str, content: &str) -> CommitId {
        write(&self.repo, path, content);
        git(&self.repo, &["add", "-A"]);
        git(&self.repo, &["commit", "-q", "-m", path]);
        self.head()
    }

    pub fn head(&self) -> CommitId {
        CommitId::parse(&git(&self.repo, &["rev-parse", "HEAD"])).unwrap()
    }

    pub async fn resolve(&self) -> Origin {
        self.try_resolve(|_| {}).await.unwrap()
    }

    pub async fn try_resolve(&self, change: impl FnOnce(&mut ResolveRequest)) -> Result<Origin, Fault> {
        let mut request = ResolveRequest { directory: self.repo.clone(), ..ResolveRequest::default() };
        change(&mut request);
        self.rooms.resolve(request).await
    }

    /// A workspace of plain processes.
    pub async fn prepare(&self, origin: &Origin) -> Plain {
        let request = PrepareRequest {
            repository: origin.repository.clone(),
            key: KEY,
            commit: origin.base.clone(),
            surroundings: Surroundings { environment: None, confinement: Confinement::Unconfined },
        };
        Plain::new(self.rooms.prepare(request).await.unwrap())
    }

    pub async fn prepare_as(&self, key: AttemptKey, origin: &Origin, environment: Option<&EnvironmentId>) -> Prepared {
        let request = PrepareRequest {
            repository: origin.repository.clone(),
            key,
            commit: origin.base.clone(),
            surroundings: surroundings(environment),
        };
        self.rooms.prepare(request).await.unwrap()
    }

    pub async fn snapshot(&self, origin: &Origin, turn: u32) -> Snapshot {
        self.try_snapshot(origin, turn).await.unwrap()
    }

    pub async fn try_snapshot(&self, origin: &Origin, turn: u32) -> Result<Snapshot, Fault> {
        self.rooms
            .snapshot(SnapshotRequest {
                repository: origin.repository.clone(),
                key: KEY,
                turn: TurnNo(turn),
                base: origin.base.clone(),
                message: "Do it\n\nOvernight-Task: T-12".to_owned(),
                at: at(),
                redactor: Arc::default(),
            })
            .await
    }

    /// Prepares, lets `work` change files, takes the snapshot.
    pub async fn change(&self, origin: &Origin, work: impl FnOnce(&Path)) -> CommitId {
        let prepared = self.prepare(origin).await;
        work(&prepared.root);
        self.snapshot(origin, 1).await.commit
    }

    pub fn landing(&self, origin: &Origin, head: &CommitId) -> LandRequest {
        LandRequest {
            task: TASK,
            repository: origin.repository.clone(),
            base: origin.base.clone(),
            head: head.clone(),
            target: origin.target.clone(),
            method: LandingMethod::Squash,
            message: "Do it\n\nOvernight-Task: T-12\n".to_owned(),
            approver: "grace".to_owned(),
            at: at(),
            rechecked: None,
        }
    }

    pub async fn land(&self, request: &LandRequest) -> Landing {
        self.rooms.land(request.clone()).await.unwrap()
    }

    /// Names and contents of a commit's files, as the store has them.
    pub fn files(&self, origin: &Origin, commit: &CommitId) -> Vec<String> {
        let store = self.store(origin);
        git(&store, &["ls-tree", "-r", "--name-only", commit.as_str()]).lines().map(str::to_owned).collect()
    }

    pub fn show(&self, origin: &Origin, commit: &CommitId, path: &str) -> String {
        git(&self.store(origin), &["show", &format!("{commit}:{path}")])
    }

    pub fn store(&self, origin: &Origin) -> PathBuf {
        self.home().join("repositories").join(&origin.repository.id.0).join("private.git")
    }
}

/// What a shell script prints in a directory.
pub fn sh(dir: &Path, script: &str) -> String {
    let mut shell = bounded("sh");
    shell.current_dir(dir).args(["-euc", script]);
    printed(shell, script)
}

/// A program that is ended, with all that it started, when it hangs.
fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", DEADLINE_SECONDS, program]).stdin(Stdio::null());
    command
}

fn printed(mut command: Command, script: &str) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}: {script}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Runs a shell script as a sandbox would: in a workspace's merged view, with its HOME, both mounted in a namespace of its own.
/// Returns what it printed.
pub fn inside(place: &Prepared, script: &str) -> String {
    let mut mounts = String::from("set -eu\n");
    let mut show = |tree: &Tree, name: &str| match tree {
        Tree::Directory(path) => path.clone(),
        Tree::Layers(layers) => {
            let at = place.scratch.join(name);
            fs::create_dir_all(&at).unwrap();
            let lower: Vec<_> = layers.lower.iter().map(|path| path.display().to_string()).collect();
            mounts += &format!(
                "rm -rf {}; mount -t overlay overlay -o userxattr,volatile,lowerdir={},upperdir={},workdir={} {}\n",
                layers.work.join("work").join("incompat").display(),
                lower.join(":"),
                layers.upper.display(),
                layers.work.display(),
                at.display(),
            );
            at
        }
    };
    let (root, home) = (show(&place.root, "root"), show(&place.home, "home"));
    for readable in &place.readable {
        mounts += &format!("mount --bind {0} {0}; mount -o remount,bind,ro {0}\n", readable.display());
    }
    let mut shell = bounded("unshare");
    shell
        .args(["--user", "--map-current-user", "--keep-caps", "--mount", "--propagation=private", "sh", "-c"])
        .arg(format!("{mounts}cd {}\n{script}", root.display()))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", &home)
        .env("GIT_CONFIG_NOSYSTEM", "1");
    printed(shell, script)
}

pub fn at() -> jiff::Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

pub fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Git as a person or an agent runs it, with its output.
pub fn git(dir: &Path, args: &[&str]) -> String {
    let (ok, out, err) = try_git(dir, args);
    assert!(ok, "git {args:?} in {}: {err}", dir.display());
    out
}

pub fn try_git(dir: &Path, args: &[&str]) -> (bool, String, String) {
    let output = Command::new("git")
        .current_dir(dir)
        .args(["-c", "protocol.file.allow=always"])
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "@1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "@1700000000 +0000")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}
