//! A repository's private store: the bare repository that holds every object and every ref of Overnight's own, and that
//! only the host sees. Git runs on it, so that no configuration of a user or an agent is ever read.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use domain::{
    Fault,
    ids::{AttemptKey, CommitId, RepositoryId, TaskId, TurnNo},
};

use crate::{
    git::{Call, Git, Identity, io_fault},
    home::{Home, make_dir, read_dir},
};

/// The store of one repository.
#[derive(Clone, Debug)]
pub(crate) struct Store<'a> {
    pub home: &'a Home,
    root: PathBuf,
}

impl<'a> Store<'a> {
    pub fn new(home: &'a Home, root: PathBuf) -> Self {
        Self { home, root }
    }

    pub fn git_dir(&self) -> PathBuf {
        self.root.join("private.git")
    }

    pub fn objects(&self) -> PathBuf {
        self.git_dir().join("objects")
    }

    pub fn bases(&self) -> PathBuf {
        self.root.join("bases")
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn id(&self) -> RepositoryId {
        RepositoryId(self.root.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Holds where the user's repository is; written each time somebody starts from it.
    pub fn named(&self) -> PathBuf {
        self.root.join("path")
    }

    pub fn set_named(&self, repository: &Path) -> Result<(), Fault> {
        put(&self.named(), repository.as_os_str().as_encoded_bytes())
    }

    /// Whether the user's repository is still where it was. `true` where nobody knows.
    pub fn is_wanted(&self) -> bool {
        fs::read(self.named()).map_or(true, |path| crate::path_of(&path).exists())
    }

    /// Whether a task has a snapshot here.
    pub fn has_task_refs(&self) -> Result<bool, Fault> {
        let refs = self.git_dir().join("refs/overnight");
        let names = if refs.is_dir() { read_dir(&refs)? } else { Vec::new() };
        let ours = |path: &PathBuf| path.ends_with("base") || path.ends_with("handed-over");
        Ok(names.iter().any(|path| !ours(path)))
    }

    /// A call on the private store.
    pub fn git(&self) -> Call {
        self.git_program().at(&self.git_dir())
    }

    pub fn git_program(&self) -> &Git {
        &self.home.git
    }

    /// Makes the private store when it is not there. `like` is an object name of its repository: its length tells the hash.
    pub fn make(&self, like: &CommitId) -> Result<(), Fault> {
        let git_dir = self.git_dir();
        if git_dir.is_dir() {
            return Ok(());
        }
        self.home.alone(&git_dir, || {
            if git_dir.is_dir() {
                return Ok(());
            }
            make_dir(&self.bases())?;
            let new = self.home.unique(&self.root);
            make_git_dir(&new, like, "\tbare = true\n")?;
            put(&new.join("HEAD"), b"ref: refs/heads/none\n")?;
            fs::rename(&new, &git_dir).map_err(|error| io_fault("make", &git_dir, &error))
        })
    }

    /// Points a ref at a commit, durably. `name` is the whole name.
    pub fn set_ref(&self, name: &str, commit: &CommitId) -> Result<(), Fault> {
        let path = self.git_dir().join(name);
        if let Some(parent) = path.parent() {
            make_dir(parent)?;
        }
        // Written as git's own files backend does. The name is ours, so no two calls write it with different content.
        let new = self.home.unique(&self.root);
        put_durably(&new, format!("{commit}\n").as_bytes())?;
        fs::rename(&new, &path).map_err(|error| io_fault("write", &path, &error))
    }

    pub fn set_snapshot(&self, key: AttemptKey, turn: TurnNo, commit: &CommitId) -> Result<(), Fault> {
        self.set_ref(&format!("refs/overnight/{}/{}/{turn}", key.task, key.attempt), commit)
    }

    /// Remembers, before it happens, that `commit` is handed over to the user's repository as the result `head` of `task`.
    pub fn set_handed_over(&self, task: TaskId, head: &CommitId, commit: &CommitId) -> Result<(), Fault> {
        self.set_ref(&format!("{}/{head}/{commit}", handed_over(task)), commit)
    }

    /// A commit that was, or was about to be, handed over as `head` and that is in the history of `target_head`.
    pub fn handed_over_in(
        &self,
        task: TaskId,
        head: &CommitId,
        target_head: &CommitId,
    ) -> Result<Option<CommitId>, Fault> {
        let names = format!("{}/{head}/", handed_over(task));
        let merged = format!("--merged={target_head}");
        let text = self.git().args(["for-each-ref", "--format=%(objectname)", "--count=1", &merged, &names]).text()?;
        Ok(CommitId::parse(&text))
    }

    /// Whether a commit in the user's repository is one of ours for `task`, as any of its results.
    pub fn was_handed_over(&self, task: TaskId, commit: &CommitId) -> bool {
        let heads = read_dir(&self.git_dir().join(handed_over(task))).unwrap_or_default();
        heads.iter().any(|head| head.join(commit.as_str()).is_file())
    }

    /// Removes all refs of a task.
    pub fn forget(&self, task: TaskId) -> Result<(), Fault> {
        for names in [format!("refs/overnight/{task}"), handed_over(task)] {
            self.home.throw_away(&self.git_dir().join(names))?;
        }
        Ok(())
    }

    /// The object that an expression names in the store.
    pub fn resolve(&self, expression: &str) -> Result<Option<CommitId>, Fault> {
        let done = self.git().args(["rev-parse", "--verify", "--quiet", expression]).finish()?;
        match done.code {
            Some(0) => Ok(CommitId::parse(String::from_utf8_lossy(&done.out).trim_end())),
            Some(1 | 128) if done.err.is_empty() || done.err.contains("fatal: Needed a single revision") => Ok(None),
            _ => Err(done.fault("rev-parse")),
        }
    }

    pub fn tree_of(&self, commit: &CommitId) -> Result<CommitId, Fault> {
        self.resolve(&format!("{commit}^{{tree}}"))?.ok_or_else(|| self.lacks(commit))
    }

    pub fn first_parent(&self, commit: &CommitId) -> Result<CommitId, Fault> {
        self.resolve(&format!("{commit}^1"))?.ok_or_else(|| self.lacks(commit))
    }

    /// A commit object; the same arguments make the same commit.
    pub fn commit(&self, new: &NewCommit<'_>) -> Result<CommitId, Fault> {
        let mut call = self.git().stamp(&new.who, new.at).args(["commit-tree", new.tree.as_str()]);
        for parent in new.parents {
            call = call.args(["-p", parent.as_str()]);
        }
        let mut message = new.message.trim_end().to_owned();
        message.push('\n');
        call.input(message).object()
    }

    fn lacks(&self, commit: &CommitId) -> Fault {
        Fault::not_found(format!("the store {} has no commit {commit}", self.root.display()))
    }
}

/// A commit to be made.
#[derive(Debug)]
pub(crate) struct NewCommit<'a> {
    pub tree: &'a CommitId,
    pub parents: &'a [&'a CommitId],
    pub message: &'a str,
    pub who: Identity,
    pub at: jiff::Timestamp,
}

/// Refs of what was handed over for a task. Beside `refs/overnight/<task>`, which holds attempts only.
fn handed_over(task: TaskId) -> String {
    format!("refs/overnight/handed-over/{task}")
}

/// The skeleton of a git directory, without `HEAD`. `core` are further lines of its `[core]` section and what follows it.
pub(crate) fn make_git_dir(path: &Path, like: &CommitId, core: &str) -> Result<(), Fault> {
    for name in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        make_dir(&path.join(name))?;
    }
    let sha256 = like.as_str().len() == 64;
    let (version, extensions) = if sha256 { (1, "[extensions]\n\tobjectformat = sha256\n") } else { (0, "") };
    let config = format!("{extensions}[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n{core}");
    put(&path.join("config"), config.as_bytes())
}

pub(crate) fn put(path: &Path, content: &[u8]) -> Result<(), Fault> {
    fs::write(path, content).map_err(|error| io_fault("write", path, &error))
}

pub(crate) fn put_durably(path: &Path, content: &[u8]) -> Result<(), Fault> {
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| io_fault("write", path, &error))
}
