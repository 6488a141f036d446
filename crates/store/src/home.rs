//! Opening a home: the directory, the database and its migrations, a new epoch, the sealing key.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use domain::{Fault, ids::Epoch};
use rusqlite::{Connection, TransactionBehavior};

use crate::{
    Options, Store, bells::Bells, blobs::Files, column::number, error, error::Error, readers::Readers, secrets::Seal,
    writer::Writer,
};

/// Each brings a database from the version of its index to the next. Never edited once released, only added to.
const MIGRATIONS: [&str; 2] = [include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")];

/// Version of the database that this program reads and writes.
const VERSION: i64 = MIGRATIONS.len() as i64;

/// Pages of 4 KiB the write-ahead log holds before they are moved into the database file: fewer, larger flushes than the default.
const CHECKPOINT_PAGES: i64 = 4096;

pub(crate) fn open(options: Options) -> Result<Store, Fault> {
    let Options { home, clock } = options;
    DirBuilder::new().recursive(true).mode(0o700).create(&home).map_err(|e| error::file("make", &home, &e))?;
    let file = home.join("overnight.db");
    // One opener at a time, until the end of this function: SQLite does not wait for a rival while a file becomes a WAL database.
    let _opening = lock(&home.join("opening.lock"))?;
    // Made here, because SQLite would make it readable for others; its companions take its mode. One that is there is not
    // opened: closing it would drop the locks that SQLite holds on it in this process.
    match writable().create_new(true).open(&file) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error::file("write", &file, &error)),
        Ok(_) | Err(_) => {}
    }

    let (connection, opened) = database(&file, &home).map_err(|error| error.into_fault(&file))?;
    let bells = Arc::<Bells>::default();
    Ok(Store {
        epoch: opened.epoch,
        next_task: AtomicU64::new(opened.last_task + 1),
        clock,
        writer: Arc::new(Writer::start(connection, file.clone(), opened.epoch, Arc::clone(&bells))?),
        readers: Readers::new(file),
        bells,
        files: Arc::new(Files::open(&home, opened.epoch)?),
        bases: Default::default(),
        seal: Arc::new(opened.seal),
    })
}

fn writable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Waits for the lock. Dropping the file, or the end of the process, releases it.
fn lock(path: &Path) -> Result<File, Fault> {
    let file =
        writable().create(true).truncate(false).open(path).map_err(|error| error::file("write", path, &error))?;
    file.lock().map_err(|error| error::file("lock", path, &error))?;
    Ok(file)
}

struct Opened {
    epoch: Epoch,
    last_task: u64,
    seal: Seal,
}

fn database(file: &Path, home: &Path) -> Result<(Connection, Opened), Error> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(crate::BUSY_TIMEOUT)?;
    // Before anything that changes the file.
    refuse_newer(&connection, home)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Forgotten secrets are overwritten, not only unlinked.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", CHECKPOINT_PAGES * 4096)?;
    connection.set_prepared_statement_cache_capacity(64);

    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    migrate(&tx, home)?;
    let epoch = tx.query_row("UPDATE home SET epoch = epoch + 1 RETURNING epoch", [], |row| number(row, "epoch"))?;
    let last_task = tx.query_row("SELECT coalesce(max(id), 0) AS last FROM tasks", [], |row| number(row, "last"))?;
    // Keys of submissions that were never committed: their numbers will be given out again.
    tx.execute(
        "DELETE FROM secrets WHERE scope GLOB 'task/[0-9]*' AND CAST(substr(scope, 6) AS INTEGER) > ?1",
        [crate::column::int(last_task)],
    )?;
    let seal = Seal::open(home)?;
    tx.commit()?;
    Ok((connection, Opened { epoch: Epoch(epoch), last_task, seal }))
}

fn version(connection: &Connection) -> Result<i64, Error> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn refuse_newer(connection: &Connection, home: &Path) -> Result<(), Error> {
    let found = version(connection)?;
    if found <= VERSION {
        return Ok(());
    }
    let what = format!(
        "the home {} is of version {found}, from a newer Overnight; this one reads up to version {VERSION}",
        home.display()
    );
    let hint =
        "install the newer Overnight again, or choose another directory with OVERNIGHT_HOME; nothing was changed";
    Err(Fault::environment(what).hint(hint).into())
}

fn migrate(tx: &Connection, home: &Path) -> Result<(), Error> {
    // Again: a newer program may have been faster since.
    refuse_newer(tx, home)?;
    let found = usize::try_from(version(tx)?).unwrap_or_default();
    for migration in &MIGRATIONS[found..] {
        tx.execute_batch(migration)?;
    }
    if found < MIGRATIONS.len() {
        tx.pragma_update(None, "user_version", VERSION)?;
    }
    Ok(())
}
