//! Reading: a few read-only connections, used on blocking threads, beside the writer and never in its way.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use domain::{Fault, ports::BoxFuture};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use crate::error::Error;

/// Reads at one time. Each connection keeps up to half a megabyte of pages.
const CONNECTIONS: usize = 4;

#[derive(Clone)]
pub(crate) struct Readers {
    file: Arc<Path>,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub fn new(file: PathBuf) -> Self {
        Self { file: file.into(), turns: Arc::new(Semaphore::new(CONNECTIONS)), idle: Arc::default() }
    }

    /// Runs `work` on one consistent state of the database: all that was durable when it begins.
    pub fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Fault>> {
        let readers = self.clone();
        Box::pin(async move {
            let turn = Arc::clone(&readers.turns).acquire_owned().await;
            blocking(move || {
                let _turn = turn;
                readers.with_connection(work).map_err(|error| error.into_fault(&readers.file))
            })
            .await
        })
    }

    fn with_connection<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect(&self.file)?,
        };
        let tx = connection.transaction()?;
        let read = work(&tx)?;
        tx.commit()?;
        // One that failed is not kept: the next read starts with a fresh one.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(read)
    }
}

fn connect(file: &Path) -> Result<Connection, Error> {
    let connection =
        Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(crate::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Fault::bug(format!("a blocking call of the store did not finish: {error}"))),
    }
}
