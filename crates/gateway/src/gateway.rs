//! The port [`Gateways`], and what it is made of.

use std::sync::Arc;

use domain::{
    Fault,
    budget::{Budget, Purse},
    ports::{
        BoxFuture, Clock,
        ledger::Ledger,
        model::{
            Access, Credentials, Endpoint, Gateways, Model, ModelAsk, ModelInfo, ReplayRequest, Replayed,
            ResolvedModel, TriedModel,
        },
        record::Records,
    },
};
use tokio::sync::OnceCell;

use crate::{
    call::BoundModel,
    catalogue::{Catalogue, ModelConfig},
    listing,
    patience::Retry,
    payment::Payer,
    providers::ProviderConfig,
    proxy::{self, Proxy, Rewrites},
    record::Recorder,
    replay,
    route::Chain,
    trial,
    upstream::{Deadlines, Upstream},
};

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
            let access = trial::access(self.resolve(ask)?.name, credentials, purses);
            trial::run(&self.bound(access, None)?, name).await
        })
    }

    fn replay(&self, request: ReplayRequest) -> BoxFuture<'_, Result<Replayed, Fault>> {
        let key = request.key;
        Box::pin(async move { replay::open(request).await.map_err(|fault| fault.at(key)) })
    }
}
