//! A ledger in memory, which keeps the port's contract and can be waited for.

use std::collections::HashMap;

use domain::{
    Fault,
    budget::{Amount, MicroUsd, Spend},
    ids::TaskId,
    ports::{
        BoxFuture,
        ledger::{Ledger, OverBudget, Reservation, Settlement},
    },
};
use tokio::sync::watch;

#[derive(Clone, Debug, Default)]
pub struct Book {
    pub open: HashMap<String, Reservation>,
    pub settled: Vec<(Reservation, Settlement)>,
    /// The most that was ever spent and reserved together.
    pub most: Amount,
}

impl Book {
    fn total(&self) -> Amount {
        let mut total = Amount { cost: Some(MicroUsd(0)), tokens: 0 };
        let mut add = |amount: Amount| {
            total.tokens += amount.tokens;
            total.cost = Some(total.cost.unwrap().plus(amount.cost.unwrap_or_default()));
        };
        self.open.values().for_each(|reservation| add(reservation.amount));
        for (Reservation { amount, .. }, settlement) in &self.settled {
            let said = Amount { cost: settlement.cost, tokens: settlement.usage.total() };
            let at_least = if settlement.estimated { *amount } else { Amount::default() };
            add(Amount { cost: said.cost.max(at_least.cost), tokens: said.tokens.max(at_least.tokens) });
        }
        total
    }
}

#[derive(Debug, Default)]
pub struct MemoryLedger(watch::Sender<Book>);

impl MemoryLedger {
    /// The book once every reservation is settled.
    pub async fn closed(&self) -> Book {
        self.when(|book| book.open.is_empty()).await
    }

    pub async fn when(&self, is: impl FnMut(&Book) -> bool) -> Book {
        self.0.subscribe().wait_for(is).await.unwrap().clone()
    }

    /// The settlements, once every reservation is settled.
    pub async fn settlements(&self) -> Vec<Settlement> {
        self.closed().await.settled.into_iter().map(|(_, settlement)| settlement).collect()
    }
}

impl Ledger for MemoryLedger {
    fn reserve(&self, reservation: Reservation) -> BoxFuture<'_, Result<Result<(), OverBudget>, Fault>> {
        let mut answer = Ok(());
        self.0.send_modify(|book| {
            let Amount { cost, tokens } = book.total();
            let (asked, budget) = (reservation.amount, reservation.budget);
            let refuse = |what, spent: String, limit: String, asked: String| OverBudget {
                purse: None,
                what,
                spent,
                limit,
                asked,
            };
            if let Some(limit) = budget.tokens.filter(|limit| tokens + asked.tokens > *limit) {
                answer = Err(refuse("tokens", tokens.to_string(), limit.to_string(), asked.tokens.to_string()));
                return;
            }
            let dear = |limit: &MicroUsd| asked.cost.is_none_or(|asked| cost.unwrap().plus(asked) > *limit);
            if let Some(limit) = budget.cost.filter(dear) {
                answer = Err(refuse("cost", cost.unwrap().to_string(), limit.to_string(), format!("{:?}", asked.cost)));
                return;
            }
            assert!(book.open.insert(reservation.id.clone(), reservation.clone()).is_none(), "ids are unique");
            let total = book.total();
            book.most = Amount { cost: book.most.cost.max(total.cost), tokens: book.most.tokens.max(total.tokens) };
        });
        Box::pin(async move {
            // As a real one, which waits for its disk.
            tokio::task::yield_now().await;
            Ok(answer)
        })
    }

    fn settle(&self, settlement: Settlement) -> BoxFuture<'_, Result<(), Fault>> {
        self.0.send_modify(|book| {
            let reservation = book.open.remove(&settlement.id).expect("settled once, after it was reserved");
            book.settled.push((reservation, settlement));
        });
        Box::pin(async { Ok(()) })
    }

    fn spent_from(&self, _: String) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        Box::pin(async { Ok((Spend::default(), Amount::default())) })
    }

    fn spent(&self, _: TaskId) -> BoxFuture<'_, Result<(Spend, Amount), Fault>> {
        Box::pin(async { Ok((Spend::default(), Amount::default())) })
    }
}
