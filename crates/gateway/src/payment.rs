//! Paying for one model call: reserved before it is made, settled whatever becomes of it.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use domain::{
    budget::{Amount, MicroUsd},
    ids::AttemptKey,
    ports::{
        ledger::{Ledger, Reservation, Settlement},
        model::{Access, ModelFault},
    },
};

use crate::prices::{Counted, Price};

/// Bytes of a request for two tokens of input, on the safe side for text and code.
const BYTES_PER_TWO_TOKENS: u64 = 7;

/// Whether the provider may have charged anything for a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    possible: bool,
    /// An earlier try may have been charged.
    by_a_lost_try: bool,
}

impl Charge {
    /// The request goes out now.
    pub fn sending(&mut self) {
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
    ledger: Arc<dyn Ledger>,
    id: String,
    key: AttemptKey,
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
    pub async fn reserve(ledger: &Arc<dyn Ledger>, access: &Access, order: Order) -> Result<Self, ModelFault> {
        let Order { model, price, request_bytes, kept_input, max_output } = order;
        let bytes = u64::try_from(request_bytes).unwrap_or(u64::MAX);
        let input = bytes.saturating_mul(2).div_ceil(BYTES_PER_TWO_TOKENS).saturating_add(kept_input);
        let amount =
            Amount { cost: price.map(|price| price.most(input, max_output)), tokens: input.saturating_add(max_output) };
        let mut payment = Self {
            ledger: Arc::clone(ledger),
            id: uuid::Uuid::now_v7().simple().to_string(),
            key: access.key,
            model,
            price,
            charge: Charge::default(),
            reported: None,
            complete: false,
            taken: true,
        };
        let reservation = Reservation {
            id: payment.id.clone(),
            key: access.key,
            amount,
            budget: access.budget,
            purses: access.purses.clone(),
        };
        let refused = match ledger.reserve(reservation).await {
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
            key: self.key,
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
        let ledger = Arc::clone(&self.ledger);
        let mut settling = Box::pin(async move {
            let id = settlement.id.clone();
            if let Err(fault) = ledger.settle(settlement).await {
                tracing::error!(%id, %fault, "a model call could not be settled; its reservation counts in full");
            }
        });
        // Begun here and now, so that it is ahead of every later write; nobody waits for its end.
        if settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(settling)),
                Err(_) => tracing::warn!("the daemon stops before the ledger has answered a settlement"),
            }
        }
    }
}
