//! Placing a call: the first way that is open is taken; what can pass is waited for; where nothing passes, the next way is taken.
//!
//! A call is placed once something of its answer is there. Until then nothing was delivered, and it can go another way.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::{
    Fault,
    ports::model::{Barrier, CallNews, ModelFault},
};
use reqwest::{Response, StatusCode};

use crate::{
    dialect::Complaint,
    patience::{Patience, asked, whole},
    payment::{Order, Payer, Payment},
    providers::Account,
    route::{Chain, Route},
    upstream::{Failed, Outgoing, Refusal, Upstream},
    windows::Held,
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

    /// Whether a client asks for something beside the model that works on the task: a title, a summary. That it cannot have it
    /// says nothing of the attempt's own calls.
    fn is_beside(&self) -> bool {
        self.asked.as_ref().is_some_and(|asked| self.routes.iter().all(|route| route.model != *asked))
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
    /// A model beside the task's own has no known price, and money is bounded.
    Unpriced(String),
    Port(Fault),
}

impl Unplaced {
    /// Why no other call can be placed either.
    fn barrier(&self) -> Option<Barrier> {
        Some(match self {
            Self::DeadKey(_, why) => Barrier::DeadKey { why: why.clone() },
            Self::Held(Held { why, until }) => Barrier::Held { why: why.clone(), until: *until },
            Self::OverBudget(why) => Barrier::OverBudget { why: why.clone() },
            Self::Refused(..) | Self::Unreached { .. } | Self::Unpriced(_) | Self::Port(_) => return None,
        })
    }
}

impl From<Fault> for Unplaced {
    fn from(fault: Fault) -> Self {
        Self::Port(fault)
    }
}

/// What one try came to.
enum Tried {
    /// With the first piece of its body.
    Answered(Response, Option<Bytes>),
    DeadKey(Refusal),
    Refused(Refusal),
    Passing(Setback),
}

/// What stands in the way now, and may not later.
struct Setback {
    why: String,
    /// Whether nobody need ask for a while, and for how long where the provider says so.
    shut: Option<Option<Duration>>,
    /// In the provider's own words.
    said: Option<Box<Refusal>>,
}

impl Setback {
    fn of(why: String) -> Self {
        Self { why, shut: None, said: None }
    }
}

/// The ways that a call takes no more, and why.
struct Course<'a, 'b> {
    call: &'a Call<'b>,
    failed: Vec<u64>,
    held: Vec<(u64, Held)>,
    /// The last provider that gave no answer.
    unreached: Option<Unplaced>,
    /// The last one that refused a key.
    refused: Option<(Refusal, Arc<Route>)>,
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
        let mut course = Course { call, failed: Vec::new(), held: Vec::new(), unreached: None, refused: None };
        loop {
            let (routes, windows) = course.open();
            if routes.is_empty() {
                return Err(course.end());
            }
            let (at, pass) = self.windows().admit(&windows, patience).await.map_err(Unplaced::Held)?;
            let (route, window) = (Arc::clone(routes[at]), windows[at]);
            let Prepared { outgoing, order } = prepare(&route)?;
            if order.price.is_none() && call.is_beside() && call.payer.counts_money() {
                return Err(Unplaced::Unpriced(format!(
                    "`{}` has no known price, and the budget is in money: name one under [models] in config.toml",
                    order.model
                )));
            }
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
            call.payer.access.watch.tell(CallNews::Asked);
            match self.try_once(&outgoing, &mut payment).await? {
                Tried::Answered(response, first) => {
                    pass.served();
                    return Ok(Placed { route, payment, response, first });
                }
                Tried::Refused(refusal) => return Err(Unplaced::Refused(refusal, route)),
                // A key that opens this model not may open the task's own.
                Tried::DeadKey(refusal) if refusal.status == StatusCode::FORBIDDEN && call.is_beside() => {
                    return Err(Unplaced::Refused(refusal, route));
                }
                Tried::DeadKey(refusal) => {
                    let Account { host, name, .. } = &route.account;
                    tracing::warn!(host, account = name, %refusal, "a key is refused");
                    call.chain.bury(route.account.id, refusal.to_string());
                    course.refused = Some((refusal, route));
                }
                Tried::Passing(setback) => {
                    let Account { host, name, .. } = &route.account;
                    let (why, tries) = (&setback.why, patience.tried());
                    tracing::info!(host, account = name, why, tries, "the model is asked again");
                    match setback.shut {
                        Some(pause) => {
                            let why = format!("{host} is out of quota ({why})");
                            let until = pass.shut(pause, &why);
                            if patience.again().is_err() {
                                course.held.push((window, Held { why, until }));
                            }
                        }
                        None => {
                            // Nothing is known of the window: whoever waits for it may look.
                            drop(pass);
                            if patience.pause().await.is_err() && course.leave(host, setback) {
                                // Whoever comes next has a patience of their own.
                                *patience = self.patience();
                            }
                        }
                    }
                }
            }
            paid = Some(payment);
        }
    }

    /// Sends, and waits until something of the answer's body is there.
    async fn try_once(&self, outgoing: &Outgoing, payment: &mut Payment) -> Result<Tried, Fault> {
        payment.charge.sending();
        let mut response = match self.send(outgoing).await? {
            Ok(response) => response,
            Err(Failed { why, sent }) => {
                if sent {
                    payment.charge.lost();
                } else {
                    payment.charge.refused();
                }
                return Ok(Tried::Passing(Setback::of(why)));
            }
        };
        if !response.status().is_success() {
            payment.charge.refused();
            let refusal = self.refusal(outgoing, response).await;
            return Ok(if refusal.is_about_the_key() {
                Tried::DeadKey(refusal)
            } else if refusal.is_passing() {
                let shut = match asked(&refusal.headers, self.clock()) {
                    _ if refusal.is_about_quota() => Some(whole(&refusal.headers, &refusal.complaint, self.clock())),
                    pause => pause.map(Some),
                };
                Tried::Passing(Setback { why: refusal.to_string(), shut, said: Some(Box::new(refusal)) })
            } else {
                Tried::Refused(refusal)
            });
        }
        let why = match self.piece(&mut response).await {
            Ok(first) => match first.as_ref().and_then(|first| hidden(first, outgoing)).filter(Complaint::is_passing) {
                None => return Ok(Tried::Answered(response, first)),
                Some(complaint) => {
                    payment.charge.lost();
                    let shut = complaint.is_about_quota().then(|| whole(response.headers(), &complaint, self.clock()));
                    return Ok(Tried::Passing(Setback { shut, ..Setback::of(complaint.to_string()) }));
                }
            },
            Err(why) => why,
        };
        payment.charge.lost();
        Ok(Tried::Passing(Setback::of(why)))
    }
}

impl<'a> Course<'a, '_> {
    fn window(&self, route: &Route) -> u64 {
        route.window(self.call.target(route))
    }

    /// The ways that are left, in their order, each with its window.
    fn open(&self) -> (Vec<&'a Arc<Route>>, Vec<u64>) {
        let call = self.call;
        let ways = call.routes.iter().map(|route| (route, self.window(route)));
        let is_left = |window: u64| self.failed.contains(&window) || self.held.iter().any(|(held, _)| *held == window);
        ways.filter(|(route, window)| call.chain.is_dead(route.account.id).is_none() && !is_left(*window)).unzip()
    }

    /// Takes no way to this host any more. True when there are others.
    fn leave(&mut self, host: &str, setback: Setback) -> bool {
        let (its, others): (Vec<_>, Vec<_>) = self.call.routes.iter().partition(|route| route.account.host == host);
        let windows: Vec<u64> = its.into_iter().map(|route| self.window(route)).collect();
        self.failed.extend(windows);
        self.unreached = Some(Unplaced::Unreached { host: host.to_owned(), why: setback.why, refusal: setback.said });
        !others.is_empty()
    }

    /// What to say when every way was tried.
    fn end(self) -> Unplaced {
        if let Some((_, held)) = self.held.into_iter().min_by_key(|(_, held)| held.until) {
            return Unplaced::Held(held);
        }
        if let Some(unreached) = self.unreached {
            return unreached;
        }
        let (refusal, host) = match self.refused {
            Some((refusal, route)) => (refusal, route.account.host.clone()),
            // In an earlier call.
            None => {
                let mut dead = self.call.routes.iter().filter_map(|route| {
                    Some((Refusal::dead(&self.call.chain.is_dead(route.account.id)?), route.account.host.clone()))
                });
                dead.next().unwrap_or_else(|| (Refusal::dead("there is no account"), String::new()))
            }
        };
        let why = format!(
            "{host} refuses the key ({}); check it at the provider, then `overnight key set` or set it anew",
            refusal.complaint
        );
        Unplaced::DeadKey(Box::new(refusal), why)
    }
}

/// The error that an answer begins with: as a document, or as the first event of a stream.
fn hidden(first: &Bytes, outgoing: &Outgoing) -> Option<Complaint> {
    let front = &first[..first.len().min(LOOK_BYTES)];
    memchr::memmem::find(front, br#""error""#)?;
    let first = outgoing.without_key(first.clone());
    let text = str::from_utf8(&first).ok()?;
    let json = if text.trim_start().starts_with('{') {
        text
    } else {
        text.lines().find_map(|line| line.strip_prefix("data:"))?
    };
    Complaint::read(json.trim())
}
