//! Plain second implementations of the ports: commits are maps of files, sandboxes are bare processes, the rest is memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use domain::{
    Fault,
    check::BlobId,
    environment::EnvironmentId,
    ids::{AttemptKey, CommitId, TaskId},
    ports::{
        BoxFuture,
        checks::CheckCache,
        sandbox::{
            Conversation, Entry, EntryKind, Exec, Exit, Files, Output, Probe, Process, Sandbox, SandboxSpec, Sandboxes,
            Terminal, Tree as Sandboxed, WindowSize,
        },
        store::Blobs,
        workspace::*,
    },
};
use ignore::gitignore::GitignoreBuilder;
use tokio::process::{Child, Command};

pub type Tree = BTreeMap<String, Vec<u8>>;

/// Commits as directories, without git.
#[derive(Default)]
pub struct Trees {
    pub home: PathBuf,
    pub commits: Mutex<HashMap<String, Tree>>,
    pub live: Mutex<BTreeSet<String>>,
    pub checkouts: AtomicUsize,
}

fn unused<T>(what: &str) -> BoxFuture<'_, Result<T, Fault>>
where
    T: Send + 'static,
{
    let fault = Fault::bug(format!("{what} is not for checks"));
    Box::pin(async move { Err(fault) })
}

impl Trees {
    fn tree(&self, commit: &CommitId) -> Result<Tree, Fault> {
        let commits = self.commits.lock().unwrap();
        commits.get(commit.as_str()).cloned().ok_or_else(|| Fault::not_found(format!("no commit {commit}")))
    }

    fn write(&self, request: CheckoutRequest) -> Result<Prepared, Fault> {
        let mut tree = self.tree(&request.commit)?;
        if let Some((base, globs)) = &request.protect {
            let mut builder = GitignoreBuilder::new("");
            for glob in globs {
                builder.add_line(None, glob).unwrap();
            }
            let globs = builder.build().unwrap();
            let is_protected = |path: &str| globs.matched_path_or_any_parents(path, false).is_ignore();
            tree.retain(|path, _| !is_protected(path));
            tree.extend(self.tree(base)?.into_iter().filter(|(path, _)| is_protected(path)));
        }
        assert!(
            self.live.lock().unwrap().insert(request.name.clone()),
            "two live checkouts are called {}",
            request.name
        );
        self.checkouts.fetch_add(1, Ordering::SeqCst);
        let place = self.home.join(&request.name);
        let root = place.join("tree");
        for directory in ["tree", "home", "spill"] {
            std::fs::create_dir_all(place.join(directory)).unwrap();
        }
        for (path, content) in tree {
            let file = root.join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, content).unwrap();
        }
        Ok(Prepared {
            root: Sandboxed::Directory(root),
            home: Sandboxed::Directory(place.join("home")),
            scratch: place.join("scratch"),
            readable: vec![],
            spill: place.join("spill"),
            lock: place.join("lock"),
        })
    }
}

impl Workspaces for Trees {
    fn checkout(&self, request: CheckoutRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        Box::pin(async move { self.write(request) })
    }

    fn discard_checkout(&self, name: String) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            std::fs::remove_dir_all(self.home.join(&name)).unwrap();
            assert!(self.live.lock().unwrap().remove(&name));
        })
    }

    fn changed_paths(
        &self,
        _: Repository,
        from: CommitId,
        to: CommitId,
    ) -> BoxFuture<'_, Result<Vec<ChangedPath>, Fault>> {
        Box::pin(async move {
            let (old, new) = (self.tree(&from)?, self.tree(&to)?);
            let paths: BTreeSet<&String> =
                old.keys().chain(new.keys()).filter(|path| old.get(*path) != new.get(*path)).collect();
            let changed = |path: &String| ChangedPath {
                path: path.clone(),
                kind: ChangeKind::Modified,
                added: 1,
                deleted: 1,
                binary: false,
            };
            Ok(paths.into_iter().map(changed).collect())
        })
    }

    fn read(
        &self,
        _: Repository,
        commit: CommitId,
        path: String,
        max: usize,
    ) -> BoxFuture<'_, Result<Option<Bytes>, Fault>> {
        Box::pin(async move {
            let content = self.tree(&commit)?.remove(&path);
            Ok(content.map(|mut content| {
                content.truncate(max);
                Bytes::from(content)
            }))
        })
    }

    fn list(&self, _: Repository, commit: CommitId, directory: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        Box::pin(async move {
            let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
            let tree = self.tree(&commit)?;
            let below = tree.keys().filter_map(|path| path.strip_prefix(&prefix)?.split('/').next().map(str::to_owned));
            Ok(below.collect::<BTreeSet<_>>().into_iter().collect())
        })
    }

    fn resolve(&self, _: ResolveRequest) -> BoxFuture<'_, Result<Origin, Fault>> {
        unused("resolve")
    }
    fn scratch(&self, _: TaskId) -> BoxFuture<'_, Result<Origin, Fault>> {
        unused("scratch")
    }
    fn prepare(&self, _: PrepareRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        unused("prepare")
    }
    fn raise(&self, _: RaiseRequest) -> BoxFuture<'_, Result<Prepared, Fault>> {
        unused("raise")
    }
    fn freeze(&self, _: Repository, _: EnvironmentId, _: String) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        unused("freeze")
    }
    fn remove_environment(&self, _: Repository, _: EnvironmentId) -> BoxFuture<'_, Result<(), Fault>> {
        unused("remove_environment")
    }
    fn environments(&self, _: Repository) -> BoxFuture<'_, Result<Vec<EnvironmentLayer>, Fault>> {
        unused("environments")
    }
    fn serves(&self, _: Repository, _: EnvironmentId, _: CommitId) -> BoxFuture<'_, Result<bool, Fault>> {
        unused("serves")
    }
    fn disk_use(&self) -> BoxFuture<'_, Result<DiskUse, Fault>> {
        unused("disk_use")
    }
    fn snapshot(&self, _: SnapshotRequest) -> BoxFuture<'_, Result<Snapshot, Fault>> {
        unused("snapshot")
    }
    fn release(&self, _: Repository, _: AttemptKey, _: Option<CommitId>) -> BoxFuture<'_, Result<(), Fault>> {
        unused("release")
    }
    fn diff(&self, _: Repository, _: CommitId, _: CommitId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        unused("diff")
    }
    fn blame(&self, _: Repository, _: CommitId, _: String) -> BoxFuture<'_, Result<Vec<BlamedLine>, Fault>> {
        unused("blame")
    }
    fn land(&self, _: LandRequest) -> BoxFuture<'_, Result<Landing, Fault>> {
        unused("land")
    }
    fn pull(&self, _: PathBuf, _: Repository, _: TaskId, _: CommitId) -> BoxFuture<'_, Result<Vec<String>, Fault>> {
        unused("pull")
    }
    fn discard(&self, _: Repository, _: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        unused("discard")
    }
    fn purge(&self, _: Repository, _: TaskId) -> BoxFuture<'_, Result<(), Fault>> {
        unused("purge")
    }
}

/// Bare processes, each in a group of its own.
#[derive(Default)]
pub struct Plain {
    pub opened: AtomicUsize,
    /// Sandboxes whose processes have not all been seen to end.
    pub open: Arc<AtomicUsize>,
    pub refuses: Mutex<Option<Fault>>,
    /// How every command ends, instead of its own way.
    pub ends: Mutex<Option<Exit>>,
}

pub struct PlainSandbox {
    spec: SandboxSpec,
    root: PathBuf,
    home: PathBuf,
    ends: Option<Exit>,
    groups: Mutex<Vec<i32>>,
    open: Arc<AtomicUsize>,
}

impl Sandboxes for Plain {
    fn probe(&self) -> Probe {
        Probe { confined: false, layers: false, walls: vec![] }
    }

    fn open(&self, spec: SandboxSpec) -> BoxFuture<'_, Result<Arc<dyn Sandbox>, Fault>> {
        Box::pin(async move {
            if let Some(fault) = self.refuses.lock().unwrap().clone() {
                return Err(fault);
            }
            self.opened.fetch_add(1, Ordering::SeqCst);
            self.open.fetch_add(1, Ordering::SeqCst);
            let (root, home) = (plain(&spec.root), plain(&spec.home));
            let ends = *self.ends.lock().unwrap();
            let sandbox =
                PlainSandbox { spec, root, home, ends, groups: Mutex::default(), open: Arc::clone(&self.open) };
            Ok(Arc::new(sandbox) as Arc<dyn Sandbox>)
        })
    }

    fn ensure_dead(&self, _: PathBuf, _: Duration) -> BoxFuture<'_, Result<(), Fault>> {
        unused("ensure_dead")
    }
}

fn plain(tree: &Sandboxed) -> PathBuf {
    match tree {
        Sandboxed::Directory(path) => path.clone(),
        Sandboxed::Layers(layers) => panic!("{layers:?} for a plain process"),
    }
}

fn kill_group(group: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(group) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}

impl Drop for PlainSandbox {
    fn drop(&mut self) {
        self.groups.lock().unwrap().drain(..).for_each(kill_group);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Sandbox for PlainSandbox {
    fn spawn(&self, exec: Exec) -> BoxFuture<'_, Result<Box<dyn Process>, Fault>> {
        Box::pin(async move {
            let printed = self.spec.spill.join("output");
            let file = File::create(&printed).unwrap();
            let mut command = Command::new(&exec.argv[0]);
            command.args(&exec.argv[1..]).current_dir(&self.root).env_clear();
            command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &self.home).envs(self.spec.env.clone());
            command
                .stdin(Stdio::null())
                .stdout(file.try_clone().unwrap())
                .stderr(file)
                .process_group(0)
                .kill_on_drop(true);
            let child = command.spawn().map_err(|error| Fault::environment(error.to_string()))?;
            let group = i32::try_from(child.id().unwrap()).unwrap();
            self.groups.lock().unwrap().push(group);
            let process = PlainProcess {
                child,
                group,
                printed,
                ends: self.ends,
                timeout: exec.timeout,
                limit: self.spec.limits.output_bytes,
            };
            Ok(Box::new(process) as Box<dyn Process>)
        })
    }

    fn converse(&self, _: Exec) -> BoxFuture<'_, Result<Conversation, Fault>> {
        unused("converse")
    }

    fn terminal(&self, _: Exec, _: WindowSize) -> BoxFuture<'_, Result<Box<dyn Terminal>, Fault>> {
        unused("terminal")
    }

    fn files(&self) -> BoxFuture<'_, Result<Arc<dyn Files>, Fault>> {
        Box::pin(async { Ok(Arc::new(PlainFiles(self.root.clone())) as Arc<dyn Files>) })
    }

    fn connect(&self, _: u16) -> BoxFuture<'_, Result<std::net::TcpStream, Fault>> {
        unused("connect")
    }

    fn running(&self) -> Vec<String> {
        Vec::new()
    }

    fn kill(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move { self.groups.lock().unwrap().iter().copied().for_each(kill_group) })
    }
}

/// Never leaves the directory by a link, but follows links in it.
struct PlainFiles(PathBuf);

impl PlainFiles {
    fn place(&self, path: &str) -> Result<PathBuf, Fault> {
        let real = self.0.join(path).canonicalize().map_err(|error| Fault::not_found(error.to_string()))?;
        match real.starts_with(self.0.canonicalize().unwrap()) {
            true => Ok(real),
            false => Err(Fault::input(format!("{path} leads out of the workspace"))),
        }
    }
}

impl Files for PlainFiles {
    fn read(&self, path: &str, offset: u64, max: usize) -> Result<(Bytes, u64), Fault> {
        let all = Bytes::from(std::fs::read(self.place(path)?).map_err(|error| Fault::not_found(error.to_string()))?);
        let from = usize::try_from(offset).unwrap().min(all.len());
        Ok((all.slice(from..all.len().min(from + max)), all.len() as u64))
    }

    fn write(&self, _: &str, _: &[u8]) -> Result<(), Fault> {
        Err(Fault::bug("checks write no files"))
    }

    fn list(&self, directory: &str) -> Result<Vec<Entry>, Fault> {
        let Ok(entries) = self.place(directory)?.read_dir() else { return Ok(Vec::new()) };
        let entry = |entry: std::fs::DirEntry| {
            let meta = entry.metadata().unwrap();
            let kind = match meta.file_type() {
                kind if kind.is_file() => EntryKind::File,
                kind if kind.is_dir() => EntryKind::Directory,
                _ => EntryKind::Other,
            };
            let name = entry.file_name().into_string().unwrap();
            Entry { name, kind, bytes: meta.len(), modified: meta.modified().unwrap() }
        };
        Ok(entries.flatten().map(entry).collect())
    }
}

pub struct PlainProcess {
    child: Child,
    group: i32,
    printed: PathBuf,
    ends: Option<Exit>,
    timeout: Duration,
    limit: u64,
}

impl Process for PlainProcess {
    fn wait(&mut self, _: Duration) -> BoxFuture<'_, Option<Exit>> {
        Box::pin(async move {
            use std::os::unix::process::ExitStatusExt as _;
            match tokio::time::timeout(self.timeout, self.child.wait()).await {
                Ok(status) => {
                    let status = status.unwrap();
                    self.ends.or(Some(status.code().map_or_else(|| Exit::Signal(status.signal().unwrap()), Exit::Code)))
                }
                Err(_) => {
                    kill_group(self.group);
                    self.child.wait().await.unwrap();
                    Some(Exit::TimedOut)
                }
            }
        })
    }

    fn output(&self) -> Output {
        const END: usize = 32 << 10;
        let all = Bytes::from(std::fs::read(&self.printed).unwrap());
        let head = all.slice(..all.len().min(END));
        let tail = all.slice(head.len().max(all.len().saturating_sub(END))..);
        let fits = all.len() <= head.len() + tail.len();
        let kept = usize::try_from(self.limit).unwrap();
        if !fits && all.len() > kept {
            File::options().write(true).open(&self.printed).unwrap().set_len(self.limit).unwrap();
        }
        Output { head, tail, total: all.len() as u64, file: (!fits).then(|| self.printed.clone()) }
    }

    fn kill(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async move { kill_group(self.group) })
    }
}

#[derive(Default)]
pub struct Memory {
    pub blobs: Mutex<HashMap<BlobId, Bytes>>,
    pub kept: Mutex<BTreeMap<String, String>>,
    pub fails: Mutex<bool>,
}

impl Blobs for Memory {
    fn put(&self, content: Bytes) -> BoxFuture<'_, Result<BlobId, Fault>> {
        Box::pin(async move {
            let mut blobs = self.blobs.lock().unwrap();
            let id = BlobId(format!("{:064x}", blobs.len()));
            blobs.insert(id.clone(), content);
            Ok(id)
        })
    }

    fn get(&self, id: BlobId) -> BoxFuture<'_, Result<Bytes, Fault>> {
        Box::pin(async move { self.blobs.lock().unwrap().get(&id).cloned().ok_or_else(|| Fault::not_found(id.0)) })
    }
}

impl CheckCache for Memory {
    fn get(&self, key: String) -> BoxFuture<'_, Result<Option<String>, Fault>> {
        Box::pin(async move {
            match *self.fails.lock().unwrap() {
                true => Err(Fault::transient("the cache is away")),
                false => Ok(self.kept.lock().unwrap().get(&key).cloned()),
            }
        })
    }

    fn put(&self, key: String, value: String) -> BoxFuture<'_, Result<(), Fault>> {
        Box::pin(async move {
            match *self.fails.lock().unwrap() {
                true => Err(Fault::transient("the cache is away")),
                false => {
                    self.kept.lock().unwrap().insert(key, value);
                    Ok(())
                }
            }
        })
    }
}

/// Whether nothing is left below a directory.
pub fn is_empty(directory: &Path) -> bool {
    directory.read_dir().unwrap().next().is_none()
}
