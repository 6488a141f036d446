//! What can go wrong inside the room, and how it is told outside: as a [`Fault`] that names the file and what to do.

use std::{io, path::Path};

use domain::Fault;
use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// One row's content is damaged; the others are not touched by it.
    #[error("{row} cannot be read: {why}")]
    Unreadable { row: String, why: String },
    /// SQLite gave up the whole transaction because one of its writes failed.
    #[error("a failed write undid the ones it shared a transaction with")]
    Undone,
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl Error {
    pub fn unreadable(row: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Unreadable { row: row.into(), why: why.to_string() }
    }

    /// Whether a whole transaction came to nothing because of one write in it, or of its size: smaller ones may go through.
    pub fn may_fit_alone(&self) -> bool {
        match self {
            Self::Undone => true,
            Self::Sql(error) => error.sqlite_error_code() == Some(ErrorCode::DiskFull),
            Self::Unreadable { .. } | Self::Fault(_) => false,
        }
    }

    /// Told for the database at `file`.
    pub fn into_fault(self, file: &Path) -> Fault {
        match self {
            Self::Fault(fault) => fault,
            Self::Unreadable { row, why } => {
                Fault::environment(format!("{row} in {} cannot be read: {why}", file.display()))
                    .hint("only this row is damaged and everything else goes on; a backup of the file has it whole")
            }
            Self::Undone => Fault::environment(format!("{}: {self}", file.display()))
                .hint("free some disk space, or see the system's log; then try again"),
            Self::Sql(error) => sql(&error, file),
        }
    }
}

fn sql(error: &rusqlite::Error, file: &Path) -> Fault {
    let told = format!("{}: {error}", file.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Fault::environment(told).hint("free some disk space: what was acknowledged is safe, what was not is undone")
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Fault::environment(told)
            .hint("make the file and its directory writable for this user (owner, mode, read-only mount)"),
        Some(ErrorCode::SystemIoFailure) => {
            Fault::environment(told).hint("the disk failed to read or write: see the system's log")
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::environment(told).hint(
            "the file is damaged: stop the daemon, keep a copy, and restore a backup or what `sqlite3 FILE .recover` saves",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Fault::transient(told).hint("another process holds the database: close it")
        }
        Some(ErrorCode::OutOfMemory) => Fault::environment(told).hint("the machine has no memory left"),
        Some(_) | None => Fault::bug(told),
    }
}

/// A file operation failed. `doing` reads before the path: `write`, `read`.
pub(crate) fn file(doing: &str, path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::environment(format!("cannot {doing} {}: {error}", path.display()));
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => fault.hint("free some disk space"),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            fault.hint("make the home directory writable for this user (owner, mode, read-only mount)")
        }
        _ => fault,
    }
}
