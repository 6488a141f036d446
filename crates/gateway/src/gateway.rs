//! The port [`Gateways`], and what it is made of.

use std::{sync::Arc, time::Instant};

use domain::{
    Fault,
    budget::{Budget, Purse},
    ids::{AttemptKey, AttemptNo, TaskId, TurnNo},
    ports::{
        BoxFuture, Clock,
        ledger::Ledger,
        model::{
            Access, CallNews, CallWatch, Comparing, Credentials, Endpoint, Gateways, Message, Model, ModelAsk,
            ModelFault, ModelInfo, ModelRequest, Part, Replayed, ResolvedModel, Role, TriedModel,
        },
        record::{Exchange, Records},
    },
};
use tokio::sync::OnceCell;

use crate::{
    call::{BoundModel, Told},
    catalogue::{Catalogue, ModelConfig},
    listing,
    patience::Retry,
    payment::Payer,
    providers::ProviderConfig,
    proxy::{self, Proxy, Rewrites},
    record::Recorder,
    replay,
    route::Chain,
    upstream::{Deadlines, Upstream},
};

/// The output cap of a trial: models that think before they speak need some room for it.
const TRIAL_TOKENS: u32 = 1024;

/// Hears of the calls of no attempt.
struct Nobody;

impl CallWatch for Nobody {
    fn tell(&self, _: CallNews) {}
}

/// What a gateway works with.
#[derive(Clone)]
pub struct Options {
    pub ledger: Arc<dyn Ledger>,
    /// Where exchanges are kept; `None`: nowhere.
    pub records: Option<Arc<dyn Records>>,
    pub clock: Arc<dyn Clock>,
    pub retry: Retry,
    pub deadlines: Deadlines,
    /// The output cap, in tokens, of an agent's call that names none: without a cap there is no telling what to reserve.
    pub output_cap: u32,
    /// Besides those that are known.
    pub providers: Vec<ProviderConfig>,
    pub models: Vec<ModelConfig>,
}

impl Options {
    /// The usual bounds, and no record.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Self {
        Self {
            ledger,
            records: None,
            clock,
            retry: Retry::default(),
            deadlines: Deadlines::default(),
            output_cap: 16_384,
            providers: Vec::new(),
            models: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("retry", &self.retry)
            .field("deadlines", &self.deadlines)
            .field("output_cap", &self.output_cap)
            .field("providers", &self.providers)
            .field("models", &self.models)
            .finish_non_exhaustive()
    }
}

/// The way to all models. Its proxy ends with it.
pub struct Gateway {
    ledger: Arc<dyn Ledger>,
    records: Option<Arc<dyn Records>>,
    clock: Arc<dyn Clock>,
    upstream: Arc<Upstream>,
    catalogue: Arc<Catalogue>,
    output_cap: u32,
    /// Opened for the first agent with a client of its own.
    proxy: OnceCell<Proxy>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

impl Gateway {
    /// Opens nothing yet: neither a connection nor a port. `Input`: providers or models of the configuration cannot be.
    pub fn new(options: Options) -> Result<Arc<Self>, Fault> {
        let Options { ledger, records, clock, retry, deadlines, output_cap, providers, models } = options;
        let upstream = Arc::new(Upstream::new(deadlines, retry, Arc::clone(&clock)));
        let catalogue = Arc::new(Catalogue::new(providers, models)?);
        Ok(Arc::new(Self { ledger, records, clock, upstream, catalogue, output_cap, proxy: OnceCell::new() }))
    }

    fn bound(&self, access: Access, records: Option<Arc<dyn Records>>) -> Result<BoundModel, Fault> {
        let chain = Chain::new(&self.catalogue, &access.model, &access.credentials)?;
        let recorder = Recorder::new(records, Arc::clone(&self.clock), &access, None);
        let payer = Payer::new(access, Arc::clone(&self.ledger));
        Ok(BoundModel { upstream: Arc::clone(&self.upstream), payer, recorder, chain })
    }

    /// How often requests of agents' own clients were changed, since the start.
    pub fn rewrites(&self) -> Rewrites {
        self.proxy.get().map(Proxy::rewrites).unwrap_or_default()
    }
}

impl Gateways for Gateway {
    fn resolve(&self, ask: ModelAsk<'_>) -> Result<ResolvedModel, Fault> {
        self.catalogue.resolve(ask, self.upstream.today())
    }

    fn model(&self, access: Access) -> Result<Arc<dyn Model>, Fault> {
        Ok(Arc::new(self.bound(access, self.records.clone())?))
    }

    fn endpoint(&self, access: Access) -> BoxFuture<'_, Result<Endpoint, Fault>> {
        Box::pin(async move {
            let chain = Chain::new(&self.catalogue, &access.model, &access.credentials)?;
            let proxy = self.proxy.get_or_try_init(|| Proxy::open(Arc::clone(&self.upstream), self.output_cap)).await?;
            let token = proxy::token();
            let recorder = Recorder::new(self.records.clone(), Arc::clone(&self.clock), &access, Some(&token));
            Ok(proxy.admit(token, Payer::new(access, Arc::clone(&self.ledger)), recorder, chain))
        })
    }

    fn models(&self, credentials: Credentials) -> BoxFuture<'_, Vec<ModelInfo>> {
        Box::pin(async move { listing::models(&self.catalogue, &self.upstream, &credentials).await })
    }

    fn try_out(
        &self,
        name: String,
        credentials: Credentials,
        purses: Vec<Purse>,
    ) -> BoxFuture<'_, Result<TriedModel, Fault>> {
        Box::pin(async move {
            let budget = Budget::default();
            let ask = ModelAsk { name: Some(&name), credentials: &credentials, budget: &budget, protocols: &[] };
            let access = Access {
                // Of no task: it is paid from the purses alone.
                key: AttemptKey { task: TaskId(0), attempt: AttemptNo(0) },
                turn: TurnNo(0),
                model: self.resolve(ask)?.name,
                credentials,
                budget,
                purses,
                redactor: Arc::default(),
                watch: Arc::new(Nobody),
            };
            let model = self.bound(access, None)?;
            let text = "Answer with the one word: ready".to_owned();
            let messages = [Message { role: Role::User, parts: vec![Part::Text { text }] }];
            let begun = Instant::now();
            let request = ModelRequest { system: "", tools: &[], messages: &messages, max_output: TRIAL_TOKENS };
            let Told { reply, counted, route } = model.told(&request).await.map_err(|fault| match fault {
                ModelFault::Port(fault) => fault,
                ModelFault::Held { .. } | ModelFault::Unavailable(_) => Fault::transient(fault.to_string()),
                fault => Fault::input(fault.to_string()),
            })?;
            let said = reply.message.parts.into_iter().filter_map(|part| match part {
                Part::Text { text } => Some(text),
                _ => None,
            });
            let price = self.catalogue.price(&route.provider, &route.model, self.upstream.today());
            Ok(TriedModel {
                name,
                host: route.account.host.clone(),
                account: route.account.name.clone(),
                text: said.collect(),
                usage: reply.usage,
                cost: price.map(|price| price.cost(&counted)),
                milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        })
    }

    fn replay(
        &self,
        key: AttemptKey,
        record: Vec<Exchange>,
        told: Comparing,
    ) -> BoxFuture<'_, Result<Replayed, Fault>> {
        Box::pin(async move { replay::open(record, told).await.map_err(|fault| fault.at(key)) })
    }
}
