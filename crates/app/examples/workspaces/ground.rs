//! The rooms over a home of their own, repositories to work on, and what they hold on disk.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    environment::EnvironmentId,
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::{
        sandbox::{Confinement, Exec, Exit, Layers, Limits, Network, Sandbox, SandboxSpec, Sandboxes as _, Tree},
        workspace::{
            Origin, PrepareRequest, Prepared, RaiseRequest, Repository as Named, ResolveRequest, SnapshotRequest,
            Surroundings, Workspaces as _,
        },
    },
};
use sandbox::Sandboxes;
use workspace::{Rung, Workspaces};

pub struct Ground {
    pub workspaces: Arc<Workspaces>,
    pub sandboxes: Arc<Sandboxes>,
    keys: AtomicU64,
}

/// A repository that the rooms know, with its base, and with a layer.
pub struct Settled {
    pub repository: Named,
    pub origin: Origin,
    environment: Option<EnvironmentId>,
    files: usize,
}

impl Ground {
    pub fn open(home: &Path, rung: Rung) -> Self {
        let sandboxes = Sandboxes::start(sandbox::Options::from_env(home.to_owned())).unwrap();
        if rung == Rung::Overlay {
            assert!(sandboxes.probe().layers, "this machine has no overlay: {:?}", sandboxes.probe().walls);
        }
        let options = workspace::Options { home: home.to_owned(), rung, layers_bytes: None };
        Self { workspaces: Workspaces::open(options).unwrap(), sandboxes, keys: AtomicU64::new(1) }
    }

    pub fn next_key(&self) -> AttemptKey {
        AttemptKey { task: TaskId(self.keys.fetch_add(1, Ordering::Relaxed)), attempt: AttemptNo(1) }
    }

    /// With its base kept and, where there is one, its layer of caches.
    pub async fn settle(&self, from: &Repository, caches: &Path) -> Settled {
        let mut settled = self.settle_bare(from).await;
        let id = EnvironmentId::parse(&"c".repeat(32)).unwrap();
        let request = RaiseRequest {
            repository: settled.repository.clone(),
            base: settled.origin.base.clone(),
            id: id.clone(),
            over: None,
            confinement: Confinement::Confined,
        };
        let place = self.workspaces.raise(request).await.unwrap();
        let to = match &place.root {
            Tree::Directory(root) => root.clone(),
            Tree::Layers(layers) => layers.upper.clone(),
        };
        assert!(Command::new("cp").arg("-a").arg(caches).arg(to.join("cache")).status().unwrap().success());
        self.workspaces.freeze(settled.repository.clone(), id.clone(), String::new()).await.unwrap();
        settled.environment = Some(id);
        settled
    }

    pub async fn settle_bare(&self, from: &Repository) -> Settled {
        let request = ResolveRequest { directory: from.root.clone(), ..ResolveRequest::default() };
        let origin = self.workspaces.resolve(request).await.unwrap();
        let settled = Settled { repository: origin.repository.clone(), origin, environment: None, files: from.files };
        // The first one makes the base's layer.
        let key = self.next_key();
        self.workspaces.prepare(settled.request(key, "overlay")).await.unwrap();
        self.workspaces.release(settled.repository.clone(), key, None).await.unwrap();
        settled
    }

    pub fn spec(&self, place: Prepared, rung: &str) -> SandboxSpec {
        SandboxSpec {
            root: place.root,
            home: place.home,
            scratch: place.scratch,
            readable: place.readable,
            hidden: Vec::new(),
            env: Vec::new(),
            network: if rung == "copy-plain" { Network::Host } else { Network::Own(Vec::new()) },
            redactor: Arc::default(),
            limits: Limits::default(),
            lock: place.lock,
            spill: place.spill,
            confinement: Confinement::Confined,
        }
    }
}

impl Settled {
    pub fn request(&self, key: AttemptKey, _rung: &str) -> PrepareRequest {
        PrepareRequest {
            repository: self.repository.clone(),
            key,
            commit: self.origin.base.clone(),
            surroundings: Surroundings { environment: self.environment.clone(), confinement: Confinement::Confined },
        }
    }

    pub fn snapshot(&self, key: AttemptKey, nth: usize) -> SnapshotRequest {
        SnapshotRequest {
            repository: self.repository.clone(),
            key,
            turn: TurnNo(u32::try_from(nth).unwrap() + 1),
            base: self.origin.base.clone(),
            message: format!("snapshot {nth}\n"),
            at: jiff::Timestamp::UNIX_EPOCH,
            redactor: Arc::default(),
        }
    }

    /// A shell line that edits this many tracked files, spread over the repository.
    pub fn edits(&self, number: usize, text: &str) -> String {
        let lines = (0..number).map(|nth| format!("echo '{text}' >> {}", path(nth * (self.files / number))));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A repository of files of about 4 KB, ten to a directory.
pub struct Repository {
    pub root: PathBuf,
    files: usize,
}

fn path(nth: usize) -> String {
    format!("src/d{}/d{}/f{nth}.txt", nth / 1000, nth / 10 % 100)
}

impl Repository {
    pub fn make(root: &Path, files: usize) -> Self {
        for nth in 0..files {
            write(&root.join(path(nth)), nth, 4000);
        }
        let made = Self { root: root.to_owned(), files };
        made.git(&["init", "-q", "-b", "main"]);
        fs::write(root.join(".gitignore"), "/cache/\n").unwrap();
        made.git(&["add", "-A"]);
        made.git(&["commit", "-q", "-m", "base"]);
        made
    }

    pub fn git(&self, arguments: &[&str]) {
        let mut git = Command::new("git");
        git.current_dir(&self.root).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).args(arguments);
        git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{role}_NAME"), "Bench").env(format!("GIT_{role}_EMAIL"), "bench@localhost");
        }
        assert!(git.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
    }
}

/// Untracked files of about 8 KB, ten to a directory.
pub fn cache_files(root: &Path, files: usize) -> PathBuf {
    for nth in 0..files {
        write(&root.join(path(nth)), nth, 8000);
    }
    root.to_owned()
}

fn write(path: &Path, nth: usize, bytes: usize) {
    if nth.is_multiple_of(10) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    let line = format!("line of file {nth}, which is like any other line\n");
    fs::write(path, line.repeat(bytes / line.len())).unwrap();
}

pub fn command(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        cwd: None,
        env: Vec::new(),
        stdin: bytes::Bytes::new(),
        timeout: Duration::from_secs(600),
    }
}

/// Runs a command to its good end; what it printed.
pub async fn run(sandbox: &dyn Sandbox, argv: &[&str]) -> String {
    let mut process = sandbox.spawn(command(argv)).await.unwrap();
    let exit = process.wait(Duration::from_secs(600)).await;
    let output = process.output();
    let text = String::from_utf8_lossy(&[&output.head[..], &output.tail[..]].concat()).into_owned();
    assert_eq!(exit, Some(Exit::Code(0)), "{argv:?}: {text}");
    text
}

/// The directory that holds all of a workspace.
pub fn place_of(prepared: &Prepared) -> PathBuf {
    let inner = match &prepared.root {
        Tree::Directory(root) => root,
        Tree::Layers(Layers { upper, .. }) => upper,
    };
    inner.parent().unwrap().to_owned()
}

/// Allocated bytes below a directory, itself included, of paths (from it) that are wanted.
pub fn disk_of(root: &Path, wanted: impl Fn(&Path) -> bool) -> f64 {
    let mut open = vec![root.to_owned()];
    let mut blocks = 0;
    while let Some(path) = open.pop() {
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if wanted(path.strip_prefix(root).unwrap()) {
            blocks += stat.blocks();
        }
        if stat.is_dir() {
            open.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    blocks as f64 * 512.0
}

/// Living processes with this word in their command line.
pub fn processes_with(mark: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(mark)).count()
}

/// A home on a file system that has this rung: for reflinks a btrfs in a file, where its maker is installed and root can mount it.
pub fn home_for(rung: Rung, directory: &Path) -> Option<PathBuf> {
    let home = directory.join(format!("home-{rung:?}").to_lowercase());
    if rung == Rung::Copy {
        return Some(home);
    }
    let image = directory.join("btrfs.img");
    fs::File::create(&image).ok()?.set_len(8 << 30).ok()?;
    let quiet = |program: &str, arguments: &[&std::ffi::OsStr]| {
        let done = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        done.is_ok_and(|done| done.success()).then_some(())
    };
    quiet("mkfs.btrfs", &["-q".as_ref(), image.as_ref()])?;
    fs::create_dir_all(&home).ok()?;
    quiet("mount", &["-o".as_ref(), "loop".as_ref(), image.as_ref(), home.as_ref()])?;
    Some(home)
}

pub fn leave(rung: Rung, home: &Path) {
    if rung == Rung::Reflink {
        // Lazily: the trash is still being emptied.
        let _ = Command::new("umount").arg("-l").arg(home).status();
    }
}
