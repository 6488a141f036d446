//! Port of the ledger, implemented by `store`: every model call, reserved before it is made and settled after.

use super::BoxFuture;
use crate::{
    Fault,
    budget::{Amount, Budget, MicroUsd, Purse, Spend, Usage},
    ids::{AttemptKey, TaskId},
};

/// Cross-task accounting, implemented by `store`. Idempotent by reservation id. An unsettled reservation counts in full for ever.
pub trait Ledger: Send + Sync {
    /// Durable when it resolves. `Ok(Err(over))` when spend plus open reservations plus this amount would pass a limit of the task's
    /// budget or of one of the purses.
    /// Concurrent reservations on one task are put in order: together they never pass a limit.
    fn reserve(&self, reservation: Reservation) -> BoxFuture<'_, Result<Result<(), OverBudget>, Fault>>;

    /// Replaces the reservation by what was really used. Ordered before every later write of this process; need not be awaited for that.
    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<(), Fault>>;

    /// Settled spend of a task (all attempts), and what open reservations hold on top.
    fn spent(&self, task: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>>;

    /// The same of a purse, by its key. Nothing: nothing was spent from it yet.
    fn spent_from(&self, purse: String) -> BoxFuture<'_, Result<(Spend, Amount), Fault>>;
}

#[derive(Clone, Debug)]
pub struct Reservation {
    /// Unique for ever; the same id again is the same reservation.
    pub id: String,
    pub key: AttemptKey,
    pub amount: Amount,
    /// Of the task.
    pub budget: Budget,
    /// What else it is paid from: it must fit into all of them, and is counted in all of them.
    pub purses: Vec<Purse>,
}

#[derive(Clone, Debug)]
pub struct Settlement {
    pub id: String,
    pub key: AttemptKey,
    pub model: String,
    pub usage: Usage,
    /// `None`: no known price.
    pub cost: Option<MicroUsd>,
    /// The provider did not say (cut stream): counted at max(reported, reservation).
    pub estimated: bool,
}

/// Which limit stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} {what} budget reached: {spent} spent or reserved of {limit}, the next call could need {asked}", .purse.as_deref().unwrap_or("the task's"))]
pub struct OverBudget {
    /// The name of the purse; `None`: the task's own budget.
    pub purse: Option<String>,
    /// `cost`, `tokens` or `rounds`.
    pub what: &'static str,
    pub spent: String,
    pub limit: String,
    pub asked: String,
}
