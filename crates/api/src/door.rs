//! The unix socket: who is let in, and how serving ends.

use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use domain::Fault;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
};

/// How long open requests may go on after a stop was asked for.
const GRACE: Duration = Duration::from_secs(3);

/// Asks the server to stop; cheap to clone. The signal handler and `POST /shutdown` pull the same cord.
#[derive(Clone, Debug)]
pub struct Stop(Arc<watch::Sender<bool>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Stop {
    pub fn ask(&self) {
        self.0.send_replace(true);
    }

    /// Resolves once a stop was asked for.
    pub async fn asked(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.0.subscribe().wait_for(|asked| *asked).await;
    }

    pub(crate) async fn grace_over(&self) {
        self.asked().await;
        tokio::time::sleep(GRACE).await;
    }
}

/// Binds the socket, with mode 0600 from the first moment it can be seen, in place of one that an earlier daemon left behind. The
/// caller holds the home's lock: nobody else listens there.
///
/// Errors: `Environment` that names the path.
pub fn bind(path: &Path) -> Result<UnixListener, Fault> {
    let fault = |what: &str, error: &io::Error| {
        Fault::environment(format!("cannot {what} the socket {}: {error}", path.display()))
            .hint("the directory must be writable, and its path shorter than 100 bytes")
    };
    // Made aside and renamed: a client finds the old socket, or the new one ready.
    let mut aside = path.as_os_str().to_owned();
    aside.push("~");
    let aside = PathBuf::from(aside);
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault("clear the way for", &error)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&aside).map_err(|error| fault("bind", &error))?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))
        .map_err(|error| fault("protect", &error))?;
    std::fs::rename(&aside, path).map_err(|error| fault("place", &error))?;
    Ok(listener)
}

/// The other side of a connection, as the kernel tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// `None`: the kernel did not say.
    pub uid: Option<u32>,
}

/// The listener that asks the kernel who comes in.
#[derive(Debug)]
pub(crate) struct Door(pub UnixListener);

impl Listener for Door {
    type Io = UnixStream;
    type Addr = Peer;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        // The listener underneath waits and logs when the process is out of file descriptors.
        let (stream, _) = Listener::accept(&mut self.0).await;
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        (stream, Peer { uid })
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer { uid: Some(rustix::process::geteuid().as_raw()) })
    }
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        *stream.remote_addr()
    }
}

/// The people of this machine that are let in: the daemon's own user, and root.
#[derive(Debug)]
pub(crate) struct People {
    own: u32,
    own_name: String,
}

impl People {
    pub fn of_this_machine() -> Self {
        let own = rustix::process::geteuid().as_raw();
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        Self { own, own_name: name_in(&passwd, own).unwrap_or_else(|| format!("uid-{own}")) }
    }

    pub fn lets_in(&self, uid: Option<u32>) -> bool {
        uid.is_some_and(|uid| uid == self.own || uid == 0)
    }

    /// The name of one who was let in.
    pub fn name(&self, uid: Option<u32>) -> String {
        match uid {
            Some(0) if self.own != 0 => "root".to_owned(),
            Some(_) | None => self.own_name.clone(),
        }
    }
}

/// A user's name in the text of `/etc/passwd`. Users from elsewhere (LDAP) go by their number.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_passwd_and_strangers_stay_outside() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(name_in(passwd, 7), None);
        let people = People { own: 1000, own_name: "ada".to_owned() };
        assert!(people.lets_in(Some(1000)) && people.lets_in(Some(0)));
        assert!(!people.lets_in(Some(1001)) && !people.lets_in(None));
        assert_eq!((people.name(Some(1000)), people.name(Some(0))), ("ada".to_owned(), "root".to_owned()));
    }
}
