//! The port [`Ledger`]: every model call of a task, reserved before it is made and settled after.
//!
//! Limits are checked in the writer thread, against the totals that the same transaction changes, so that two reservations can
//! never both take the last of a budget or a purse. An open reservation counts in full, for ever: after a crash nobody knows what
//! the call came to.

use domain::{
    Fault,
    budget::{Amount, Budget, MicroUsd, Purse, Spend, Usage},
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::{
        BoxFuture,
        ledger::{Ledger, OverBudget, Reservation, Settlement},
    },
};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    Store,
    column::{int, json, nanos, number, optional_number, time},
    error::Error,
    totals::{Payer, Total},
};

/// One model call as the ledger holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The reservation's id.
    pub id: String,
    pub key: AttemptKey,
    pub reserved_at: Timestamp,
    pub reserved: Amount,
    /// `None`: the call is under way, or a crash cut it off.
    pub settled: Option<Settled>,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub at: Timestamp,
    pub model: String,
    pub usage: Usage,
    /// `None`: no known price.
    pub cost: Option<MicroUsd>,
    pub estimated: bool,
}

impl Store {
    /// Every model call of a task, oldest first: what an export adds to the journal.
    pub async fn calls(&self, task: TaskId) -> Result<Vec<Call>, Fault> {
        let mut calls = self.readers.read(move |tx| calls(tx, task)).await?;
        calls.sort_by(|a, b| (a.reserved_at, &a.id).cmp(&(b.reserved_at, &b.id)));
        Ok(calls)
    }
}

impl Ledger for Store {
    fn reserve(&self, reservation: Reservation) -> BoxFuture<'_, Result<Result<(), OverBudget>, Fault>> {
        let now = nanos(self.clock.now());
        let mut keys: Vec<&str> = reservation.purses.iter().map(|purse| purse.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        let purses = match json(&keys) {
            Ok(purses) => purses,
            Err(fault) => return Box::pin(async { Err(fault) }),
        };
        self.writer.write(move |scope| reserve(scope.tx, &reservation, &purses, now))
    }

    /// A settlement without a reservation is money spent all the same: it is recorded, and counted in its task.
    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<(), Fault>> {
        let now = nanos(self.clock.now());
        self.writer.write(move |scope| settle(scope.tx, &settlement, now))
    }

    fn spent(&self, task: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        self.readers.read(move |tx| Ok(Total::load(tx, &Payer::Task(task))?.told()))
    }

    fn spent_from(&self, purse: String) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        self.readers.read(move |tx| Ok(Total::load(tx, &Payer::Purse(&purse))?.told()))
    }
}

/// `purses`: their keys, as stored.
fn reserve(
    tx: &Connection,
    reservation: &Reservation,
    purses: &str,
    now: i64,
) -> Result<Result<(), OverBudget>, Error> {
    let Reservation { id, key, amount, budget, purses: limits } = reservation;
    let known =
        tx.prepare_cached("SELECT 1 FROM calls WHERE task = ?1 AND id = ?2")?.exists(params![int(key.task.0), id])?;
    if known {
        return Ok(Ok(()));
    }
    if let Err(over) = Total::load(tx, &Payer::Task(key.task))?.allow(None, budget, amount) {
        return Ok(Err(over));
    }
    for Purse { key, limit } in limits {
        let limit = Budget { rounds: None, ..*limit };
        if let Err(over) = Total::load(tx, &Payer::Purse(key))?.allow(Some(key), &limit, amount) {
            return Ok(Err(over));
        }
    }
    tx.prepare_cached(
        "INSERT INTO calls (task, id, attempt, reserved_at, reserved_cost, reserved_tokens, purses)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        int(key.task.0),
        id,
        key.attempt.0,
        now,
        amount.cost.map(|cost| int(cost.0)),
        int(amount.tokens),
        purses
    ])?;
    count(tx, key.task, purses, |total| total.open(amount))?;
    Ok(Ok(()))
}

fn settle(tx: &Connection, settlement: &Settlement, now: i64) -> Result<(), Error> {
    let Settlement { id, key, model, usage, cost, estimated } = settlement;
    let reserved = tx
        .prepare_cached("SELECT * FROM calls WHERE task = ?1 AND id = ?2")?
        .query_row(params![int(key.task.0), id], |row| Ok((call(row, key.task)?, row.get::<_, String>("purses")?)))
        .optional()?;
    if reserved.as_ref().is_some_and(|(call, _)| call.settled.is_some()) {
        return Ok(());
    }
    tx.prepare_cached(
        "INSERT INTO calls (task, id, attempt, reserved_at, reserved_tokens, settled_at, model,
                            input, cache_read, cache_write, output, reasoning, cost, estimated)
         VALUES (?1, ?2, ?3, ?4, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
         ON CONFLICT (task, id) DO UPDATE SET settled_at = ?4, model = ?5, input = ?6, cache_read = ?7,
             cache_write = ?8, output = ?9, reasoning = ?10, cost = ?11, estimated = ?12",
    )?
    .execute(params![
        int(key.task.0),
        id,
        key.attempt.0,
        now,
        model,
        int(usage.input),
        int(usage.cache_read),
        int(usage.cache_write),
        int(usage.output),
        int(usage.reasoning),
        cost.map(|cost| int(cost.0)),
        estimated
    ])?;
    let settled = Settled { at: time(now), model: model.clone(), usage: *usage, cost: *cost, estimated: *estimated };
    match reserved {
        Some((call, purses)) => count(tx, key.task, &purses, |total| {
            total.close(&call.reserved);
            total.spend = total.spend.plus(&charge(&call.reserved, &settled));
        }),
        None => count(tx, key.task, "[]", |total| {
            total.spend = total.spend.plus(&charge(&Amount::default(), &settled));
        }),
    }
}

/// Changes the totals of all that pay for a call.
fn count(tx: &Connection, task: TaskId, purses: &str, change: impl Fn(&mut Total)) -> Result<(), Error> {
    let purses: Vec<String> = serde_json::from_str(purses)
        .map_err(|error| Error::unreadable(format!("the list of purses of a call of {task}"), error))?;
    for payer in [Payer::Task(task)].into_iter().chain(purses.iter().map(|key| Payer::Purse(key))) {
        let mut total = Total::load(tx, &payer)?;
        change(&mut total);
        total.store(tx, &payer)?;
    }
    Ok(())
}

/// A task's calls, by id.
fn calls(tx: &Connection, task: TaskId) -> Result<Vec<Call>, Error> {
    let mut select = tx.prepare_cached("SELECT * FROM calls WHERE task = ?1")?;
    let calls = select.query_map([int(task.0)], |row| call(row, task))?.collect::<Result<_, _>>()?;
    Ok(calls)
}

fn call(row: &Row<'_>, task: TaskId) -> rusqlite::Result<Call> {
    let settled = match row.get::<_, Option<i64>>("settled_at")? {
        Some(at) => Some(Settled {
            at: time(at),
            model: row.get("model")?,
            usage: Usage {
                input: number(row, "input")?,
                cache_read: number(row, "cache_read")?,
                cache_write: number(row, "cache_write")?,
                output: number(row, "output")?,
                reasoning: optional_number(row, "reasoning")?.unwrap_or_default(),
            },
            cost: optional_number(row, "cost")?.map(MicroUsd),
            estimated: row.get("estimated")?,
        }),
        None => None,
    };
    let reserved_cost = optional_number(row, "reserved_cost")?.map(MicroUsd);
    Ok(Call {
        id: row.get("id")?,
        key: AttemptKey { task, attempt: AttemptNo(row.get("attempt")?) },
        reserved_at: time(row.get("reserved_at")?),
        reserved: Amount { cost: reserved_cost, tokens: number(row, "reserved_tokens")? },
        settled,
    })
}

/// What one settled call counts for. Where the provider did not say (or a price that was known at the reservation is not any
/// more), the reservation stands as the least; what a cut stream did not count is output.
fn charge(reserved: &Amount, settled: &Settled) -> Spend {
    let mut usage = settled.usage;
    if settled.estimated {
        let unseen = reserved.tokens.saturating_sub(usage.total());
        usage.output = usage.output.saturating_add(unseen);
    }
    let cost = if settled.estimated { settled.cost.max(reserved.cost) } else { settled.cost.or(reserved.cost) };
    let estimated = settled.estimated || (settled.cost.is_none() && cost.is_some());
    Spend {
        calls: 1,
        usage,
        cost: cost.unwrap_or_default(),
        unpriced_calls: u64::from(cost.is_none()),
        estimated_calls: u64::from(estimated),
    }
}
