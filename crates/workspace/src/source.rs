//! The user's own repository: found by reading files, asked by git calls that run none of its programs.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use domain::{
    Fault,
    ids::{CommitId, RepositoryId},
    ports::workspace::Repository,
};
use sha2::{Digest, Sha256};

use crate::git::{Call, Git, Identity, io_fault};

/// A repository on the user's disk. Overnight writes to it only when it lands, pulls, restores or discards.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Of this work tree.
    pub git_dir: PathBuf,
    /// Shared by all work trees of the repository.
    pub common_dir: PathBuf,
    /// `None`: bare.
    pub top: Option<PathBuf>,
}

impl Source {
    /// Finds the repository that `directory` is in, as git does, without running git: so nobody's ownership or
    /// configuration matters yet.
    pub fn find(directory: &Path) -> Result<Self, Fault> {
        let start = fs::canonicalize(directory).map_err(|error| {
            Fault::input(format!("cannot open {}: {error}", directory.display()))
                .hint("name a directory inside a git repository")
        })?;
        for candidate in start.ancestors() {
            let dot_git = candidate.join(".git");
            if let Some(git_dir) = git_dir_at(&dot_git)? {
                return Self::new(git_dir, Some(candidate.to_owned()));
            }
            if looks_like_git_dir(candidate) {
                let top = candidate.file_name().filter(|name| *name == ".git").and_then(|_| candidate.parent());
                return Self::new(candidate.to_owned(), top.map(Path::to_owned));
            }
        }
        Err(Fault::input(format!("{} is not in a git repository", start.display()))
            .hint("go into a repository, or make one with `git init` and a first commit"))
    }

    fn new(git_dir: PathBuf, top: Option<PathBuf>) -> Result<Self, Fault> {
        let named = git_dir.join("commondir");
        let common_dir = match fs::read(&named) {
            Ok(text) => git_dir.join(OsString::from_vec(text.trim_ascii().to_vec())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => git_dir.clone(),
            Err(error) => return Err(io_fault("read", &named, &error)),
        };
        let common_dir = fs::canonicalize(&common_dir).map_err(|error| io_fault("open", &common_dir, &error))?;
        Ok(Self { git_dir, common_dir, top })
    }

    /// The directory's name for people, and a hash of where its objects are kept.
    pub fn repository(&self) -> Repository {
        let path = self.top.as_deref().unwrap_or(&self.git_dir);
        let home = match self.common_dir.file_name() {
            Some(name) if name == ".git" => self.common_dir.parent().unwrap_or(&self.common_dir),
            _ => &self.common_dir,
        };
        let name = home.file_name().unwrap_or_default().to_string_lossy();
        let name: String = name.trim_end_matches(".git").chars().map(plain).take(32).collect();
        let name = name.trim_matches(['-', '.']);
        let hash = Sha256::digest(self.common_dir.as_os_str().as_bytes());
        let hash: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        let name = if name.is_empty() { "repository" } else { name };
        Repository { id: RepositoryId(format!("{name}-{hash}")), path: path.to_owned() }
    }

    pub fn objects(&self) -> PathBuf {
        self.common_dir.join("objects")
    }

    /// The file that says where its history is cut, for a shallow clone.
    pub fn shallow(&self) -> Option<PathBuf> {
        let file = self.common_dir.join("shallow");
        fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(file)
    }

    /// A call on it. Its configuration is read by git, so only plumbing that runs no configured program may be called.
    pub fn git(&self, git: &Git) -> Call {
        git.at(&self.git_dir)
    }

    /// The commit that a name stands for.
    pub fn commit_of(&self, git: &Git, name: &str) -> Result<Option<CommitId>, Fault> {
        let name = format!("{name}^{{commit}}");
        let done = self.git(git).args(["rev-parse", "--verify", "--quiet", &name]).finish()?;
        match done.code {
            Some(0) => Ok(CommitId::parse(String::from_utf8_lossy(&done.out).trim_end())),
            Some(1) => Ok(None),
            _ => Err(Fault::input(format!("git cannot read {}: {}", self.git_dir.display(), done.err))
                .hint("make `git status` work there first")),
        }
    }

    /// The commit of a branch.
    pub fn branch(&self, git: &Git, branch: &str) -> Result<Option<CommitId>, Fault> {
        self.commit_of(git, &format!("refs/heads/{branch}"))
    }

    pub fn settings(&self, git: &Git) -> Result<Settings, Fault> {
        let mut call = self.git(git);
        // The one place where the user's own configuration file counts: their name and their ignore file stand there.
        for name in ["HOME", "XDG_CONFIG_HOME"] {
            if let Some(value) = std::env::var_os(name) {
                call = call.env(name, value);
            }
        }
        call = match std::env::var_os("GIT_CONFIG_GLOBAL") {
            Some(file) => call.env("GIT_CONFIG_GLOBAL", file),
            None => call.without_env("GIT_CONFIG_GLOBAL"),
        };
        let out = call.args(["config", "--list", "-z"]).run()?;
        let pairs = crate::git::pieces(&out).map(|piece| {
            let text = String::from_utf8_lossy(piece);
            match text.split_once('\n') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (text.into_owned(), "true".to_owned()),
            }
        });
        Ok(Settings { pairs: pairs.collect() })
    }
}

/// The values of a user's configuration, last one last.
#[derive(Debug)]
pub(crate) struct Settings {
    pairs: Vec<(String, String)>,
}

/// Settings that say how files in a work tree relate to blobs. None of them names a program.
const FILE_SETTINGS: &[&str] =
    &["core.autocrlf", "core.eol", "core.filemode", "core.symlinks", "core.ignorecase", "core.precomposeunicode"];

impl Settings {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "yes" | "on" | "1"))
    }

    /// Whether a filter driver is configured: then some files are not in the work tree as they are stored.
    pub fn has_filters(&self) -> bool {
        self.pairs.iter().any(|(name, _)| name.starts_with("filter."))
    }

    pub fn identity(&self) -> Option<Identity> {
        let name = self.get("user.name").filter(|name| !name.trim().is_empty())?;
        let email = self.get("user.email").filter(|email| !email.trim().is_empty())?;
        Some(Identity { name: name.to_owned(), email: email.to_owned() })
    }

    /// Makes `call`, on a store of our own, treat files as the user's repository would.
    pub fn apply_to(&self, mut call: Call) -> Call {
        for key in FILE_SETTINGS {
            if let Some(value) = self.get(key) {
                call = call.config(key, value.as_ref());
            }
        }
        call
    }
}

/// The git directory that a `.git` entry is or names.
fn git_dir_at(dot_git: &Path) -> Result<Option<PathBuf>, Fault> {
    if looks_like_git_dir(dot_git) {
        return Ok(Some(dot_git.to_owned()));
    }
    if !dot_git.is_file() {
        return Ok(None);
    }
    let text = fs::read(dot_git).map_err(|error| io_fault("read", dot_git, &error))?;
    let Some(named) = text.strip_prefix(b"gitdir:") else { return Ok(None) };
    let parent = dot_git.parent().unwrap_or(Path::new("/"));
    let named = parent.join(OsString::from_vec(named.trim_ascii().to_vec()));
    match fs::canonicalize(&named) {
        Ok(git_dir) => Ok(Some(git_dir)),
        Err(error) => Err(Fault::input(format!("{} points to {}: {error}", dot_git.display(), named.display()))
            .hint("run `git worktree repair` in the main work tree")),
    }
}

fn looks_like_git_dir(path: &Path) -> bool {
    let has_store = path.join("commondir").is_file() || (path.join("objects").is_dir() && path.join("refs").is_dir());
    has_store && path.join("HEAD").symlink_metadata().is_ok()
}

fn plain(c: char) -> char {
    if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') { c } else { '-' }
}
