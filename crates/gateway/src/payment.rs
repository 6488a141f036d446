//! Paying for one model call: reserved before it is made, settled whatever becomes of it.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use domain::{
    Fault,
    budget::{Amount, Budget, MicroUsd, Spend},
    ports::{
        ledger::{Ledger, Reservation, Settlement},
        model::{Access, CallNews, ModelFault},
    },
};

use crate::{
    prices::{Counted, Price},
    start::start,
};

/// Bytes of a request for two tokens of input, on the safe side for text and code.
const BYTES_PER_TWO_TOKENS: u64 = 7;

/// An attempt's turn as it pays for its calls.
pub(crate) struct Payer {
    pub access: Access,
    ledger: Arc<dyn Ledger>,
    /// Whether it has been told that little is left.
    warned: AtomicBool,
}

impl Payer {
    pub fn new(access: Access, ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self { access, ledger, warned: AtomicBool::new(false) })
    }

    /// Tells the attempt, once, when four fifths of something are spent.
    async fn look(&self) -> Result<(), Fault> {
        let Access { key, budget, purses, watch, .. } = &self.access;
        if self.warned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut left = None;
        if is_limited(budget) {
            left = nearing("the task's budget", budget, &self.ledger.spent(key.task).await?.0);
        }
        for purse in purses {
            let limit = Budget { rounds: None, ..purse.limit };
            if left.is_none() && is_limited(&limit) {
                let (spent, _) = self.ledger.spent_from(purse.key.clone()).await?;
                left = nearing(&format!("the budget `{}`", purse.key), &limit, &spent);
            }
        }
        if let Some(left) = left
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            watch.tell(CallNews::Nearing(left));
        }
        Ok(())
    }

    /// Whether money is bounded, so that nothing without a price can be bought.
    pub fn counts_money(&self) -> bool {
        let Access { budget, purses, .. } = &self.access;
        budget.cost.is_some() || purses.iter().any(|purse| purse.limit.cost.is_some())
    }
}

fn is_limited(limit: &Budget) -> bool {
    limit.cost.is_some() || limit.tokens.is_some() || limit.rounds.is_some()
}

/// What is left of a limit, in a sentence, once four fifths of it are spent.
fn nearing(of: &str, limit: &Budget, spent: &Spend) -> Option<String> {
    let is_near = |spent: u64, limit: u64| spent >= limit - limit / 5;
    let tell = |left: &dyn Display, limit: &dyn Display, unit: &str| {
        format!("{of} is nearly spent: {left} of {limit}{unit} are left; bring the work to an end that can be kept")
    };
    let tokens = spent.usage.total();
    if let Some(limit) = limit.cost.filter(|limit| is_near(spent.cost.0, limit.0)) {
        Some(tell(&MicroUsd(limit.0.saturating_sub(spent.cost.0)), &limit, ""))
    } else if let Some(limit) = limit.tokens.filter(|limit| is_near(tokens, *limit)) {
        Some(tell(&limit.saturating_sub(tokens), &limit, " tokens"))
    } else {
        let limit = limit.rounds.map(u64::from).filter(|limit| is_near(spent.calls, *limit))?;
        Some(tell(&limit.saturating_sub(spent.calls), &limit, " rounds"))
    }
}

/// Whether the provider may have charged anything for a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    /// Whether a request went out at all.
    asked: bool,
    possible: bool,
    /// An earlier try may have been charged.
    by_a_lost_try: bool,
}

impl Charge {
    /// The request goes out now.
    pub fn sending(&mut self) {
        self.asked = true;
        self.possible = true;
    }

    /// This try was not charged: the provider was not reached, or refused.
    pub fn refused(&mut self) {
        self.possible = self.by_a_lost_try;
    }

    /// This try may have been charged, and nothing came of it.
    pub fn lost(&mut self) {
        self.by_a_lost_try = true;
    }
}

/// An open reservation. Dropping it settles it, so a call that is given up in the middle is accounted for too.
pub(crate) struct Payment {
    payer: Arc<Payer>,
    id: String,
    model: String,
    price: Option<Price>,
    pub charge: Charge,
    /// What the provider has reported so far.
    pub reported: Option<Counted>,
    /// Whether `reported` is the whole.
    complete: bool,
    /// Whether the ledger may have taken the reservation.
    taken: bool,
}

/// What is paid for: a call of a model, and how large it can become.
pub(crate) struct Order {
    pub model: String,
    /// `None`: not known.
    pub price: Option<Price>,
    pub request_bytes: usize,
    /// Tokens of input that are not in the request, as the provider has them already.
    pub kept_input: u64,
    pub max_output: u64,
}

impl Payment {
    /// Reserves what the call can cost at most. `OverBudget`: the budget does not allow it.
    pub async fn reserve(payer: &Arc<Payer>, order: Order) -> Result<Self, ModelFault> {
        let Order { model, price, request_bytes, kept_input, max_output } = order;
        let bytes = u64::try_from(request_bytes).unwrap_or(u64::MAX);
        let input = bytes.saturating_mul(2).div_ceil(BYTES_PER_TWO_TOKENS).saturating_add(kept_input);
        let amount =
            Amount { cost: price.map(|price| price.most(input, max_output)), tokens: input.saturating_add(max_output) };
        let mut payment = Self {
            payer: Arc::clone(payer),
            id: uuid::Uuid::now_v7().simple().to_string(),
            model,
            price,
            charge: Charge::default(),
            reported: None,
            complete: false,
            taken: true,
        };
        let Access { key, budget, purses, .. } = &payer.access;
        let reservation =
            Reservation { id: payment.id.clone(), key: *key, amount, budget: *budget, purses: purses.clone() };
        let refused = match payer.ledger.reserve(reservation).await {
            Ok(Ok(())) => return Ok(payment),
            Ok(Err(over)) => ModelFault::OverBudget(over.to_string()),
            Err(fault) => ModelFault::Port(fault),
        };
        payment.taken = false;
        Err(refused)
    }

    /// Whether it was reserved for calls of this model.
    pub fn is_for(&self, model: &str) -> bool {
        self.model == model
    }

    /// The provider's answer is there in full. Without a report it is settled by estimate.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whoever asked has gone: for them the call is over, though it is settled later.
    pub fn left(&mut self) {
        if std::mem::take(&mut self.charge.asked) {
            self.payer.access.watch.tell(CallNews::Answered);
        }
    }

    fn settlement(&self) -> Settlement {
        let counted = self.reported.unwrap_or_default();
        let cost = match self.price {
            Some(price) => Some(price.cost(&counted)),
            // Nothing costs nothing, whatever the price.
            None if !self.charge.possible => Some(MicroUsd(0)),
            None => None,
        };
        let told_in_full = self.complete && self.reported.is_some_and(|counted| !counted.is_wrong);
        Settlement {
            id: self.id.clone(),
            key: self.payer.access.key,
            model: self.model.clone(),
            usage: counted.usage,
            cost,
            estimated: self.charge.possible && !told_in_full,
        }
    }
}

impl Drop for Payment {
    fn drop(&mut self) {
        if !self.taken {
            return;
        }
        let settlement = self.settlement();
        let payer = Arc::clone(&self.payer);
        start("a settlement", async move {
            let id = settlement.id.clone();
            match payer.ledger.settle(settlement).await {
                Ok(()) => {
                    if let Err(fault) = payer.look().await {
                        tracing::warn!(attempt = %payer.access.key, %fault, "what is left of a budget cannot be told");
                    }
                }
                Err(fault) => {
                    tracing::error!(%id, %fault, "a model call could not be settled; its reservation counts in full");
                }
            }
        });
        self.left();
    }
}
