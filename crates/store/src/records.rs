//! The port [`Records`]: every exchange with a model, for as long as it is of use.
//!
//! An agent sends its whole conversation with every request, so a request is kept as what it does not share, at its beginning and
//! its end, with an earlier one of its attempt. Those that are compared with are held in memory, within bounds: nothing is read to
//! write. What remains is compressed on the caller's thread, so that the writer's has little to do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use domain::{
    Fault,
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::{
        BoxFuture,
        model::Protocol,
        record::{Exchange, Records},
    },
};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};

use crate::{
    Store,
    column::{int, nanos, number, optional_number, time},
    error::Error,
    writer::Writer,
};

/// The fastest level: the repetitions that matter most are taken out before.
const LEVEL: i32 = 1;
/// What is longer is compressed off the async threads.
const LONG: usize = 1 << 20;
/// A request that shares less than this part of it with an earlier one is kept whole.
const LEAST_SHARED: usize = 4;
/// Requests held to compare with, over all attempts, and their bytes together.
const HELD: usize = 512;
const HELD_BYTES: usize = 48 << 20;
/// Bytes of one exchange; more is damage.
const MOST_BYTES: usize = 512 << 20;
/// Bytes that are compared at a time.
const STRIDE: usize = 256;

/// Requests that later ones may continue.
#[derive(Default)]
pub(crate) struct Bases(Mutex<Held>);

#[derive(Default)]
struct Held {
    /// With their exchanges' numbers; the one used last at the end.
    requests: Vec<(AttemptKey, u64, Bytes)>,
    bytes: usize,
    /// Exchanges since the home was opened.
    count: u64,
}

/// How much of a request stands in an earlier one.
#[derive(Clone, Copy, Debug)]
struct Shared {
    base: u64,
    prefix: usize,
    suffix: usize,
}

impl Shared {
    fn between((_, base, earlier): &(AttemptKey, u64, Bytes), request: &[u8]) -> Self {
        let prefix = common_prefix(earlier, request);
        let suffix = common_suffix(&earlier[prefix..], &request[prefix..]);
        Self { base: *base, prefix, suffix }
    }

    fn bytes(&self) -> usize {
        self.prefix + self.suffix
    }
}

impl Bases {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request, from 1, and finds what it continues.
    fn take(&self, key: AttemptKey, first: u64, request: &Bytes) -> (u64, Option<Shared>) {
        let mut held = self.held();
        held.count += 1;
        let number = first + held.count;
        let of_attempt = held.requests.iter().enumerate().filter(|(_, (other, ..))| *other == key);
        let best = of_attempt
            .map(|(at, earlier)| (at, Shared::between(earlier, request)))
            .max_by_key(|(_, shared)| shared.bytes())
            .filter(|(_, shared)| shared.bytes() > request.len() / LEAST_SHARED);
        // One that stands in the new one needs not be held any more; one that only shares something with it is another conversation's.
        if let Some((at, shared)) = best
            && held.requests[at].2.len() - shared.bytes() < shared.bytes() / LEAST_SHARED
        {
            held.discard(at);
        }
        held.bytes += request.len();
        held.requests.push((key, number, request.clone()));
        while held.requests.len() > HELD || held.bytes > HELD_BYTES {
            held.discard(0);
        }
        (number, best.map(|(_, shared)| shared))
    }

    fn forget(&self, key: AttemptKey) {
        let mut held = self.held();
        held.requests.retain(|(other, ..)| *other != key);
        held.bytes = held.requests.iter().map(|(.., request)| request.len()).sum();
    }
}

impl Held {
    fn discard(&mut self, at: usize) {
        let (.., request) = self.requests.remove(at);
        self.bytes -= request.len();
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let strides = a.chunks_exact(STRIDE).zip(b.chunks_exact(STRIDE)).take_while(|(a, b)| a == b).count();
    let rest = strides * STRIDE;
    rest + a[rest..].iter().zip(&b[rest..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let strides = a.rchunks_exact(STRIDE).zip(b.rchunks_exact(STRIDE)).take_while(|(a, b)| a == b).count();
    let rest = strides * STRIDE;
    let (a, b) = (&a[..a.len() - rest], &b[..b.len() - rest]);
    rest + a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count()
}

impl Records for Store {
    fn append(&self, key: AttemptKey, exchange: Exchange) -> BoxFuture<'_, Result<(), Fault>> {
        // Numbers rise from one life of the home to the next.
        let (number, shared) = self.bases.take(key, self.epoch.0 << 32, &exchange.request);
        let writer = Arc::clone(&self.writer);
        let is_long =
            exchange.request.len() - shared.map_or(0, |shared| shared.bytes()) + exchange.response.len() > LONG;
        let packed = Packed { key, number, shared, exchange };
        let written: BoxFuture<'static, _> = if is_long {
            let packing = tokio::task::spawn_blocking(move || packed.write(&writer));
            Box::pin(async {
                let written =
                    packing.await.map_err(|error| Fault::bug(format!("an exchange was not packed: {error}")))?;
                written.await
            })
        } else {
            packed.write(&writer)
        };
        Box::pin(async move {
            // What is not there is nothing to go on from.
            written.await.inspect_err(|_| self.bases.forget(key))
        })
    }

    fn exchanges(&self, key: AttemptKey) -> BoxFuture<'_, Result<Vec<Exchange>, Fault>> {
        let (task, attempt) = (int(key.task.0), key.attempt.0);
        self.readers.read(move |tx| {
            let mut select =
                tx.prepare_cached("SELECT * FROM exchanges WHERE task = ?1 AND attempt = ?2 ORDER BY number")?;
            let mut rows = select.query(params![task, attempt])?;
            let (mut exchanges, mut requests) = (Vec::new(), HashMap::new());
            while let Some(row) = rows.next()? {
                let number = number(row, "number")?;
                let exchange = unpack(row, &requests, || format!("exchange {number} of {key}"))?;
                requests.insert(number, exchange.request.clone());
                exchanges.push(exchange);
            }
            if exchanges.is_empty() {
                let fault = Fault::not_found(format!("there is no record of {key}"))
                    .hint("it has made no call to a model, or its record was kept for its time and has gone");
                return Err(fault.into());
            }
            Ok(exchanges)
        })
    }

    /// An attempt at a time: whoever writes beside it need not wait long.
    fn expire(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, Fault>> {
        let before = nanos(before);
        Box::pin(async move {
            let old = self.readers.read(move |tx| {
                let mut select = tx
                    .prepare_cached("SELECT task, attempt FROM exchanges GROUP BY task, attempt HAVING max(at) < ?1")?;
                let old = select.query_map([before], |row| {
                    Ok(AttemptKey { task: TaskId(number(row, "task")?), attempt: AttemptNo(row.get("attempt")?) })
                })?;
                Ok(old.collect::<Result<Vec<_>, _>>()?)
            });
            let mut expired = 0;
            for key in old.await? {
                self.bases.forget(key);
                expired += u64::from(self.writer.write(move |scope| expire(scope.tx, key, before)).await?);
            }
            Ok(expired)
        })
    }
}

/// Whether there was something to remove, and nothing has been added since.
fn expire(tx: &Connection, key: AttemptKey, before: i64) -> Result<bool, Error> {
    let removed = tx
        .prepare_cached(
            "DELETE FROM exchanges WHERE task = ?1 AND attempt = ?2
                 AND (SELECT max(at) FROM exchanges WHERE task = ?1 AND attempt = ?2) < ?3",
        )?
        .execute(params![int(key.task.0), key.attempt.0, before])?;
    Ok(removed > 0)
}

/// An exchange on its way into the database.
struct Packed {
    key: AttemptKey,
    number: u64,
    shared: Option<Shared>,
    exchange: Exchange,
}

impl Packed {
    /// Compresses it, then queues it.
    fn write(self, writer: &Writer) -> BoxFuture<'static, Result<(), Fault>> {
        let Self { key, number, shared, exchange } = self;
        let (prefix, suffix) = shared.map_or((0, 0), |shared| (shared.prefix, shared.suffix));
        let request = &exchange.request[prefix..exchange.request.len() - suffix];
        let (asked, answered) = (request.len(), exchange.response.len());
        let body = match compress(&[request, &exchange.response].concat()) {
            Ok(body) => body,
            Err(error) => {
                return Box::pin(async move { Err(Fault::bug(format!("an exchange cannot be compressed: {error}"))) });
            }
        };
        let Exchange { turn, at, protocol, path, status, content_type, whole, .. } = exchange;
        writer.write(move |scope| {
            scope
                .tx
                .prepare_cached(
                    "INSERT INTO exchanges (number, task, attempt, turn, at, protocol, path, status, content_type, whole,
                                            base, prefix, suffix, request, response, body)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
                )?
                .execute(params![
                    int(number),
                    int(key.task.0),
                    key.attempt.0,
                    turn.0,
                    nanos(at),
                    protocol.word(),
                    path,
                    status,
                    content_type,
                    whole,
                    shared.map(|shared| int(shared.base)),
                    int(prefix as u64),
                    int(suffix as u64),
                    int(asked as u64),
                    int(answered as u64),
                    body
                ])?;
            Ok(())
        })
    }
}

fn compress(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    compressor.include_checksum(true)?;
    compressor.compress(body)
}

/// Puts a request together again from what it shares with one of those before it. `name` says which row it is, should it be damaged.
fn unpack(row: &Row<'_>, requests: &HashMap<u64, Bytes>, name: impl Fn() -> String) -> Result<Exchange, Error> {
    let damaged = |why: &str| Error::unreadable(name(), why);
    let size = |column| Ok::<_, rusqlite::Error>(usize::try_from(number(row, column)?).unwrap_or(usize::MAX));
    let (asked, answered) = (size("request")?, size("response")?);
    let bytes = asked
        .checked_add(answered)
        .filter(|bytes| *bytes <= MOST_BYTES)
        .ok_or_else(|| damaged("its size is absurd"))?;
    let body = zstd::bulk::decompress(
        row.get_ref("body")?.as_blob().map_err(|error| Error::unreadable(name(), error))?,
        bytes,
    )
    .map_err(|error| Error::unreadable(name(), error))?;
    if body.len() != bytes {
        return Err(damaged("it is shorter than it was"));
    }
    let mut body = Bytes::from(body);
    let middle = body.split_to(asked);
    let request = match optional_number(row, "base")? {
        None => middle,
        Some(base) => {
            let earlier = requests.get(&base).ok_or_else(|| damaged("the one that it continues is missing"))?;
            let (prefix, suffix) = (size("prefix")?, size("suffix")?);
            let end = earlier.len().checked_sub(suffix).filter(|end| prefix <= *end);
            let end = end.ok_or_else(|| damaged("the one that it continues is shorter than it was"))?;
            Bytes::from([&earlier[..prefix], &middle, &earlier[end..]].concat())
        }
    };
    let word: String = row.get("protocol")?;
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.word() == word);
    Ok(Exchange {
        turn: TurnNo(row.get("turn")?),
        at: time(row.get("at")?),
        protocol: protocol.ok_or_else(|| damaged("its protocol is none that this program knows"))?,
        path: row.get("path")?,
        request,
        status: row.get("status")?,
        content_type: row.get("content_type")?,
        response: body,
        whole: row.get("whole")?,
    })
}
