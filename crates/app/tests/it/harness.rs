//! A home, a repository and the program, as a person at a terminal has them.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// How one run of the program ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Standard output, when all went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The one JSON value on standard output.
    #[track_caller]
    pub fn json(self) -> Value {
        let stdout = self.ok();
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Standard error, when the program refused with exit code 1 and said what and what to do.
    #[track_caller]
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert!(self.stderr.contains("error: "), "{self:?}");
        self.stderr
    }
}

/// A home, a repository on branch `main` with one commit, and a directory around both that goes at the end.
pub struct Place {
    pub directory: TempDir,
    pub home: PathBuf,
    pub repository: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("on-").tempdir().unwrap();
        let (home, repository) = (directory.path().join("home"), directory.path().join("repository"));
        fs::create_dir_all(directory.path().join("user")).unwrap();
        fs::create_dir(&repository).unwrap();
        let place = Self { directory, home, repository };
        place.git(&["init", "-q", "-b", "main"]);
        place.write("file.txt", "one\n");
        place.commit("First");
        place
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.repository.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes the home's config.toml, for the next daemon.
    pub fn configure(&self, text: &str) {
        fs::create_dir_all(&self.home).unwrap();
        fs::set_permissions(&self.home, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(self.home.join("config.toml"), text).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.repository.join(path)).unwrap()
    }

    pub fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "-m", message]);
    }

    /// Runs git in the repository as its owner; returns standard output without its last line break.
    #[track_caller]
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.repository, arguments)
    }

    #[track_caller]
    pub fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Ada", "-c", "user.email=ada@localhost", "-C"]).arg(directory).args(arguments);
        git.env_clear().env("PATH", path()).env("HOME", self.directory.path().join("user")).stdin(Stdio::null());
        let output = git.output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The program with these arguments, in the repository.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_overnight"));
        command.args(arguments);
        command
    }

    /// Another program, as the same person would start it.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.repository).env_clear();
        command.env("PATH", path()).env("HOME", self.directory.path().join("user")).env("OVERNIGHT_HOME", &self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn on(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).spawn().unwrap())
    }

    /// The same in another directory.
    pub fn on_in(&self, directory: &Path, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).current_dir(directory).spawn().unwrap())
    }

    pub fn on_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        ran(child)
    }

    /// Hands over a task to a shell line as its agent, waits, and returns its id.
    #[track_caller]
    pub fn run_shell(&self, line: &str, more: &[&str]) -> String {
        let mut arguments = vec!["run", "Change the file", "--json", "--wait", "--agent", "command"];
        arguments.extend(more);
        arguments.extend(["--", "sh", "-c", line]);
        let ran = self.on(&arguments);
        let task: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
        task["id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn show(&self, id: &str) -> Value {
        self.on(&["show", id, "--json"]).json()
    }

    /// The process id of the daemon that runs here.
    pub fn daemon(&self) -> Option<u32> {
        let ran = self.on(&["daemon", "status", "--json"]);
        let status: Value = serde_json::from_str(&ran.stdout).ok()?;
        status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    }

    /// Everything in the repository's own git directory that names a task.
    pub fn traces(&self) -> String {
        let refs = self.git(&["for-each-ref", "--format=%(refname)"]);
        let traces = refs.lines().filter(|name| name.contains("overnight"));
        traces.chain(self.git(&["worktree", "list"]).lines().skip(1)).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.command(&["daemon", "stop"]).output();
    }
}

fn path() -> String {
    // The system's own programs only: what tests find must not depend on who runs them.
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
}

fn ran(child: Child) -> Ran {
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Reads lines of a child's standard output until one contains `needle`; returns it.
#[track_caller]
pub fn read_until(out: &mut impl BufRead, needle: &str) -> String {
    let mut seen = String::new();
    loop {
        let mut line = String::new();
        assert!(out.read_line(&mut line).unwrap() > 0, "`{needle}` never came:\n{seen}");
        if line.contains(needle) {
            return line;
        }
        seen.push_str(&line);
    }
}

/// Starts a program whose lines are read as they come.
pub fn spawn(command: &mut Command) -> (Child, BufReader<ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
