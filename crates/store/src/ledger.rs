//! The port [`Ledger`]: every model call of a task, reserved before it is made and settled after.
//!
//! Limits are checked in the writer thread, against the calls themselves, so that two reservations can never both take the
//! last of a budget. An open reservation counts in full, for ever: after a crash nobody knows what the call came to.

use domain::{
    Fault,
    budget::{Amount, Budget, MicroUsd, Spend, Usage},
    ids::{AttemptKey, AttemptNo, TaskId},
    ports::{
        BoxFuture,
        model::{Ledger, OverBudget, Reservation, Settlement},
    },
};
use jiff::Timestamp;
use rusqlite::{Connection, Row, params};
use serde::{Deserialize, Serialize};

use crate::{
    Store,
    column::{int, nanos, number, optional_number, time},
    error::Error,
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
        self.writer.write(move |scope| {
            let Reservation { id, key, amount, budget } = &reservation;
            let calls = calls(scope.tx, key.task)?;
            if calls.iter().any(|call| call.id == *id) {
                return Ok(Ok(()));
            }
            let (spend, open) = total(&calls);
            if let Err(over) = allow(budget, calls.len() as u64, (&spend, &open), amount) {
                return Ok(Err(over));
            }
            scope
                .tx
                .prepare_cached(
                    "INSERT INTO calls (task, id, attempt, reserved_at, reserved_cost, reserved_tokens)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![
                    int(key.task.0),
                    id,
                    key.attempt.0,
                    now,
                    amount.cost.map(|cost| int(cost.0)),
                    int(amount.tokens)
                ])?;
            Ok(Ok(()))
        })
    }

    /// A settlement without a reservation is money spent all the same: it is recorded.
    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<(), Fault>> {
        let now = nanos(self.clock.now());
        self.writer.write(move |scope| {
            let Settlement { id, key, model, usage, cost, estimated } = &settlement;
            scope
                .tx
                .prepare_cached(
                    "INSERT INTO calls (task, id, attempt, reserved_at, reserved_tokens, settled_at, model,
                                        input, cache_read, cache_write, output, cost, estimated)
                     VALUES (?1, ?2, ?3, ?4, 0, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                     ON CONFLICT (task, id) DO UPDATE SET settled_at = ?4, model = ?5, input = ?6, cache_read = ?7,
                         cache_write = ?8, output = ?9, cost = ?10, estimated = ?11
                     WHERE settled_at IS NULL",
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
                    cost.map(|cost| int(cost.0)),
                    estimated
                ])?;
            Ok(())
        })
    }

    fn spent(&self, task: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        self.readers.read(move |tx| Ok(total(&calls(tx, task)?)))
    }
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

/// What was spent, and what open reservations hold on top.
fn total(calls: &[Call]) -> (Spend, Amount) {
    let mut spend = Spend::default();
    let mut open = Amount::default();
    for call in calls {
        match &call.settled {
            Some(settled) => spend = spend.plus(&charge(&call.reserved, settled)),
            None => {
                open.tokens = open.tokens.saturating_add(call.reserved.tokens);
                open.cost = match (open.cost, call.reserved.cost) {
                    (Some(sum), Some(cost)) => Some(sum.plus(cost)),
                    (sum, cost) => sum.or(cost),
                };
            }
        }
    }
    (spend, open)
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

/// Whether one more call of `asked` stays inside every limit. `calls` counts the open ones too.
fn allow(budget: &Budget, calls: u64, (spend, open): (&Spend, &Amount), asked: &Amount) -> Result<(), OverBudget> {
    if let Some(limit) = budget.rounds
        && calls >= u64::from(limit)
    {
        return Err(over("rounds", calls, limit, 1));
    }
    let tokens = spend.usage.total().saturating_add(open.tokens);
    if let Some(limit) = budget.tokens
        && tokens.saturating_add(asked.tokens) > limit
    {
        return Err(over("tokens", tokens, limit, asked.tokens));
    }
    if let Some(limit) = budget.cost {
        let cost = spend.cost.plus(open.cost.unwrap_or_default());
        match asked.cost {
            Some(asked) if cost.plus(asked) <= limit => {}
            Some(asked) => return Err(over("cost", cost, limit, asked)),
            None => return Err(over("cost", cost, limit, "an unknown amount: the model has no known price")),
        }
    }
    Ok(())
}

fn over(
    what: &'static str,
    spent: impl std::fmt::Display,
    limit: impl std::fmt::Display,
    asked: impl std::fmt::Display,
) -> OverBudget {
    OverBudget { what, spent: spent.to_string(), limit: limit.to_string(), asked: asked.to_string() }
}
