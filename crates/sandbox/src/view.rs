//! What a sandbox shows of the host: the system and the compilers read-only, the workspace and a HOME of its own.

use std::{
    env,
    ffi::{OsStr, OsString},
    fmt, fs,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use domain::{
    Fault,
    ports::sandbox::{Confinement, HOME_DIR, SandboxSpec, Tree, WORKSPACE_DIR},
};
use rustix::fs::Access as Right;

use crate::{
    init,
    order::{Access, Hidden, Mount, View},
    sandboxes::Options,
};

/// Top-level directories of a system without anybody's data, where they exist.
const SYSTEM: [&str; 10] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix"];

/// Compilers, tools and package caches below the user's home. Never a place where credentials are kept.
const TOOLS: [&str; 11] = [
    ".pyenv",
    ".nvm",
    ".volta",
    ".local/share/uv",
    ".local/share/pnpm",
    ".bun",
    "go",
    ".sdkman",
    ".asdf",
    ".local/bin",
    "bin",
];

/// Which variable tells a tool where it is, as HOME does not.
const TOOL_VARIABLES: [(&str, &str); 5] = [
    ("PYENV_ROOT", ".pyenv"),
    ("NVM_DIR", ".nvm"),
    ("VOLTA_HOME", ".volta"),
    ("SDKMAN_DIR", ".sdkman"),
    ("ASDF_DATA_DIR", ".asdf"),
];

const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Where secrets are looked for, how deep, and how long what was found there holds.
const SEARCHED: [&str; 3] = ["/etc", "/opt", "/usr/local/etc"];
const SECRET_DEPTH: usize = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The host, looked at once.
#[derive(Debug, Default)]
pub struct Host {
    /// What every sandbox shows.
    shown: Vec<Mount>,
    hidden: Vec<PathBuf>,
    /// Where the system's secrets are looked for.
    searched: &'static [&'static str],
    /// What was found there, and when.
    secrets: Mutex<Option<(Instant, Vec<PathBuf>)>>,
    home: Option<PathBuf>,
    cargo_home: Option<PathBuf>,
    rustup_home: Option<PathBuf>,
    path: OsString,
}

impl Host {
    pub fn look(options: &Options) -> Self {
        let home = options.home.as_deref().and_then(|home| fs::canonicalize(home).ok());
        let below_home = |name: &str| home.as_ref().map(|home| home.join(name));
        let cargo_home = options.cargo_home.clone().or_else(|| below_home(".cargo"));
        let rustup_home = options.rustup_home.clone().or_else(|| below_home(".rustup"));

        let mut shown: Vec<Mount> = SYSTEM.iter().filter_map(|path| system_directory(Path::new(path))).collect();
        shown.extend(DEVICES.iter().filter(|path| Path::new(path).exists()).map(|path| device(Path::new(path))));
        for (name, to) in [
            ("/dev/fd", "/proc/self/fd"),
            ("/dev/stdin", "/proc/self/fd/0"),
            ("/dev/stdout", "/proc/self/fd/1"),
            ("/dev/stderr", "/proc/self/fd/2"),
            ("/dev/ptmx", "pts/ptmx"),
            ("/var/tmp", "/tmp"),
        ] {
            shown.push(Mount::Symlink { target: name.into(), to: to.into() });
        }
        shown.push(Mount::Scratch { name: "tmp".to_owned(), target: "/tmp".into() });
        let tools = TOOLS.iter().filter_map(|name| below_home(name));
        let tools = tools.chain(cargo_home.iter().map(|home| home.join("bin"))).chain(rustup_home.clone());
        for tool in tools.filter(|tool| tool.is_dir()) {
            let veiled = home.as_ref().is_some_and(|home| tool.starts_with(home));
            if veiled || !shown.iter().any(|mount| shows(mount, &tool)) {
                shown.push(read_only(&tool));
            }
        }
        for name in ["registry", "git"] {
            let Some(lower) = cargo_home.as_ref().map(|home| home.join(name)).filter(|cache| cache.is_dir()) else {
                continue;
            };
            let target = Path::new(HOME_DIR).join(".cargo").join(name);
            shown.push(Mount::Cache { lower, target, name: format!("cargo-{name}") });
        }
        let mut hidden: Vec<PathBuf> = options.hidden.clone();
        // Who talks to it has things built that may reach the network.
        hidden.push("/nix/var/nix/daemon-socket".into());
        hidden.push(options.state.clone());
        hidden.extend(home.clone());
        let path = options.path.clone();
        Self { shown, hidden, searched: &SEARCHED, secrets: Mutex::default(), home, cargo_home, rustup_home, path }
    }

    /// For sandboxes whose system is an image's: nothing of this one is shown but what a spec names.
    pub fn behind_image(hidden: Vec<PathBuf>) -> Self {
        let tmp = |target: &str| Mount::Scratch { name: "tmp".to_owned(), target: target.into() };
        Self { shown: vec![tmp("/tmp"), tmp("/var/tmp")], hidden, ..Self::default() }
    }

    /// The system's files that are not for everybody, looked for anew when the last look is old.
    fn secrets(&self) -> Vec<PathBuf> {
        let mut kept = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.as_ref() {
            Some((looked, found)) if looked.elapsed() < LOOK_AGAIN => found.clone(),
            _ => {
                let mut found = Vec::new();
                for directory in self.searched {
                    secrets(Path::new(directory), SECRET_DEPTH, &mut found);
                }
                kept.insert((Instant::now(), found)).1.clone()
            }
        }
    }

    /// The file system of a sandbox.
    pub fn view(&self, spec: &SandboxSpec) -> Result<View, Fault> {
        let mut mounts = self.shown.clone();
        mounts.extend(
            [(&spec.root, WORKSPACE_DIR), (&spec.home, HOME_DIR)].map(|(tree, target)| own(tree, target.into())),
        );
        for path in &spec.readable {
            let path = fs::canonicalize(path).map_err(|error| {
                Fault::environment(format!("cannot show {} in the sandbox: {error}", path.display()))
            })?;
            mounts.push(read_only(&path));
        }
        let mut veils = Vec::new();
        for hidden in self.hidden.iter().chain(&spec.hidden).chain(&self.secrets()) {
            // What does not exist, or cannot be reached by this user, is not seen either.
            let Ok(hidden) = fs::canonicalize(hidden) else { continue };
            let what = if hidden.is_dir() { Hidden::Directory } else { Hidden::File };
            veils.extend(
                mounts.iter().flat_map(|mount| seen_at(mount, &hidden)).map(|target| Mount::Hide { target, what }),
            );
        }
        mounts.extend(veils);
        // Ancestors first: of a hidden directory and a readable one, the deeper one wins; at the same place the veil, which
        // comes later.
        mounts.sort_by(|one, other| one.target().cmp(other.target()));
        mounts.dedup();
        Ok(View { scratch: spec.scratch.clone(), mounts })
    }

    /// What every command's environment starts from.
    pub fn environment(&self, spec: &SandboxSpec) -> Vec<(OsString, OsString)> {
        let confined = spec.confinement == Confinement::Confined;
        let (home, root) = match (&spec.home, &spec.root) {
            (Tree::Directory(home), Tree::Directory(root)) if !confined => (home.as_path(), root.as_path()),
            _ => (Path::new(HOME_DIR), Path::new(WORKSPACE_DIR)),
        };
        let mut env = usual(home, root);
        if confined {
            env.extend(behind_walls());
        }
        let mut set = |name: &str, value: &Path| env.push((name.into(), value.into()));
        if !confined && let Some(cargo_home) = &self.cargo_home {
            set("CARGO_HOME", cargo_home);
        }
        if let Some(rustup_home) = self.rustup_home.as_ref().filter(|home| home.is_dir()) {
            set("RUSTUP_HOME", rustup_home);
        }
        for (name, directory) in TOOL_VARIABLES {
            if let Some(directory) = self.home.as_ref().map(|home| home.join(directory)).filter(|tool| tool.is_dir()) {
                set(name, &directory);
            }
        }
        with_given(env, &self.path(confined), spec)
    }

    /// The daemon's PATH as far as it is seen, then the system's own.
    fn path(&self, confined: bool) -> OsString {
        let mut path: Vec<PathBuf> = Vec::new();
        for entry in env::split_paths(&self.path).chain(env::split_paths(USUAL_PATH)) {
            let seen = !confined || self.shown.iter().any(|mount| shows(mount, &entry));
            if entry.is_absolute() && seen && !path.contains(&entry) {
                path.push(entry);
            }
        }
        // No entry holds a colon, as they come from splitting at it.
        env::join_paths(path).unwrap_or_default()
    }
}

type Variable = (OsString, OsString);

/// What commands start from in an image's system: its own variables first.
pub fn environment_in_image(image: &[String], spec: &SandboxSpec) -> Vec<Variable> {
    let image = image.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into()));
    let mut env: Vec<Variable> = image.collect();
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone());
    env.extend(usual(Path::new(HOME_DIR), Path::new(WORKSPACE_DIR)));
    env.extend(behind_walls());
    with_given(env, &path.unwrap_or_else(|| USUAL_PATH.into()), spec)
}

fn usual(home: &Path, root: &Path) -> Vec<Variable> {
    [
        ("HOME", home.as_os_str()),
        ("USER", OsStr::new("agent")),
        ("LOGNAME", OsStr::new("agent")),
        ("SHELL", OsStr::new("/bin/sh")),
        ("LANG", OsStr::new("C.UTF-8")),
        ("TERM", OsStr::new("dumb")),
        ("PAGER", OsStr::new("cat")),
        ("OVERNIGHT_WORKSPACE", root.as_os_str()),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec()
}

/// What confined commands need besides.
fn behind_walls() -> [Variable; 3] {
    [
        ("CARGO_HOME".into(), Path::new(HOME_DIR).join(".cargo").into()),
        // As user 0 without its powers, tar would fail where it tries to give files away.
        ("TAR_OPTIONS".into(), "--no-same-owner".into()),
        // The leak check traces its own process, which is denied; the rest of the sanitizer works.
        ("ASAN_OPTIONS".into(), "detect_leaks=0".into()),
    ]
}

/// With the spec's own variables, which come last; the directories of its PATH come first.
fn with_given(mut env: Vec<Variable>, path: &OsStr, spec: &SandboxSpec) -> Vec<Variable> {
    env.push(("PATH".into(), path.into()));
    let given = spec.env.iter().map(|(name, value)| match name.as_str() {
        "PATH" => (name.into(), [OsStr::new(value), path].join(OsStr::new(":"))),
        _ => (name.into(), value.into()),
    });
    init::merge(env.into_iter().chain(given))
}

fn read_only(path: &Path) -> Mount {
    Mount::Bind { source: path.into(), target: path.into(), access: Access::ReadOnly }
}

fn device(path: &Path) -> Mount {
    Mount::Bind { source: path.into(), target: path.into(), access: Access::Device }
}

fn system_directory(path: &Path) -> Option<Mount> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if metadata.is_symlink() {
        return Some(Mount::Symlink { target: path.into(), to: fs::read_link(path).ok()? });
    }
    metadata.is_dir().then(|| read_only(path))
}

/// A tree of the sandbox's own.
fn own(tree: &Tree, target: PathBuf) -> Mount {
    match tree {
        Tree::Directory(source) => Mount::Bind { source: source.clone(), target, access: Access::ReadWrite },
        Tree::Layers(layers) => Mount::Layers { layers: layers.clone(), target },
    }
}

/// Whether `path` of the host is seen at the same path because of this mount.
fn shows(mount: &Mount, path: &Path) -> bool {
    match mount {
        Mount::Bind { target, access: Access::ReadOnly, .. } | Mount::Symlink { target, .. } => {
            path.starts_with(target)
        }
        Mount::Bind { .. }
        | Mount::Layers { .. }
        | Mount::Cache { .. }
        | Mount::Scratch { .. }
        | Mount::Hide { .. } => false,
    }
}

/// Where `path` of the host would be seen because of this mount.
fn seen_at(mount: &Mount, path: &Path) -> Vec<PathBuf> {
    let (sources, target) = match mount {
        Mount::Bind { source, target, .. } | Mount::Cache { lower: source, target, .. } => (vec![source], target),
        Mount::Layers { layers, target } => (layers.lower.iter().chain([&layers.upper]).collect(), target),
        Mount::Scratch { .. } | Mount::Hide { .. } | Mount::Symlink { .. } => return Vec::new(),
    };
    let inside = sources.into_iter().filter_map(|source| path.strip_prefix(source).ok());
    inside.map(|relative| if relative == Path::new("") { target.clone() } else { target.join(relative) }).collect()
}

/// What not everybody may read although this process can: the shadow file of a daemon that runs as root, say. And sockets, at
/// which a program of the host may listen.
fn secrets(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    // A directory that cannot be listed shows nothing to the sandbox either, which has the same user.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = entry.metadata() else { continue };
        let everybody = if metadata.is_dir() { 0o005 } else { 0o004 };
        if metadata.is_symlink() {
            continue;
        }
        if metadata.file_type().is_socket() {
            found.push(path);
        } else if metadata.permissions().mode() & everybody != everybody {
            if rustix::fs::access(&path, Right::READ_OK).is_ok() {
                found.push(path);
            }
        } else if metadata.is_dir() && depth > 1 {
            secrets(&path, depth - 1, found);
        }
    }
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { source: path, .. } | Self::Cache { lower: path, .. } => path.display().fmt(f),
            Self::Layers { layers, .. } => write!(f, "the layers of {}", layers.upper.display()),
            Self::Scratch { target, .. } | Self::Hide { target, .. } | Self::Symlink { target, .. } => {
                target.display().fmt(f)
            }
        }
    }
}
