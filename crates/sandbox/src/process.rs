//! A command as the daemon sees it: a task that reads its output and its init's reports, and the handle on it.

use std::{
    cell::RefCell,
    io, mem,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::ports::{
    BoxFuture,
    sandbox::{self, Exit, Output},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    capture::{Capture, Spill},
    link::Link,
    sys,
    wire::Report,
};

/// The most that a pipe holds and one read takes.
const CHUNK: usize = 64 << 10;

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Its first process ended; daemons of it may live on.
    Ended(Exit),
    /// Nothing of it lives.
    Gone(Exit),
}

/// The handle. Dropping it closes `kill`, which kills the tree.
#[derive(Debug)]
pub struct Process {
    captured: Arc<Mutex<Capture>>,
    state: watch::Receiver<State>,
    kill: Option<oneshot::Sender<()>>,
}

/// Where and how much of the output is kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub spill: PathBuf,
    pub limit: u64,
}

impl Process {
    /// Attends to a command that its init has started (`started`), or could not find.
    pub fn attend(
        init: Link,
        output: OwnedFd,
        keeping: Keeping,
        deadline: Instant,
        started: Option<Exit>,
    ) -> io::Result<Self> {
        let captured = Arc::<Mutex<Capture>>::default();
        let (state, watching) = watch::channel(started.map_or(State::Running, State::Gone));
        if started.is_some() {
            return Ok(Self { captured, state: watching, kill: None });
        }
        rustix::io::ioctl_fionbio(&output, true)?;
        let pipe = sys::watch(output, Interest::READABLE)?;
        let (kill, killed) = oneshot::channel();
        let reader = Reader { pipe, captured: captured.clone(), keeping, spill: Spilling::NotNeeded };
        tokio::spawn(attend(init, reader, state, Kill { killed, deadline }));
        Ok(Self { captured, state: watching, kill: Some(kill) })
    }
}

impl sandbox::Process for Process {
    fn wait(&mut self, patience: Duration) -> BoxFuture<'_, Option<Exit>> {
        Box::pin(async move {
            let ended = self.state.wait_for(|state| *state != State::Running);
            let state = timeout(patience, ended).await.ok()?;
            match state.map(|state| *state) {
                Ok(State::Ended(exit) | State::Gone(exit)) => Some(exit),
                Ok(State::Running) => None,
                // The runtime is shutting down and has dropped the attendant, and with it the tree.
                Err(_) => Some(Exit::Signal(libc::SIGKILL)),
            }
        })
    }

    fn output(&self) -> Output {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).output()
    }

    fn kill(&mut self) -> BoxFuture<'_, ()> {
        self.kill = None;
        Box::pin(async move {
            // An attendant that is gone has let go of the tree.
            drop(self.state.wait_for(|state| matches!(state, State::Gone(_))).await);
        })
    }
}

/// What ends a command from outside.
struct Kill {
    killed: oneshot::Receiver<()>,
    deadline: Instant,
}

/// Reads a command's output and its init's reports until nothing of it lives.
async fn attend(init: Link, mut reader: Reader, state: watch::Sender<State>, kill: Kill) {
    let Kill { mut killed, deadline } = kill;
    // What the end is if the init goes before it could report one.
    let mut cause = Exit::Signal(libc::SIGKILL);
    let mut let_go = false;
    let mut open = true;
    let expired = sleep_until(deadline);
    tokio::pin!(expired);
    loop {
        let report = tokio::select! {
            _ = &mut killed, if !let_go => {
                let_go = true;
                init.let_go();
                continue;
            }
            () = &mut expired, if !let_go => {
                cause = Exit::TimedOut;
                let_go = true;
                init.let_go();
                continue;
            }
            chunk = reader.chunk(), if open => {
                open = reader.keep(chunk).await > 0;
                continue;
            }
            report = init.report() => report,
        };
        let exit = match report {
            Some(Report::Exited(code)) => Exit::Code(code),
            Some(Report::Signaled(signal)) => Exit::Signal(signal),
            Some(_) => continue,
            None => break,
        };
        // Once the tree is let go of, how its first process died says only that it was killed.
        if !let_go {
            reader.drain().await;
            state.send_replace(State::Ended(exit));
        }
    }
    reader.drain().await;
    let exit = match *state.borrow() {
        State::Ended(exit) | State::Gone(exit) => exit,
        State::Running => cause,
    };
    state.send_replace(State::Gone(exit));
}

/// The reading side of a command's output.
struct Reader {
    pipe: AsyncFd<OwnedFd>,
    captured: Arc<Mutex<Capture>>,
    keeping: Keeping,
    spill: Spilling,
}

enum Spilling {
    /// All that was printed is in memory.
    NotNeeded,
    Writing(Spill),
    /// The file is full, or could not be written.
    Closed,
}

/// What one read of the pipe gave.
enum Chunk {
    /// So many bytes, kept already.
    Kept(usize),
    /// Bytes that go to the file first.
    ToSpill(Vec<u8>),
    End,
}

thread_local! {
    /// One buffer for all commands of a thread: a thousand that wait for output cost none.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into());
}

impl Reader {
    /// Waits for output and reads once. Loses nothing when canceled.
    async fn chunk(&self) -> Chunk {
        self.pipe.async_io(Interest::READABLE, |pipe| self.read(pipe, CHUNK)).await.unwrap_or(Chunk::End)
    }

    fn read(&self, pipe: &OwnedFd, most: usize) -> io::Result<Chunk> {
        SCRATCH.with_borrow_mut(|scratch| {
            let length = rustix::io::read(pipe, &mut scratch[..most])?;
            let bytes = &scratch[..length];
            if length == 0 {
                return Ok(Chunk::End);
            }
            let mut captured = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
            let to_spill = match self.spill {
                Spilling::NotNeeded => captured.would_overflow(length),
                Spilling::Writing(_) => true,
                Spilling::Closed => false,
            };
            if to_spill {
                return Ok(Chunk::ToSpill(bytes.to_vec()));
            }
            captured.push(bytes);
            Ok(Chunk::Kept(length))
        })
    }

    /// The length of the chunk; 0 at the end.
    async fn keep(&mut self, chunk: Chunk) -> usize {
        match chunk {
            Chunk::End => 0,
            Chunk::Kept(length) => length,
            Chunk::ToSpill(bytes) => {
                let length = bytes.len();
                self.spill(bytes).await;
                length
            }
        }
    }

    /// Reads what is in the pipe now, and no more: daemons may go on printing.
    async fn drain(&mut self) {
        let mut left = rustix::io::ioctl_fionread(self.pipe.get_ref()).map_or(0, |left| left as usize);
        while left > 0 {
            let chunk = self.read(self.pipe.get_ref(), left.min(CHUNK)).unwrap_or(Chunk::End);
            match self.keep(chunk).await {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
    }

    /// Writes to the file, then shows what was written: whoever sees that the output is too long sees its file too.
    async fn spill(&mut self, bytes: Vec<u8>) {
        let bytes = Arc::<[u8]>::from(bytes);
        let writing = {
            let spill = match mem::replace(&mut self.spill, Spilling::Closed) {
                Spilling::Writing(spill) => Some(spill),
                Spilling::NotNeeded | Spilling::Closed => None,
            };
            let keeping = self.keeping.clone();
            let earlier = if spill.is_none() { self.captured().everything() } else { Vec::new() };
            let bytes = bytes.clone();
            move || write(spill, &keeping, [&earlier, &bytes])
        };
        let written = tokio::task::spawn_blocking(writing).await.map_err(io::Error::other).flatten();
        let file = match &written {
            Ok(spill) => Some(spill.path().to_owned()),
            Err(error) => {
                let directory = self.keeping.spill.display();
                tracing::warn!(%error, %directory, "a command's full output cannot be kept; its two ends are");
                None
            }
        };
        self.spill = match written {
            Ok(spill) if !spill.is_full() => Spilling::Writing(spill),
            Ok(_) | Err(_) => Spilling::Closed,
        };
        let mut captured = self.captured();
        captured.push(&bytes);
        captured.set_file(file);
    }

    fn captured(&self) -> MutexGuard<'_, Capture> {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes to the file, making it first where there is none. One that cannot be written is removed.
fn write(spill: Option<Spill>, keeping: &Keeping, parts: [&[u8]; 2]) -> io::Result<Spill> {
    let mut spill = match spill {
        Some(spill) => spill,
        None => Spill::create(&keeping.spill, keeping.limit)?,
    };
    for bytes in parts {
        if let Err(error) = spill.write(bytes) {
            spill.remove();
            return Err(error);
        }
    }
    Ok(spill)
}
