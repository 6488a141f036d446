//! The making of one sandbox's keepers: each is the first process of a container of its own.

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use domain::{
    Fault,
    ports::{BoxFuture, sandbox::SandboxSpec},
};
use rustix::{
    fs::{Mode, OFlags},
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
        sockopt::socket_peercred,
    },
};
use tokio::{io::Interest, time::timeout};

use super::{
    engine::{Engine, Given},
    program::Program,
};
use crate::{
    link::Link,
    lock,
    order::View,
    sandbox::{self, KILL_DEADLINE, no_process},
    sys, wire,
};

/// How long a container that runs may take to answer.
const ANSWER: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Nursery {
    pub engine: Arc<Engine>,
    pub program: Arc<Program>,
    pub state: PathBuf,
    pub view: View,
}

impl sandbox::Nursery for Nursery {
    fn keeper<'a>(self: Arc<Self>, spec: &'a SandboxSpec, told: &'a [u8]) -> BoxFuture<'a, Result<Link, Fault>> {
        Box::pin(async move {
            let path = spec.lock.clone();
            let lock = tokio::task::spawn_blocking(move || lock::own(&path, KILL_DEADLINE));
            let lock = lock.await.map_err(|error| Fault::bug(error.to_string()))??;
            // Its own, as the containers of two keepers may overlap for a moment.
            let door = Door::open(spec.scratch.join("keeper")).map_err(|error| no_process(&error))?;
            let given = Given { view: &self.view, program: &self.program, socket: &door.path, state: &self.state };
            let container = self.engine.start(spec, given).await?;
            let refused = |why: &str| {
                Fault::environment(format!("the sandbox's container did not answer: {why}"))
                    .hint("the engine must run on this machine, not in a virtual one; see what it says of the image")
            };
            let keeper = tokio::select! {
                answered = timeout(ANSWER, door.take()) => match answered {
                    Ok(taken) => taken.map_err(|error| no_process(&error))?,
                    Err(_) => return Err(refused(&format!("nothing came for {ANSWER:?}"))),
                },
                how = self.engine.ended(&container) => return Err(refused(&how)),
            };
            drop(door);
            instruct(&keeper, &lock, told).map_err(|error| no_process(&error))?;
            Link::new(keeper).map_err(|error| no_process(&error))
        })
    }
}

fn instruct(keeper: &OwnedFd, lock: &OwnedFd, told: &[u8]) -> io::Result<()> {
    // Its number here, which it cannot know itself. An engine elsewhere has none that means something here.
    if let Ok(peer) = socket_peercred(keeper) {
        lock::write_holder(lock, &peer.pid.to_string())?;
    }
    let told = wire::memory_file(told)?;
    wire::send(keeper, &[0], &[lock.as_fd(), told.as_fd()], SendFlags::empty())
}

/// A socket that one keeper comes to. It is gone when this is dropped: no command can come by it.
#[derive(Debug)]
struct Door {
    path: PathBuf,
    socket: tokio::io::unix::AsyncFd<OwnedFd>,
}

impl Door {
    fn open(path: PathBuf) -> io::Result<Self> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        // By a descriptor of its directory: the address of a socket has room for about a hundred bytes.
        let directory = path.parent().unwrap_or(Path::new("/"));
        let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = Path::new(path.file_name().unwrap_or_default());
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        bind(&socket, &SocketAddrUnix::new(short)?)?;
        listen(&socket, 1)?;
        Ok(Self { path, socket: sys::watch(socket, Interest::READABLE)? })
    }

    async fn take(&self) -> io::Result<OwnedFd> {
        let accept = |socket: &OwnedFd| Ok(accept_with(socket, SocketFlags::CLOEXEC)?);
        self.socket.async_io(Interest::READABLE, accept).await
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // What is left behind leads nowhere, and goes with the directory.
        drop(fs::remove_file(&self.path));
    }
}
