//! The home: the one directory that holds all of Overnight's state, and the places in it that this room uses.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Seek, SeekFrom},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use domain::Fault;
use sha2::{Digest, Sha256};

/// Names the directory in the environment.
pub const VARIABLE: &str = "OVERNIGHT_HOME";
/// The longest path of a socket: `sun_path` has 108 bytes, one for its closing zero, one for the name it is first made under.
const MAX_SOCKET_PATH: usize = 106;
/// A log above this is set aside when a daemon starts.
const MAX_LOG: u64 = 10 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// `$OVERNIGHT_HOME`, else `overnight` in the XDG data directory. Nothing is read or made.
    pub fn locate() -> Result<Self, Fault> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = set(VARIABLE)
            .or_else(|| set("XDG_DATA_HOME").filter(|path| path.is_absolute()).map(|path| path.join("overnight")))
            .or_else(|| set("HOME").map(|path| path.join(".local/share/overnight")))
            .ok_or_else(|| {
                Fault::environment(format!("neither {VARIABLE} nor HOME is set"))
                    .hint(format!("set {VARIABLE} to a directory"))
            })?;
        Self::at(&path)
    }

    pub fn at(path: &Path) -> Result<Self, Fault> {
        let path = std::path::absolute(path)
            .map_err(|error| Fault::environment(format!("{} cannot be made absolute: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the directory, for its owner only.
    ///
    /// Errors: `Environment` when it cannot be made or others can look into it (an empty one is closed to them instead).
    pub fn make(&self) -> Result<(), Fault> {
        let unusable = |error: io::Error| {
            Fault::environment(format!("the home {} cannot be used: {error}", self.0.display()))
                .hint(format!("mend it, or set {VARIABLE} to a directory of your own"))
        };
        if let Some(parent) = self.0.parent() {
            fs::create_dir_all(parent).map_err(unusable)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.0) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(error)),
        }
        let found = fs::metadata(&self.0).map_err(unusable)?;
        if !found.is_dir() {
            return Err(unusable(ErrorKind::NotADirectory.into()));
        }
        if found.mode() & 0o077 == 0 {
            return Ok(());
        }
        if fs::read_dir(&self.0).map_err(unusable)?.next().is_none() {
            return fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700)).map_err(unusable);
        }
        Err(Fault::environment(format!("other users can look into the home {}", self.0.display()))
            .hint(format!("`chmod 700 {}`, if it is Overnight's alone", self.0.display())))
    }

    /// Where the daemon listens. A home whose path is too long for a socket has it in the user's runtime directory, under a
    /// name made of the home's path; which directory that is depends on the machine only, never on the caller's environment.
    pub fn socket(&self) -> PathBuf {
        let socket = self.0.join("daemon.sock");
        if socket.as_os_str().len() <= MAX_SOCKET_PATH {
            return socket;
        }
        let hash = Sha256::digest(self.0.as_os_str().as_encoded_bytes());
        let name: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        short_directory().join(format!("overnight-{name}.sock"))
    }

    /// Makes the directory of the socket, for its owner only.
    pub fn make_socket_directory(&self) -> Result<(), Fault> {
        let socket = self.socket();
        let Some(directory) = socket.parent().filter(|directory| *directory != self.0) else { return Ok(()) };
        let unusable =
            |why: String| Fault::environment(format!("{} cannot hold the socket: {why}", directory.display()));
        match DirBuilder::new().mode(0o700).create(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(unusable(error.to_string())),
        }
        // In a directory that all may write to, another user may have been first.
        let found = fs::symlink_metadata(directory).map_err(|error| unusable(error.to_string()))?;
        let ours = found.is_dir() && found.uid() == rustix::process::getuid().as_raw() && found.mode() & 0o077 == 0;
        if ours { Ok(()) } else { Err(unusable("it is not a directory of yours alone".to_owned())) }
    }

    /// Held locked by the daemon; its content names the daemon.
    pub fn lock_file(&self) -> PathBuf {
        self.0.join("daemon.lock")
    }

    /// Held locked by a client while it starts a daemon.
    pub fn start_lock_file(&self) -> PathBuf {
        self.0.join("start.lock")
    }

    pub fn log_file(&self) -> PathBuf {
        self.0.join("daemon.log")
    }

    /// What its person last saw of each task.
    pub fn seen_directory(&self) -> PathBuf {
        self.0.join("seen")
    }

    /// Opens the daemon's log to append to; a long one is set aside as `daemon.log.1` first.
    pub fn open_log(&self) -> Result<File, Fault> {
        let path = self.log_file();
        let unusable = |error: io::Error| {
            Fault::environment(format!("{} cannot be written: {error}", path.display()))
                .hint("make room, or make the home writable; nothing is lost meanwhile")
        };
        if fs::metadata(&path).is_ok_and(|found| found.len() > MAX_LOG) {
            fs::rename(&path, self.0.join("daemon.log.1")).map_err(unusable)?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(unusable)
    }

    /// The last lines of the daemon's log, for error messages. Empty where there is none.
    pub fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(self.log_file())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
            let mut tail = Vec::new();
            file.take(4096).read_to_end(&mut tail)?;
            Ok(tail)
        };
        let tail = read().unwrap_or_default();
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

/// `/run/user/UID` where it is, else a directory of one's own in `/tmp`.
fn short_directory() -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    match fs::metadata(&runtime) {
        Ok(found) if found.is_dir() && found.uid() == uid => runtime,
        Ok(_) | Err(_) => PathBuf::from(format!("/tmp/overnight-{uid}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_home_is_made_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(&dir.path().join("a/b")).unwrap();
        home.make().unwrap();
        home.make().unwrap();
        assert_eq!(mode(home.path()), 0o700);
    }

    #[test]
    fn an_open_directory_is_closed_when_empty_and_refused_when_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let home = Home::at(dir.path()).unwrap();
        home.make().unwrap();
        assert_eq!(mode(home.path()), 0o700);

        fs::write(dir.path().join("file"), "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let fault = home.make().unwrap_err();
        assert!(fault.hint.unwrap().contains("chmod 700"));
    }

    #[test]
    fn a_long_home_has_its_socket_elsewhere_and_always_in_the_same_place() {
        let short = Home::at(Path::new("/tmp/x")).unwrap();
        assert_eq!(short.socket(), Path::new("/tmp/x/daemon.sock"));
        let long = Home::at(&Path::new("/tmp").join("d".repeat(120))).unwrap();
        assert_eq!(long.socket(), long.socket());
        assert!(long.socket().as_os_str().len() <= MAX_SOCKET_PATH);
    }
}
