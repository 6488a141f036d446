//! Running git: one process per call, with nothing of the caller's environment or configuration.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read, Write},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use domain::{
    Fault,
    ids::{CommitId, TaskId},
};

/// The oldest git that has everything used here (`merge-tree --write-tree`).
const OLDEST: (u32, u32) = (2, 38);

/// What every call forbids, on the command line, where no configuration file can overrule it.
const FORBID: &[&str] = &[
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.safecrlf=false",
    "core.alternateRefsCommand=",
    "gc.auto=0",
    "maintenance.auto=false",
    "core.fsync=committed,reference",
    "core.fsyncMethod=batch",
];

/// The git program of this machine.
#[derive(Debug)]
pub(crate) struct Git {
    program: PathBuf,
}

impl Git {
    /// Finds git on `PATH` and makes sure that it is new enough.
    pub fn find() -> Result<Self, Fault> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
        let program = std::env::split_paths(&path)
            .map(|directory| directory.join("git"))
            .find(|program| program.is_absolute() && program.is_file())
            .ok_or_else(|| {
                Fault::environment("git was not found on PATH")
                    .hint("install git 2.38 or newer (`apt-get install git`)")
            })?;
        let git = Self { program };
        let printed = git.at(Path::new("/")).args(["version"]).text()?;
        match version(&printed) {
            Some(version) if version >= OLDEST => Ok(git),
            Some((major, minor)) => Err(Fault::environment(format!(
                "{} is git {major}.{minor}, older than {}.{}",
                git.program.display(),
                OLDEST.0,
                OLDEST.1
            ))
            .hint("install git 2.38 or newer")),
            None => Err(Fault::environment(format!("{} says `{printed}`", git.program.display()))
                .hint("install git 2.38 or newer, and make sure that it comes first on PATH")),
        }
    }

    /// A call on the git directory `dir`.
    pub fn at(&self, dir: &Path) -> Call {
        let mut command = Command::new(&self.program);
        command
            // Not in a work tree, so that no file there is taken for what an argument means.
            .current_dir(dir)
            .env_clear()
            .env("GIT_DIR", dir)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_LITERAL_PATHSPECS", "1")
            // No transport at all: a missing object is an error, never a reason to call a configured program.
            .env("GIT_ALLOW_PROTOCOL", "none")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for forbidden in FORBID {
            command.args(["-c", forbidden]);
        }
        Call { command, input: None, name: String::new() }
    }
}

/// One git process to be.
#[derive(Debug)]
pub(crate) struct Call {
    command: Command,
    input: Option<Vec<u8>>,
    /// The subcommand, for messages.
    name: String,
}

/// What an ended git process left.
#[derive(Debug)]
pub(crate) struct Done {
    /// `None`: killed by a signal.
    pub code: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Call {
    /// The subcommand and its arguments; further calls append.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            if self.name.is_empty() && !arg.as_ref().as_bytes().starts_with(b"-") {
                self.name = arg.as_ref().to_string_lossy().into_owned();
            }
            self.command.arg(arg);
        }
        self
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn without_env(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// A configuration value for this call. Comes before the subcommand.
    pub fn config(mut self, key: &str, value: &OsStr) -> Self {
        let mut pair = OsString::from(key);
        pair.push("=");
        pair.push(value);
        self.command.arg("-c").arg(pair);
        self
    }

    pub fn work_tree(mut self, tree: &Path) -> Self {
        self.command.current_dir(tree);
        self.env("GIT_WORK_TREE", tree)
    }

    pub fn index(self, index: &Path) -> Self {
        self.env("GIT_INDEX_FILE", index)
    }

    /// Objects are written here instead of the git directory's own place.
    pub fn objects(self, objects: &Path) -> Self {
        self.env("GIT_OBJECT_DIRECTORY", objects)
    }

    /// Objects are also read from these directories.
    pub fn also_objects(self, directories: &[&Path]) -> Self {
        let quoted: Vec<Vec<u8>> = directories.iter().map(|directory| quote(directory)).collect();
        self.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", OsString::from_vec(quoted.join(&b':')))
    }

    /// Counts the history as cut where this file says, or as whole; whatever the git directory itself says.
    pub fn shallow(mut self, file: Option<&Path>) -> Self {
        self.command.arg("--shallow-file").arg(file.unwrap_or(Path::new("")));
        self
    }

    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Who and when, for the objects this call makes.
    pub fn stamp(self, who: &Identity, at: jiff::Timestamp) -> Self {
        let date = format!("@{} +0000", at.as_second());
        self.env("GIT_AUTHOR_NAME", &who.name)
            .env("GIT_AUTHOR_EMAIL", &who.email)
            .env("GIT_AUTHOR_DATE", &date)
            .env("GIT_COMMITTER_NAME", &who.name)
            .env("GIT_COMMITTER_EMAIL", &who.email)
            .env("GIT_COMMITTER_DATE", &date)
    }

    /// Starts it with piped standard input, for a conversation.
    pub fn start(mut self) -> Result<Child, Fault> {
        self.command.stdin(Stdio::piped()).spawn().map_err(|error| cannot_start(&error))
    }

    /// Runs it to its end, whatever that is.
    pub fn finish(mut self) -> Result<Done, Fault> {
        let Some(input) = self.input.take() else {
            let output = self.command.output().map_err(|error| cannot_start(&error))?;
            return Ok(Done { code: output.status.code(), out: output.stdout, err: lossy(&output.stderr) });
        };
        let mut child = self.command.stdin(Stdio::piped()).spawn().map_err(|error| cannot_start(&error))?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A git that ends early closes its end; its exit code tells why.
                let _ = stdin.map(|mut stdin| stdin.write_all(&input));
            });
            child.wait_with_output()
        });
        let output = output.map_err(|error| cannot_start(&error))?;
        Ok(Done { code: output.status.code(), out: output.stdout, err: lossy(&output.stderr) })
    }

    /// Runs it and returns its output; anything but exit code 0 is a fault.
    pub fn run(self) -> Result<Vec<u8>, Fault> {
        let name = self.name.clone();
        let done = self.finish()?;
        match done.code {
            Some(0) => Ok(done.out),
            _ => Err(done.fault(&name)),
        }
    }

    /// As [`Self::run`], for output that is one line of text.
    pub fn text(self) -> Result<String, Fault> {
        Ok(lossy(&self.run()?))
    }

    /// As [`Self::text`], for a call that prints an object name.
    pub fn object(self) -> Result<CommitId, Fault> {
        let name = self.name.clone();
        let text = self.text()?;
        CommitId::parse(&text).ok_or_else(|| Fault::bug(format!("git {name} printed `{text}`, not an object name")))
    }

    /// Runs it with its output as the input of `next`, which must print nothing.
    pub fn pipe_into(mut self, next: Self) -> Result<(), Fault> {
        let input = self.input.take().unwrap_or_default();
        let mut first = self.command.stdin(Stdio::piped()).spawn().map_err(|error| cannot_start(&error))?;
        let (stdin, stdout) = (first.stdin.take(), first.stdout.take());
        let mut command = next.command;
        // Where the second cannot start, the first ends by its closed output.
        let second = command.stdin(stdout.map_or(Stdio::null(), Stdio::from)).spawn();
        drop(command);
        let (first, second) = std::thread::scope(|scope| {
            scope.spawn(move || {
                let _ = stdin.map(|mut stdin| stdin.write_all(&input));
            });
            let second = second.and_then(Child::wait_with_output);
            (first.wait_with_output(), second)
        });
        for (name, output) in [(&self.name, first), (&next.name, second)] {
            let output = output.map_err(|error| cannot_start(&error))?;
            if !output.status.success() {
                let done = Done { code: output.status.code(), out: Vec::new(), err: lossy(&output.stderr) };
                return Err(done.fault(name));
            }
        }
        Ok(())
    }

    /// Runs it and returns at most `max` bytes of its output; what comes after is not read.
    pub fn head(mut self, max: usize) -> Result<Vec<u8>, Fault> {
        let mut child = self.command.spawn().map_err(|error| cannot_start(&error))?;
        let mut out = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(max as u64).read_to_end(&mut out).map_err(|error| cannot_start(&error))?;
        }
        if out.len() == max {
            // It may be blocked on the rest of its output.
            let _ = child.kill();
            child.wait().map_err(|error| cannot_start(&error))?;
            return Ok(out);
        }
        let output = child.wait_with_output().map_err(|error| cannot_start(&error))?;
        match output.status.code() {
            Some(0) => Ok(out),
            code => Err(Done { code, out: Vec::new(), err: lossy(&output.stderr) }.fault(&self.name)),
        }
    }
}

impl Done {
    /// The fault that this end means, by what git says on standard error.
    pub fn fault(&self, name: &str) -> Fault {
        let what = match (self.code, self.err.is_empty()) {
            (None, _) => return Fault::transient(format!("git {name} was killed by a signal")),
            (Some(code), true) => format!("git {name} ended with {code}"),
            (Some(_), false) => format!("git {name}: {}", self.err.replace('\n', "; ")),
        };
        let says = |words: &str| self.err.contains(words);
        if says("No space left") || says("Out of diskspace") || says("quota exceeded") {
            // What git says after that is about itself.
            let first = self.err.lines().next().unwrap_or_default();
            Fault::environment(format!("git {name}: {first}")).hint("free some disk space, then try again")
        } else if says("Read-only file system") || says("ermission denied") || says("insufficient permission") {
            Fault::environment(what).hint("make the directory writable for the user that runs Overnight")
        } else if says("annot allocate memory") || says("unable to create thread") || says("Too many open files") {
            Fault::transient(what)
        } else if says("bad object")
            || says("not a tree object")
            || says("not a valid object name")
            || says("Not a valid object name")
        {
            Fault::not_found(what)
        } else {
            Fault::bug(what)
        }
    }
}

/// An author or committer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub name: String,
    pub email: String,
}

impl Identity {
    /// Overnight's own.
    pub fn overnight() -> Self {
        Self { name: "Overnight".to_owned(), email: "overnight@localhost".to_owned() }
    }
}

/// The branch that carries a task's result, without `refs/heads/`.
pub(crate) fn branch_of(task: TaskId) -> String {
    format!("overnight/{task}")
}

/// The pieces of `-z` output.
pub(crate) fn pieces(out: &[u8]) -> impl Iterator<Item = &[u8]> {
    out.split(|byte| *byte == 0).filter(|piece| !piece.is_empty())
}

/// A path for git's lists of object directories, quoted where it needs to be.
pub(crate) fn quote(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    if !bytes.iter().any(|byte| b":\"\\\n#".contains(byte)) {
        return bytes.to_vec();
    }
    let mut quoted = vec![b'"'];
    for byte in bytes {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            b'\n' => quoted.extend(b"\\n"),
            _ => quoted.push(*byte),
        }
    }
    quoted.push(b'"');
    quoted
}

/// Copies an index with its time: git tells by it which files may have changed since, unseen, in the second it was written.
pub(crate) fn copy_index(from: &Path, to: &Path) -> Result<(), Fault> {
    let copy = || -> io::Result<()> {
        let written = fs::metadata(from)?.modified()?;
        fs::copy(from, to)?;
        fs::File::options().write(true).open(to)?.set_modified(written)
    };
    copy().map_err(|error| io_fault("copy", from, &error))
}

/// The fault of a file operation: what was tried, where, and what to do where that is known.
pub(crate) fn io_fault(tried: &str, path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::environment(format!("cannot {tried} {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => fault.hint("free some disk space, then try again"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            fault.hint("make it accessible for the user that runs Overnight")
        }
        _ => fault,
    }
}

fn cannot_start(error: &io::Error) -> Fault {
    Fault::environment(format!("cannot run git: {error}"))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

fn version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.strip_prefix("git version ")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_vendors_are_read() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("hub version 1"), None);
    }

    #[test]
    fn paths_that_a_list_would_split_are_quoted() {
        assert_eq!(quote(Path::new("/a b/c")), b"/a b/c");
        assert_eq!(quote(Path::new("/a:b\"c\nd")), b"\"/a:b\\\"c\\nd\"");
    }
}
