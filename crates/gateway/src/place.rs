//! Placing a call: the first way that is open is taken; what can pass is waited for; where nothing passes, the next way is taken.
//!
//! A call is placed once something of its answer is there. Until then nothing was delivered, and it can go another way.

use std::sync::Arc;

use bytes::Bytes;
use domain::{
    Fault,
    ports::model::{Barrier, CallNews, ModelFault},
};
use reqwest::Response;

use crate::{
    dialect::Complaint,
    patience::{Patience, asked},
    payment::{Order, Payer, Payment},
    route::{Chain, Route},
    upstream::{Failed, Outgoing, Refusal, Upstream},
    windows::{Held, Pass},
};

/// How much of the first piece of an answer is looked through for an error.
const LOOK_BYTES: usize = 512;

/// A call to be placed.
pub(crate) struct Call<'a> {
    pub payer: &'a Arc<Payer>,
    pub chain: &'a Chain,
    /// In the order in which they are tried.
    pub routes: Vec<Arc<Route>>,
    /// The model that a client names in its request; `None`: the route's.
    pub asked: Option<String>,
}

impl Call<'_> {
    /// The model that is asked for on a route: a fallback is there for its own.
    pub fn target<'r>(&'r self, route: &'r Route) -> &'r str {
        self.asked.as_deref().filter(|_| !route.is_fallback).unwrap_or(&route.model)
    }
}

/// What goes out on a route, and what it can cost.
pub(crate) struct Prepared {
    pub outgoing: Outgoing,
    pub order: Order,
}

/// An answer under way.
pub(crate) struct Placed {
    pub route: Arc<Route>,
    pub payment: Payment,
    pub response: Response,
    /// What came of the body already. `None`: it is over, and empty.
    pub first: Option<Bytes>,
}

/// Why there is no answer.
pub(crate) enum Unplaced {
    /// The provider refuses the request.
    Refused(Refusal, Arc<Route>),
    /// Every key is refused: what the last provider said, and the whole in a sentence.
    DeadKey(Box<Refusal>, String),
    Held(Held),
    /// No way is left: the host of the last one, and why it gave no answer.
    Unreached {
        host: String,
        why: String,
        /// What it said, if it said anything.
        refusal: Option<Box<Refusal>>,
    },
    OverBudget(String),
    Port(Fault),
}

impl Unplaced {
    /// Why no other call can be placed either.
    fn barrier(&self) -> Option<Barrier> {
        Some(match self {
            Self::DeadKey(_, why) => Barrier::DeadKey { why: why.clone() },
            Self::Held(Held { why, until }) => Barrier::Held { why: why.clone(), until: *until },
            Self::OverBudget(why) => Barrier::OverBudget { why: why.clone() },
            Self::Refused(..) | Self::Unreached { .. } | Self::Port(_) => return None,
        })
    }
}

impl From<Fault> for Unplaced {
    fn from(fault: Fault) -> Self {
        Self::Port(fault)
    }
}

/// How an answer begins.
enum Beginning {
    Good(Option<Bytes>),
    /// An error that can pass, in what should be a success.
    Hidden(Complaint),
    Lost(String),
}

/// A way that this call takes no more.
struct Left {
    window: u64,
    host: String,
    why: Why,
}

enum Why {
    Failed(String, Option<Box<Refusal>>),
    Held(Held),
}

impl Upstream {
    /// Places a call, and tells the attempt's watch when it goes out and when no call can. `payment`: of an earlier try of the same call.
    pub async fn place(
        &self,
        call: &Call<'_>,
        prepare: impl FnMut(&Route) -> Result<Prepared, Fault>,
        payment: Option<Payment>,
        patience: &mut Patience,
    ) -> Result<Placed, Unplaced> {
        let placed = self.try_all(call, prepare, payment, patience).await;
        if let Err(unplaced) = &placed
            && let Some(barrier) = unplaced.barrier()
        {
            call.payer.access.watch.tell(CallNews::Refused(barrier));
        }
        placed
    }

    async fn try_all(
        &self,
        call: &Call<'_>,
        mut prepare: impl FnMut(&Route) -> Result<Prepared, Fault>,
        mut paid: Option<Payment>,
        patience: &mut Patience,
    ) -> Result<Placed, Unplaced> {
        let mut left: Vec<Left> = Vec::new();
        let mut refused = None;
        loop {
            let window = |route: &Route| route.window(call.target(route));
            let is_open = |route: &&Arc<Route>| {
                let window = window(route);
                call.chain.is_dead(route.account.id).is_none() && !left.iter().any(|left| left.window == window)
            };
            let open: Vec<&Arc<Route>> = call.routes.iter().filter(is_open).collect();
            if open.is_empty() {
                return Err(no_way(call, left, refused));
            }
            let windows: Vec<u64> = open.iter().map(|route| window(route)).collect();
            let (at, pass) = self.windows().admit(&windows, patience).await.map_err(Unplaced::Held)?;
            let route = Arc::clone(open[at]);
            let Prepared { outgoing, order } = prepare(&route)?;
            // Another model has another price: its reservation is its own, and the old one is settled before.
            let kept = paid.take().filter(|payment| payment.is_for(&order.model));
            let mut payment = match kept {
                Some(payment) => payment,
                None => Payment::reserve(call.payer, order).await.map_err(|fault| match fault {
                    ModelFault::OverBudget(why) => Unplaced::OverBudget(why),
                    ModelFault::Port(fault) => Unplaced::Port(fault),
                    other => Unplaced::Port(Fault::bug(other.to_string())),
                })?,
            };
            payment.charge.sending();
            call.payer.access.watch.tell(CallNews::Asked);
            let mut said = None;
            let (why, quota) = match self.send(&outgoing).await? {
                Ok(mut response) if response.status().is_success() => match self.begin(&mut response).await {
                    Beginning::Good(first) => {
                        pass.served();
                        return Ok(Placed { route, payment, response, first });
                    }
                    Beginning::Hidden(complaint) => {
                        payment.charge.lost();
                        let pause = asked(response.headers(), &complaint, self.clock());
                        (complaint.to_string(), complaint.is_about_quota().then_some(pause))
                    }
                    Beginning::Lost(why) => {
                        payment.charge.lost();
                        (why, None)
                    }
                },
                Ok(response) => {
                    payment.charge.refused();
                    let refusal = self.refusal(response).await;
                    if refusal.is_about_the_key() {
                        tracing::warn!(host = route.account.host, account = route.account.name, %refusal, "a key is refused");
                        call.chain.bury(route.account.id, refusal.to_string());
                        refused = Some((refusal, route));
                        paid = Some(payment);
                        continue;
                    }
                    if !refusal.is_passing() {
                        return Err(Unplaced::Refused(refusal, route));
                    }
                    let pause = asked(&refusal.headers, &refusal.complaint, self.clock());
                    let is_quota = refusal.is_about_quota() || pause.is_some();
                    let told = (refusal.to_string(), is_quota.then_some(pause));
                    said = Some(Box::new(refusal));
                    told
                }
                Err(Failed { why, sent }) => {
                    if sent {
                        payment.charge.lost();
                    } else {
                        payment.charge.refused();
                    }
                    (why, None)
                }
            };
            paid = Some(payment);
            let host = route.account.host.clone();
            tracing::info!(
                host,
                account = route.account.name,
                why,
                tries = patience.tried(),
                "the model is asked again"
            );
            match quota {
                Some(pause) => {
                    let why = format!("{host} is out of quota ({why})");
                    let until = pass.shut(pause, &why);
                    if patience.again().is_err() {
                        left.push(Left { window: windows[at], host, why: Why::Held(Held { why, until }) });
                    }
                }
                None => {
                    // Nothing is known of the window: whoever waits for it may look.
                    drop::<Pass>(pass);
                    if patience.pause().await.is_err() {
                        let others = call.routes.iter().filter(|other| other.account.host == host);
                        left.extend(others.map(|other| Left {
                            window: window(other),
                            host: host.clone(),
                            why: Why::Failed(why.clone(), said.take()),
                        }));
                        // Whoever comes next has a patience of their own.
                        if call.routes.iter().any(|other| other.account.host != host) {
                            *patience = self.patience();
                        }
                    }
                }
            }
        }
    }

    /// Waits until something of an answer's body is there.
    async fn begin(&self, response: &mut Response) -> Beginning {
        match self.piece(response).await {
            Ok(Some(first)) => match hidden(&first) {
                Some(complaint) if complaint.is_passing() => Beginning::Hidden(complaint),
                Some(_) | None => Beginning::Good(Some(first)),
            },
            Ok(None) => Beginning::Good(None),
            Err(why) => Beginning::Lost(why),
        }
    }
}

/// The error that an answer begins with: as a document, or as the first event of a stream.
fn hidden(first: &Bytes) -> Option<Complaint> {
    let front = &first[..first.len().min(LOOK_BYTES)];
    memchr::memmem::find(front, br#""error""#)?;
    let text = str::from_utf8(first).ok()?;
    let json = if text.trim_start().starts_with('{') {
        text
    } else {
        text.lines().find_map(|line| line.strip_prefix("data:"))?
    };
    Complaint::read(json.trim())
}

/// What to say when every way was tried.
fn no_way(call: &Call<'_>, left: Vec<Left>, refused: Option<(Refusal, Arc<Route>)>) -> Unplaced {
    let mut held: Option<Held> = None;
    let mut failed = None;
    for Left { host, why, .. } in left {
        match why {
            Why::Failed(why, refusal) => failed = Some(Unplaced::Unreached { host, why, refusal }),
            Why::Held(one) if held.as_ref().is_none_or(|before| one.until < before.until) => held = Some(one),
            Why::Held(_) => {}
        }
    }
    if let Some(held) = held {
        return Unplaced::Held(held);
    }
    if let Some(failed) = failed {
        return failed;
    }
    let first = call.routes.first().map(|route| route.account.host.as_str()).unwrap_or_default();
    let dead = call.routes.iter().find_map(|route| call.chain.is_dead(route.account.id)).unwrap_or_default();
    let (refusal, host, said) = match refused {
        Some((refusal, route)) => {
            let said = refusal.to_string();
            (refusal, route.account.host.clone(), said)
        }
        None => (Refusal::dead(&dead), first.to_owned(), dead),
    };
    let why =
        format!("{host} refuses the key ({said}); check it at the provider, then `overnight key set` or set it anew");
    Unplaced::DeadKey(Box::new(refusal), why)
}
