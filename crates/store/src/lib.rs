//! What must outlive the process, in one directory: the journal, outbox, timers, projections, ledger, transcripts and records in
//! SQLite (`overnight.db`), texts and files by content (`blobs/`), and the key that seals secrets (`secret.key`).
//!
//! [`Store`] implements every storing port of `domain`. Writes go through one thread (`writer.rs`); reads run beside it
//! (`readers.rs`). Opening takes a new epoch: whoever had the home open before can read on, but writes nothing more.
#![forbid(unsafe_code)]

mod bells;
mod blobs;
mod cache;
mod column;
mod error;
mod home;
mod journal;
mod ledger;
mod readers;
mod records;
mod secrets;
mod totals;
mod transcripts;
mod writer;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use domain::{Fault, ids::Epoch, ports::Clock};

pub use ledger::{Call, Settled};

use crate::{bells::Bells, blobs::Files, readers::Readers, records::Bases, secrets::Seal, writer::Writer};

/// How long a write or an opening waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a store is opened with.
#[derive(Clone)]
pub struct Options {
    /// `$OVERNIGHT_HOME`; made if absent, for this user only.
    pub home: PathBuf,
    /// Stamps model calls and transcript entries. Events carry their own time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("home", &self.home).finish_non_exhaustive()
    }
}

/// One home, open. Its reads need a tokio runtime. Dropping the last handle (transcripts hold one too) first writes what is queued.
pub struct Store {
    epoch: Epoch,
    next_task: AtomicU64,
    clock: Arc<dyn Clock>,
    /// Before the writer, so that its connection is the last to close: that one may tidy the write-ahead log away.
    readers: Readers,
    writer: Arc<Writer>,
    bells: Arc<Bells>,
    files: Arc<Files>,
    bases: Bases,
    seal: Arc<Seal>,
}

impl Store {
    /// Opens the home and takes a new epoch, durably. Blocks for some milliseconds.
    ///
    /// Errors: `Environment` when the home cannot be made, read or written, is damaged, or comes from a newer version (then
    /// nothing in it is changed); `Transient` when another process holds the database for longer than five seconds.
    pub fn open(options: Options) -> Result<Arc<Self>, Fault> {
        home::open(options).map(Arc::new)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}
