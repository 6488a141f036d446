//! The one writer: a thread that puts every change in order. All that is queued when it comes round shares one durable
//! transaction (group commit), so a thousand tasks cost few more disk flushes than one.
//!
//! Each request runs inside a savepoint of its own: a refused one is undone without spoiling the others; where SQLite gives up
//! the whole transaction for one (a full disk), each is tried again alone. Nobody is answered before the transaction is on
//! disk. Every transaction first looks whether this process still owns the home.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use domain::{
    Fault,
    ids::{Epoch, TaskId},
    ports::BoxFuture,
};
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::oneshot;

use crate::{bells::Bells, column::int, error::Error};

/// Requests of one transaction. Bounds the time until the first of them is answered.
const BATCH: usize = 1024;

/// What a request sees of the transaction it is part of.
pub(crate) struct Scope<'a> {
    pub tx: &'a Connection,
    appended: &'a mut BTreeSet<TaskId>,
}

impl Scope<'_> {
    /// Rings for those who wait for this task's transcript, once the transaction is durable.
    pub fn appended(&mut self, task: TaskId) {
        self.appended.insert(task);
    }
}

/// Handle on the writer thread. Dropping it writes what is queued and waits for the thread to end.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    pub fn start(connection: Connection, file: PathBuf, epoch: Epoch, bells: Arc<Bells>) -> Result<Self, Fault> {
        let (queue, requests) = mpsc::channel();
        let desk = Desk { connection, file, epoch, bells };
        let thread = thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || desk.serve(&requests))
            .map_err(|error| Fault::environment(format!("cannot start the store's writer thread: {error}")))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues `work` now, in the order of calls; the future only waits until it is durable (or undone, on `Err`). Work whose
    /// future is dropped is done all the same. It may run twice, when the first transaction came to nothing.
    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnMut(&mut Scope<'_>) -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Fault>> {
        let (answer, answered) = oneshot::channel();
        if let Some(queue) = &self.queue {
            // A send fails when the thread is gone; the request is dropped with its `answer`, and that is what we tell below.
            let _ = queue.send(Box::new(Pending { work, outcome: None, answer }));
        }
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| Err(Fault::bug("the store's writer thread has ended before its time")))
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writer thread has panicked");
        }
    }
}

/// A queued change, whatever its type of answer.
trait Request: Send {
    /// Runs inside the savepoint. `Refused`: to be undone.
    fn run(&mut self, scope: &mut Scope<'_>) -> Ran;

    /// Tells the caller. `undone`: why the whole transaction came to nothing.
    fn answer(self: Box<Self>, undone: Option<&Fault>, file: &Path);
}

#[derive(PartialEq, Eq)]
enum Ran {
    Done,
    Refused,
}

struct Pending<T, W> {
    work: W,
    outcome: Option<Result<T, Error>>,
    answer: oneshot::Sender<Result<T, Fault>>,
}

impl<T: Send, W: FnMut(&mut Scope<'_>) -> Result<T, Error> + Send> Request for Pending<T, W> {
    fn run(&mut self, scope: &mut Scope<'_>) -> Ran {
        let outcome = (self.work)(scope);
        let ran = if outcome.is_ok() { Ran::Done } else { Ran::Refused };
        self.outcome = Some(outcome);
        ran
    }

    fn answer(self: Box<Self>, undone: Option<&Fault>, file: &Path) {
        let told = match (self.outcome, undone) {
            (Some(Err(error)), _) => Err(error.into_fault(file)),
            (Some(Ok(_)) | None, Some(fault)) => Err(fault.clone()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Fault::bug("a write was answered before it was tried")),
        };
        // The caller may have gone: what was written stays written.
        let _ = self.answer.send(told);
    }
}

/// What the thread works with.
struct Desk {
    connection: Connection,
    file: PathBuf,
    epoch: Epoch,
    bells: Arc<Bells>,
}

impl Desk {
    fn serve(mut self, requests: &mpsc::Receiver<Box<dyn Request>>) {
        while let Ok(first) = requests.recv() {
            let mut batch = vec![first];
            batch.extend(requests.try_iter().take(BATCH - 1));
            self.settle(batch);
        }
    }

    fn settle(&mut self, mut batch: Vec<Box<dyn Request>>) {
        match self.transact(&mut batch) {
            Ok(appended) => {
                // Bells first: one that is asked for after the answer rings for later entries only.
                appended.into_iter().for_each(|task| self.bells.ring(task));
                batch.into_iter().for_each(|request| request.answer(None, &self.file));
            }
            // Each alone: what fits is not refused because of a neighbor that does not.
            Err(error) if error.may_fit_alone() && batch.len() > 1 => {
                batch.into_iter().for_each(|request| self.settle(vec![request]));
            }
            Err(error) => {
                let fault = error.into_fault(&self.file);
                batch.into_iter().for_each(|request| request.answer(Some(&fault), &self.file));
            }
        }
    }

    /// Runs the batch in one transaction and makes it durable. On `Err` nothing of it is.
    fn transact(&mut self, batch: &mut [Box<dyn Request>]) -> Result<BTreeSet<TaskId>, Error> {
        let mut appended = BTreeSet::new();
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        fence(&tx, self.epoch, &self.file)?;
        for request in batch {
            tx.prepare_cached("SAVEPOINT request")?.execute([])?;
            let ran = request.run(&mut Scope { tx: &tx, appended: &mut appended });
            if tx.is_autocommit() {
                return Err(Error::Undone);
            }
            if ran == Ran::Refused {
                tx.prepare_cached("ROLLBACK TO request")?.execute([])?;
            }
            tx.prepare_cached("RELEASE request")?.execute([])?;
        }
        tx.commit()?;
        Ok(appended)
    }
}

fn fence(tx: &Connection, ours: Epoch, file: &Path) -> Result<(), Error> {
    let current: i64 = tx.prepare_cached("SELECT epoch FROM home")?.query_row([], |row| row.get(0))?;
    if current == int(ours.0) {
        return Ok(());
    }
    let what = format!("another daemon has taken over {} (its epoch is {current}, ours {ours})", file.display());
    Err(Fault::fenced(what).hint("this process writes nothing more: let it end and talk to the other one").into())
}

#[cfg(test)]
mod tests {
    use domain::FaultClass;

    use super::*;

    /// A writer on a database that may not grow: a full disk as SQLite reports it.
    fn cramped(directory: &Path) -> Writer {
        let file = directory.join("overnight.db");
        let connection = Connection::open(&file).unwrap();
        connection.execute_batch("CREATE TABLE home (epoch INTEGER); INSERT INTO home VALUES (1)").unwrap();
        connection.execute_batch("CREATE TABLE kept (body BLOB); PRAGMA max_page_count = 16").unwrap();
        Writer::start(connection, file, Epoch(1), Arc::default()).unwrap()
    }

    fn insert(writer: &Writer, bytes: usize) -> BoxFuture<'static, Result<(), Fault>> {
        writer.write(move |scope| {
            scope.tx.execute("INSERT INTO kept VALUES (zeroblob(?1))", [bytes as i64])?;
            Ok(())
        })
    }

    #[tokio::test]
    async fn a_full_disk_refuses_what_does_not_fit_and_keeps_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let writer = cramped(directory.path());
        insert(&writer, 100).await.unwrap();
        let fault = insert(&writer, 1 << 20).await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Environment);
        assert!(fault.what.contains("overnight.db") && fault.what.contains("full"), "{fault}");
        insert(&writer, 100).await.unwrap();
        let count = writer.write(|scope| Ok(scope.tx.query_row("SELECT count(*) FROM kept", [], |row| row.get(0))?));
        assert_eq!(count.await, Ok(2));
    }

    #[tokio::test]
    async fn a_write_that_fills_the_disk_spoils_no_neighbor() {
        let directory = tempfile::tempdir().unwrap();
        let writer = cramped(directory.path());
        // The first is held back until the others are queued: those are one batch for certain.
        let (go, wait) = mpsc::channel::<()>();
        let held = writer.write(move |_| {
            // Closed when it runs again.
            let _ = wait.recv();
            Ok(())
        });
        let replies = [insert(&writer, 100), insert(&writer, 1 << 20), insert(&writer, 100)];
        drop(go);
        held.await.unwrap();
        let mut classes = Vec::new();
        for reply in replies {
            classes.push(reply.await.map_err(|fault| fault.class));
        }
        assert_eq!(classes, [Ok(()), Err(FaultClass::Environment), Ok(())]);
        let count = writer.write(|scope| Ok(scope.tx.query_row("SELECT count(*) FROM kept", [], |row| row.get(0))?));
        assert_eq!(count.await, Ok(2));
    }
}
