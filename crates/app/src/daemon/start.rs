//! Starts a daemon in the background and waits until it is ready.

use std::{
    env,
    fs::OpenOptions,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    process::{Command, Stdio},
    time::Duration,
};

use domain::Fault;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
};

use crate::home::{Home, VARIABLE};

/// How long a daemon may take until it is ready. Recovery after a crash and a migration happen before.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a daemon that is ready says.
pub const READY: &str = "ready";

/// What a background daemon takes over from the environment of whoever happens to start it: where programs and toolchains
/// are, the language, the way out. Never a key: those come with each task.
const KEPT: [&str; 22] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "OVERNIGHT_LOG",
    "XDG_DATA_HOME",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
    "CARGO_HOME",
    "RUSTUP_HOME",
];

/// Makes sure that a daemon listens on this home. Clients that come together start one.
///
/// Errors: what the daemon says of itself when it cannot start, else the end of its log.
pub fn start(home: &Home) -> Result<(), Fault> {
    home.make()?;
    let path = home.start_lock_file();
    let unusable = |error: std::io::Error| {
        Fault::environment(format!("{} cannot be written: {error}", path.display()))
            .hint("make the home writable, or set OVERNIGHT_HOME to another directory; nothing is lost meanwhile")
    };
    let turn = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(unusable)?;
    flock(&turn, FlockOperation::LockExclusive).map_err(|error| unusable(error.into()))?;
    if UnixStream::connect(home.socket()).is_ok() {
        return Ok(());
    }
    let failed = |what: String| {
        let tail = home.log_tail();
        let tail = if tail.is_empty() { tail } else { format!("; the end of its log:\n{tail}") };
        Fault::environment(format!("the daemon {what}{tail}"))
            .hint(format!("the whole log is {}", home.log_file().display()))
    };

    let program = env::current_exe().map_err(|error| failed(format!("cannot be found: {error}")))?;
    let mut command = Command::new(program);
    command.args(["serve", "--background"]).env_clear().env(VARIABLE, home.path());
    command.envs(KEPT.iter().filter_map(|name| Some((name, env::var_os(name)?))));
    command.envs(env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LC_")));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(home.open_log()?);
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    let Some(said) = child.stdout.take() else { return Err(failed("has no voice".to_owned())) };

    let deadline = Timespec::try_from(PATIENCE).map_err(|_| Fault::bug("the deadline is no time"))?;
    let ready = poll(&mut [PollFd::new(&said, PollFlags::IN)], Some(&deadline));
    if !matches!(ready, Ok(1..)) {
        return Err(failed(format!("(process {}) is not ready after {} s", child.id(), PATIENCE.as_secs())));
    }
    let mut line = String::new();
    let read = BufReader::new(said.take(64 << 10)).read_line(&mut line);
    match line.trim() {
        READY => Ok(()),
        // It says itself what is wrong.
        line if !line.is_empty() => {
            Err(serde_json::from_str(line).unwrap_or_else(|_| failed(format!("says `{line}`"))))
        }
        _ => {
            let end = child.wait().map_or_else(|error| error.to_string(), |end| end.to_string());
            Err(failed(format!(
                "ended before it was ready ({end}{})",
                read.err().map_or_else(String::new, |e| format!(", {e}"))
            )))
        }
    }
}
