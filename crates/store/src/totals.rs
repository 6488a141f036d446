//! The running sums of what pays for calls: the budget of a task, or a purse that tasks share.

use domain::{
    budget::{Amount, Budget, MicroUsd, Spend, Usage},
    ids::TaskId,
    ports::ledger::OverBudget,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    column::{int, number},
    error::Error,
};

/// What a sum that has passed all bounds stands at, as the database holds it.
const ENDLESS: u64 = i64::MAX as u64;

/// Who pays.
pub(crate) enum Payer<'a> {
    Task(TaskId),
    /// By its key.
    Purse(&'a str),
}

impl Payer<'_> {
    /// As it stands in the table.
    fn name(&self) -> String {
        match self {
            Self::Task(task) => format!("task {}", task.0),
            Self::Purse(key) => format!("purse {key}"),
        }
    }
}

/// What was spent, and what open reservations hold on top.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Total {
    pub spend: Spend,
    open_calls: u64,
    open_cost: u64,
    open_tokens: u64,
}

impl Total {
    /// Nothing, where nothing was reserved yet.
    pub fn load(tx: &Connection, payer: &Payer<'_>) -> Result<Self, Error> {
        let mut select = tx.prepare_cached("SELECT * FROM totals WHERE payer = ?1")?;
        Ok(select.query_row([payer.name()], total).optional()?.unwrap_or_default())
    }

    pub fn store(&self, tx: &Connection, payer: &Payer<'_>) -> Result<(), Error> {
        let Spend { calls, usage, cost, unpriced_calls, estimated_calls } = self.spend;
        tx.prepare_cached(
            "INSERT OR REPLACE INTO totals (payer, calls, input, cache_read, cache_write, output, reasoning, cost,
                                            unpriced_calls, estimated_calls, open_calls, open_cost, open_tokens)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            payer.name(),
            int(calls),
            int(usage.input),
            int(usage.cache_read),
            int(usage.cache_write),
            int(usage.output),
            int(usage.reasoning),
            int(cost.0),
            int(unpriced_calls),
            int(estimated_calls),
            int(self.open_calls),
            int(self.open_cost),
            int(self.open_tokens)
        ])?;
        Ok(())
    }

    /// As the port tells it.
    pub fn told(&self) -> (Spend, Amount) {
        let cost = Some(MicroUsd(self.open_cost)).filter(|cost| cost.0 > 0);
        (self.spend, Amount { cost, tokens: self.open_tokens })
    }

    /// Takes a reservation in.
    pub fn open(&mut self, reserved: &Amount) {
        self.open_calls = self.open_calls.saturating_add(1);
        self.open_cost = self.open_cost.saturating_add(reserved.cost.unwrap_or_default().0);
        self.open_tokens = self.open_tokens.saturating_add(reserved.tokens);
    }

    /// Lets one go.
    pub fn close(&mut self, reserved: &Amount) {
        self.open_calls = self.open_calls.saturating_sub(1);
        let less = |sum: u64, part: u64| match (self.open_calls, sum) {
            (0, _) => 0,
            // Nobody knows what it would be without its bound.
            (_, ENDLESS..) => sum,
            _ => sum.saturating_sub(part),
        };
        (self.open_cost, self.open_tokens) =
            (less(self.open_cost, reserved.cost.unwrap_or_default().0), less(self.open_tokens, reserved.tokens));
    }

    /// Whether one more call of `asked` stays inside every limit. `purse`: its key; `None`: it is a task's.
    pub fn allow(&self, purse: Option<&str>, limit: &Budget, asked: &Amount) -> Result<(), OverBudget> {
        let over =
            |what, spent, limit, asked| Err(OverBudget { purse: purse.map(str::to_owned), what, spent, limit, asked });
        let calls = self.spend.calls.saturating_add(self.open_calls);
        if let Some(limit) = limit.rounds
            && calls >= u64::from(limit)
        {
            return over("rounds", calls.to_string(), limit.to_string(), "1".to_owned());
        }
        let tokens = self.spend.usage.total().saturating_add(self.open_tokens);
        if let Some(limit) = limit.tokens
            && tokens.saturating_add(asked.tokens) > limit
        {
            return over("tokens", tokens.to_string(), limit.to_string(), asked.tokens.to_string());
        }
        if let Some(limit) = limit.cost {
            let cost = self.spend.cost.plus(MicroUsd(self.open_cost));
            let asked = match asked.cost {
                Some(asked) if cost.plus(asked) <= limit => return Ok(()),
                Some(asked) => asked.to_string(),
                None => "an unknown amount: the model has no known price".to_owned(),
            };
            return over("cost", cost.to_string(), limit.to_string(), asked);
        }
        Ok(())
    }
}

fn total(row: &Row<'_>) -> rusqlite::Result<Total> {
    let usage = Usage {
        input: number(row, "input")?,
        cache_read: number(row, "cache_read")?,
        cache_write: number(row, "cache_write")?,
        output: number(row, "output")?,
        reasoning: number(row, "reasoning")?,
    };
    let spend = Spend {
        calls: number(row, "calls")?,
        usage,
        cost: MicroUsd(number(row, "cost")?),
        unpriced_calls: number(row, "unpriced_calls")?,
        estimated_calls: number(row, "estimated_calls")?,
    };
    Ok(Total {
        spend,
        open_calls: number(row, "open_calls")?,
        open_cost: number(row, "open_cost")?,
        open_tokens: number(row, "open_tokens")?,
    })
}
