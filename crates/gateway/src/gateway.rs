//! The port [`Gateways`], and what it is made of.

use std::sync::Arc;

use domain::{
    Fault,
    budget::Purse,
    ids::AttemptKey,
    ports::{
        BoxFuture, Clock,
        ledger::Ledger,
        model::{
            Access, Comparing, Credentials, Endpoint, Gateways, Model, ModelAsk, ModelInfo, Replayed, ResolvedModel,
            TriedModel,
        },
        record::Exchange,
    },
};
use tokio::sync::OnceCell;

use crate::{
    call::BoundModel,
    patience::Retry,
    proxy::{Proxy, Rewrites},
    route::{self, Route},
    upstream::{Deadlines, Upstream},
};

/// What a gateway works with.
#[derive(Clone)]
pub struct Options {
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    pub retry: Retry,
    pub deadlines: Deadlines,
    /// The output cap, in tokens, of an agent's call that names none: without a cap there is no telling what to reserve.
    pub output_cap: u32,
}

impl Options {
    /// The usual bounds.
    pub fn new(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) -> Self {
        Self { ledger, clock, retry: Retry::default(), deadlines: Deadlines::default(), output_cap: 16_384 }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("retry", &self.retry)
            .field("deadlines", &self.deadlines)
            .field("output_cap", &self.output_cap)
            .finish_non_exhaustive()
    }
}

/// The way to all models. Its proxy ends with it.
pub struct Gateway {
    ledger: Arc<dyn Ledger>,
    upstream: Arc<Upstream>,
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
    /// Opens nothing yet: neither a connection nor a port.
    pub fn new(options: Options) -> Arc<Self> {
        let Options { ledger, clock, retry, deadlines, output_cap } = options;
        let upstream = Arc::new(Upstream::new(deadlines, retry, clock));
        Arc::new(Self { ledger, upstream, output_cap, proxy: OnceCell::new() })
    }

    /// How often requests of agents' own clients were changed, since the start.
    pub fn rewrites(&self) -> Rewrites {
        self.proxy.get().map(Proxy::rewrites).unwrap_or_default()
    }
}

impl Gateways for Gateway {
    fn resolve(&self, ask: ModelAsk<'_>) -> Result<ResolvedModel, Fault> {
        route::resolve(ask)
    }

    fn model(&self, access: Access) -> Result<Arc<dyn Model>, Fault> {
        let (dialect, bare) = route::named(&access.model)?;
        let model = bare.to_owned();
        let route = Route::new(dialect, &access.credentials)?;
        let (upstream, ledger) = (Arc::clone(&self.upstream), Arc::clone(&self.ledger));
        Ok(Arc::new(BoundModel { upstream, ledger, access, route, model }))
    }

    fn endpoint(&self, access: Access) -> BoxFuture<'_, Result<Endpoint, Fault>> {
        Box::pin(async move {
            let open = || Proxy::open(Arc::clone(&self.upstream), Arc::clone(&self.ledger), self.output_cap);
            let ask = ModelAsk {
                name: Some(&access.model),
                credentials: &access.credentials,
                budget: &access.budget,
                protocols: &[],
            };
            let protocols = route::resolve(ask)?.protocols;
            let model = route::named(&access.model)?.1.to_owned();
            Ok(self.proxy.get_or_try_init(open).await?.admit(access, model, protocols))
        })
    }

    fn models(&self, _: Credentials) -> BoxFuture<'_, Vec<ModelInfo>> {
        Box::pin(async { Vec::new() })
    }

    fn try_out(&self, name: String, _: Credentials, _: Vec<Purse>) -> BoxFuture<'_, Result<TriedModel, Fault>> {
        Box::pin(async move { Err(Fault::bug(format!("`{name}` cannot be tried out yet"))) })
    }

    fn replay(&self, key: AttemptKey, _: Vec<Exchange>, _: Comparing) -> BoxFuture<'_, Result<Replayed, Fault>> {
        Box::pin(async move { Err(Fault::bug(format!("{key} cannot be replayed yet"))) })
    }
}
