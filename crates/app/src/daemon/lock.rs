//! One daemon per home: a file that it holds locked for as long as it lives, and that says who it is.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    time::{Duration, Instant},
};

use domain::Fault;
use rustix::fs::{FlockOperation, flock};

use crate::home::Home;

/// Stands behind the process id once a daemon was asked to end.
const STOPPING: &str = "stopping";

/// Held for the life of a daemon.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Takes the lock, waiting up to `patience` for a daemon that is on its way out.
    ///
    /// Errors: `Conflict` that names the process that holds it.
    pub fn take(home: &Home, patience: Duration) -> Result<Self, Fault> {
        let path = home.lock_file();
        let unusable = |error: io::Error| Fault::environment(format!("{} cannot be written: {error}", path.display()));
        let file = open(home).map_err(unusable)?;
        let deadline = Instant::now() + patience;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(unusable(error.into()));
            }
            if Instant::now() >= deadline {
                let who = holder(home).map_or_else(String::new, |pid| format!(" (process {pid})"));
                return Err(Fault::conflict(format!("a daemon{who} runs on {} already", home.path().display()))
                    .hint("use that one, or `overnight daemon stop` first"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let lock = Self(file);
        lock.say(&std::process::id().to_string()).map_err(unusable)?;
        Ok(lock)
    }

    /// Marks that this daemon ends as it was asked to. The mark outlives it.
    pub fn mark_stopping(&self) -> io::Result<()> {
        self.say(&format!("{} {STOPPING}", std::process::id()))
    }

    fn say(&self, text: &str) -> io::Result<()> {
        let mut file = &self.0;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())
    }
}

fn open(home: &Home) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(home.lock_file())
}

fn content(home: &Home) -> Option<String> {
    let mut text = String::new();
    File::open(home.lock_file()).and_then(|mut file| file.read_to_string(&mut text)).ok()?;
    Some(text)
}

/// The process id of the daemon that runs on this home.
pub fn holder(home: &Home) -> Option<u32> {
    let file = File::open(home.lock_file()).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        // Nobody holds it: a name in it is that of a daemon that died.
        Ok(()) => None,
        Err(_) => content(home)?.split_whitespace().next()?.parse().ok(),
    }
}

/// Whether the last daemon was asked to end, and none has started since.
pub fn was_stopped(home: &Home) -> bool {
    content(home).is_some_and(|text| text.ends_with(STOPPING))
}

/// Waits until no daemon runs on this home.
pub fn wait_until_free(home: &Home) -> io::Result<()> {
    flock(&open(home)?, FlockOperation::LockShared)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_holds_a_home_and_says_how_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        assert_eq!(holder(&home), None);
        assert!(!was_stopped(&home));

        let lock = Lock::take(&home, Duration::ZERO).unwrap();
        assert_eq!(holder(&home), Some(std::process::id()));
        let fault = Lock::take(&home, Duration::ZERO).unwrap_err();
        assert!(fault.what.contains(&format!("process {}", std::process::id())), "{fault}");

        drop(lock);
        assert_eq!(holder(&home), None);
        assert!(!was_stopped(&home), "it died");

        let lock = Lock::take(&home, Duration::ZERO).unwrap();
        lock.mark_stopping().unwrap();
        assert_eq!(holder(&home), Some(std::process::id()));
        drop(lock);
        assert!(was_stopped(&home));
        wait_until_free(&home).unwrap();
    }
}
