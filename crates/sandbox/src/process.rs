//! A command as the daemon sees it: a task that reads its output and its init's reports, and the handle on it.

use std::{
    future::pending,
    io, mem,
    os::fd::OwnedFd,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    ports::{
        BoxFuture,
        sandbox::{self, Exit, Output},
    },
    redact::Redactor,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{oneshot, watch},
    time::{Instant, Sleep, sleep_until, timeout},
};

use crate::{
    capture::{Capture, Spill},
    groups::Memory,
    link::Link,
    quota::{Notice, Overrun},
    scratch::{self, CHUNK},
    sys,
    wire::Report,
};

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Its first process ended; daemons of it may live on.
    Ended(Exit),
    /// Nothing of it lives.
    Gone(Exit),
}

/// Where a command is to be ended, and what is told of its end.
#[derive(Debug)]
pub struct Terms {
    pub deadline: Instant,
    pub quota: Notice,
    pub memory: Option<Memory>,
}

/// The hold on a command that is attended to. Dropping it closes `kill`, which kills the tree.
#[derive(Debug)]
pub struct Hold {
    state: watch::Receiver<State>,
    kill: Option<oneshot::Sender<()>>,
}

impl Hold {
    /// On a command that never ran.
    pub fn on_nothing(exit: Exit) -> Self {
        Self { state: watch::channel(State::Gone(exit)).1, kill: None }
    }

    /// Has a command attended to whose output nobody here reads.
    pub fn attend(init: Link, terms: Terms) -> Self {
        Self::on(init, None, terms)
    }

    fn on(init: Link, reader: Option<Reader>, terms: Terms) -> Self {
        let (state, watching) = watch::channel(State::Running);
        let (kill, killed) = oneshot::channel();
        tokio::spawn(attend(init, reader, state, killed, terms));
        Self { state: watching, kill: Some(kill) }
    }

    pub fn life(&self) -> Life {
        Life(self.state.clone())
    }

    pub async fn end(&mut self) -> Exit {
        match self.state.wait_for(|state| *state != State::Running).await.map(|state| *state) {
            Ok(State::Ended(exit) | State::Gone(exit)) => exit,
            // The runtime is shutting down and has dropped the attendant, and with it the tree.
            Ok(State::Running) | Err(_) => Exit::Signal(libc::SIGKILL),
        }
    }

    pub async fn kill(&mut self) {
        self.kill = None;
        // An attendant that is gone has let go of the tree.
        drop(self.state.wait_for(|state| matches!(state, State::Gone(_))).await);
    }
}

/// Tells whether anything of a command still lives.
#[derive(Clone, Debug)]
pub struct Life(watch::Receiver<State>);

impl Life {
    pub fn is_over(&self) -> bool {
        // Without an attendant the state stays what it was, and nobody holds the tree.
        matches!(*self.0.borrow(), State::Gone(_)) || self.0.has_changed().is_err()
    }
}

/// A command whose output is kept.
#[derive(Debug)]
pub struct Process {
    captured: Arc<Mutex<Capture>>,
    hold: Hold,
}

/// Where, how much and without which words the output is kept.
#[derive(Clone, Debug)]
pub struct Keeping {
    pub spill: PathBuf,
    pub limit: u64,
    pub redactor: Arc<Redactor>,
}

impl Process {
    /// One that was not found.
    pub fn not_started() -> Self {
        Self { captured: Arc::default(), hold: Hold::on_nothing(Exit::NotStarted) }
    }

    /// Attends to a command that its init has started.
    pub fn attend(init: Link, output: OwnedFd, keeping: Keeping, terms: Terms) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&output, true)?;
        let pipe = sys::watch(output, Interest::READABLE)?;
        let captured = Arc::<Mutex<Capture>>::default();
        let sink = Sink { captured: captured.clone(), keeping, spill: Spilling::NotNeeded, held: Vec::new() };
        let reader = Reader { pipe, sink, closed: false };
        Ok(Self { captured, hold: Hold::on(init, Some(reader), terms) })
    }

    pub fn life(&self) -> Life {
        self.hold.life()
    }
}

impl sandbox::Process for Process {
    fn wait(&mut self, patience: Duration) -> BoxFuture<'_, Option<Exit>> {
        Box::pin(async move { timeout(patience, self.hold.end()).await.ok() })
    }

    fn output(&self) -> Output {
        self.captured.lock().unwrap_or_else(PoisonError::into_inner).output()
    }

    fn kill(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.hold.kill())
    }
}

/// Reads a command's output and its init's reports until nothing of it lives.
async fn attend(
    init: Link,
    mut reader: Option<Reader>,
    state: watch::Sender<State>,
    mut killed: oneshot::Receiver<()>,
    mut terms: Terms,
) {
    // What the end is if the init goes before it could report one.
    let mut cause = Exit::Signal(libc::SIGKILL);
    let mut let_go = false;
    let expired = sleep_until(terms.deadline);
    tokio::pin!(expired);
    loop {
        let report = tokio::select! {
            why = called_off(&mut killed, expired.as_mut(), &mut terms.quota), if !let_go => {
                cause = why;
                let_go = true;
                init.let_go();
                continue;
            }
            chunk = next(reader.as_mut()) => {
                if let Some(open) = &mut reader && open.sink.keep(chunk).await == 0 {
                    open.closed = true;
                }
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
            conclude(reader.as_mut(), terms.memory.as_ref().filter(|_| exit != Exit::Code(0))).await;
            state.send_replace(State::Ended(exit));
        }
    }
    let exit = match *state.borrow() {
        State::Ended(exit) | State::Gone(exit) => Some(exit),
        State::Running => None,
    };
    conclude(reader.as_mut(), terms.memory.as_ref().filter(|_| exit.is_none() && !let_go)).await;
    state.send_replace(State::Gone(exit.unwrap_or(cause)));
}

/// Resolves when a command must end, to how it then has ended.
async fn called_off(killed: &mut oneshot::Receiver<()>, expired: Pin<&mut Sleep>, quota: &mut Notice) -> Exit {
    tokio::select! {
        _ = killed => Exit::Signal(libc::SIGKILL),
        () = expired => Exit::TimedOut,
        Overrun { held, quota } = quota.over() => Exit::OverQuota { held, quota },
    }
}

/// Waits for output as long as there can be some.
async fn next(reader: Option<&mut Reader>) -> Chunk {
    match reader {
        Some(reader) if !reader.closed => reader.chunk().await,
        Some(_) | None => pending().await,
    }
}

/// Shows all that was printed, and what a command that failed could not print itself.
async fn conclude(reader: Option<&mut Reader>, memory: Option<&Memory>) {
    let Some(reader) = reader else { return };
    reader.drain().await;
    reader.sink.settle().await;
    if let Some(line) = memory.and_then(Memory::exhausted) {
        reader.sink.add(line.into_bytes()).await;
    }
}

/// The reading side of a command's output.
struct Reader {
    pipe: AsyncFd<OwnedFd>,
    sink: Sink,
    /// Nothing more can come.
    closed: bool,
}

/// What becomes of the output.
struct Sink {
    captured: Arc<Mutex<Capture>>,
    keeping: Keeping,
    spill: Spilling,
    /// Read, but not shown: it may be the beginning of a secret's value.
    held: Vec<u8>,
}

enum Spilling {
    /// All that was printed is in memory.
    NotNeeded,
    Writing(Spill),
    /// The file is full, or could not be written.
    Closed,
}

/// What one read of the pipe gave.
#[derive(Default)]
struct Chunk {
    /// In bytes; 0 at the end.
    length: usize,
    /// Of it, what goes to the file before it is shown. All else is shown already.
    to_spill: Option<Vec<u8>>,
}

impl Reader {
    /// Waits for output and reads once. Loses nothing when canceled.
    async fn chunk(&mut self) -> Chunk {
        let Self { pipe, sink, .. } = self;
        pipe.async_io(Interest::READABLE, |pipe| sink.read(pipe, CHUNK)).await.unwrap_or_default()
    }

    /// Reads what is in the pipe now, and no more: daemons may go on printing.
    async fn drain(&mut self) {
        let mut left = rustix::io::ioctl_fionread(self.pipe.get_ref()).map_or(0, |left| left as usize);
        while left > 0 {
            let chunk = self.sink.read(self.pipe.get_ref(), left.min(CHUNK)).unwrap_or_default();
            match self.sink.keep(chunk).await {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
    }
}

impl Sink {
    fn read(&mut self, pipe: &OwnedFd, most: usize) -> io::Result<Chunk> {
        scratch::read(pipe, most, |bytes| {
            let length = bytes.len();
            if self.keeping.redactor.is_empty() {
                return Chunk { length, to_spill: self.show(bytes) };
            }
            self.held.extend_from_slice(bytes);
            let settled = self.keeping.redactor.settled(&self.held);
            let rest = self.held.split_off(settled);
            let settled = mem::replace(&mut self.held, rest);
            Chunk { length, to_spill: self.show(&self.redacted(settled)) }
        })
    }

    /// Shows these bytes, or gives them back where they must go to the file first.
    fn show(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut captured = self.captured();
        let to_spill = match self.spill {
            Spilling::NotNeeded => captured.would_overflow(bytes.len()),
            Spilling::Writing(_) => true,
            Spilling::Closed => false,
        };
        if to_spill {
            return Some(bytes.to_vec());
        }
        captured.push(bytes);
        None
    }

    fn redacted(&self, bytes: Vec<u8>) -> Vec<u8> {
        self.keeping.redactor.redact(&bytes).unwrap_or(bytes)
    }

    /// The length of the chunk; 0 at the end.
    async fn keep(&mut self, chunk: Chunk) -> usize {
        if let Some(bytes) = chunk.to_spill {
            self.spill(bytes).await;
        }
        chunk.length
    }

    /// Shows what was held back: what is printed from now on does not belong to it.
    async fn settle(&mut self) {
        let held = mem::take(&mut self.held);
        if !held.is_empty() {
            self.add(self.redacted(held)).await;
        }
    }

    async fn add(&mut self, bytes: Vec<u8>) {
        if let Some(bytes) = self.show(&bytes) {
            self.spill(bytes).await;
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
