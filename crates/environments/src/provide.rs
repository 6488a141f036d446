//! Which layer serves a base, and when one is built.

use std::sync::Arc;

use domain::{
    Fault,
    environment::{Definition, EnvironmentId, EnvironmentUse, Health, Source},
    ports::{
        egress::Refusals,
        environments::{BuildRequest, Built, Layer, Start},
        workspace::{CheckoutRequest, Prepared, Repository, Surroundings},
    },
};

use crate::{
    Environments, Site,
    about::{Dependencies, Key, Known},
    build::{Build, Log, OUTPUT, REFUSALS},
    definition,
    flights::Arrival,
    furnish::{Reach, Request},
    health, line,
    secrets::Used,
    services,
};

/// Layers that are asked whether they serve, newest first: an older one helps little.
const ASKED: usize = 8;

/// What is known of a base and the layers there are.
struct Survey {
    definition: Arc<Definition>,
    key: Key,
    /// Of the same confinement, newest first.
    layers: Vec<Known>,
}

impl Survey {
    /// The newest layer built for exactly this.
    fn exact(&self) -> Option<&Known> {
        self.layers.iter().find(|known| known.about.key == self.key)
    }
}

impl Environments {
    async fn survey(&self, request: &BuildRequest) -> Result<Survey, Fault> {
        let BuildRequest { repository, base, confinement, .. } = request;
        let definition = self.defined(repository, base).await?;
        let key = Key::of(base, &definition, *confinement)?;
        let layers = self.site.rooms().workspaces.environments(repository.clone()).await?;
        let layers = layers.into_iter().filter_map(Known::read);
        // Paths of the one mean nothing to the other.
        let layers = layers.filter(|known| known.about.confinement == *confinement).collect();
        Ok(Survey { definition, key, layers })
    }

    /// The newest of these layers that may lie under a workspace of the base.
    async fn serving(&self, survey: &Survey, request: &BuildRequest) -> Result<Option<Known>, Fault> {
        if let Some(exact) = survey.exact() {
            return Ok(Some(exact.clone()));
        }
        for known in survey.layers.iter().take(ASKED) {
            let (repository, base) = (request.repository.clone(), request.base.clone());
            if self.site.rooms().workspaces.serves(repository, known.layer.id.clone(), base).await? {
                return Ok(Some(known.clone()));
            }
        }
        Ok(None)
    }

    pub(crate) async fn provided(&self, request: BuildRequest) -> Result<EnvironmentUse, Fault> {
        let survey = self.survey(&request).await?;
        let without = |note: Option<String>| EnvironmentUse { layer: None, health: Health::Unknown, note };
        let source = definition::told(&survey.definition.source);
        let was_built = survey.layers.iter().any(|known| known.about.source == source);
        if survey.definition.install.is_empty() && !was_built {
            return Ok(without(None));
        }
        let Some(known) = self.serving(&survey, &request).await? else {
            return match &survey.definition.source {
                Source::Detected(_) | Source::Nothing if survey.layers.is_empty() => {
                    let note = format!("No environment is built ({source}): `overnight env build` makes one.");
                    Ok(without(Some(note)))
                }
                Source::Detected(_) | Source::File(_) | Source::Nothing => {
                    (request.told)("building the environment of this base first");
                    Ok(self.launch(&survey, None, request, Start::Newest)?.await?.used)
                }
            };
        };
        let health = self.health(&request.repository, &known).await;
        let layer = Some(known.layer.id.clone());
        if known.about.key == survey.key {
            return Ok(EnvironmentUse { layer, health, note: None });
        }
        let base = self.site.base(&request.repository, &request.base);
        let is_dated = Dependencies::of(&base, &survey.definition).await? != known.about.dependencies;
        let mut note = match self.flights.failed(&(request.repository.id.clone(), survey.key.id(0)?)) {
            Some(fault) => {
                let first = fault.what.lines().next().unwrap_or_default();
                format!("The {} serves: building a newer one failed: {first}.", known.name())
            }
            None => {
                let told = Arc::new(|line: &str| tracing::debug!("{line}"));
                // It goes on by itself; who asks next finds its layer, or why there is none.
                drop(self.launch(&survey, Some(known.clone()), BuildRequest { told, ..request }, Start::Newest)?);
                format!("The {} serves while a newer one is built.", known.name())
            }
        };
        if is_dated {
            note.push_str(" It has the dependencies of an older lock file or definition.");
        }
        Ok(EnvironmentUse { layer, health, note: Some(note) })
    }

    pub(crate) async fn built(&self, request: BuildRequest, start: Start) -> Result<Built, Fault> {
        let survey = self.survey(&request).await?;
        if survey.definition.install.is_empty() && request.checks.is_empty() {
            return Err(Fault::input("there is nothing to install, and no check whose caches could be warmed")
                .hint(format!("write [environment] install = [\"…\"] in {} and commit it", definition::OVERNIGHT)));
        }
        let over = match start {
            Start::Newest => self.serving(&survey, &request).await?,
            // For its caches.
            Start::Nothing if survey.definition.caches.is_empty() => None,
            Start::Nothing => survey.layers.first().cloned(),
        };
        self.launch(&survey, over, request, start)?.await
    }

    /// Begins a build, or joins the one of the same layer that is under way.
    fn launch(
        &self,
        survey: &Survey,
        over: Option<Known>,
        request: BuildRequest,
        start: Start,
    ) -> Result<Arrival, Fault> {
        let generation = survey.exact().map_or(0, |known| known.about.generation + 1);
        let id = survey.key.id(generation)?;
        let name = (request.repository.id.clone(), id.clone());
        let (site, definition, key) = (Arc::clone(&self.site), Arc::clone(&survey.definition), survey.key.clone());
        Ok(self.flights.join(name, Arc::clone(&request.told), move |told| {
            let request = BuildRequest { told, ..request };
            Build { site, request, definition, start, key, generation, id, over }.carry_out()
        }))
    }

    pub(crate) async fn checked(&self, request: BuildRequest) -> Result<EnvironmentUse, Fault> {
        let survey = self.survey(&request).await?;
        let Some(known) = self.serving(&survey, &request).await? else {
            return Err(Fault::not_found(format!("no environment serves base {}", request.base.short()))
                .hint("`overnight env build` makes one"));
        };
        let id = known.layer.id.clone();
        let (site, definition) = (Arc::clone(&self.site), Arc::clone(&survey.definition));
        let (repository, layer) = (request.repository.clone(), id.clone());
        // By a task of its own: the checkout is cleared away though nobody waits any more.
        let looked = tokio::spawn(async move { site.look(&definition, &request, layer).await }).await;
        let health = looked.map_err(|error| Fault::bug(format!("a look at an environment broke off: {error}")))??;
        self.remember(&repository, &known, &health).await?;
        let note = (known.about.key != survey.key).then(|| format!("The {} serves.", known.name()));
        Ok(EnvironmentUse { layer: Some(id), health, note })
    }

    pub(crate) async fn known_layers(&self, repository: Repository) -> Result<Vec<Layer>, Fault> {
        let layers = self.site.rooms().workspaces.environments(repository.clone()).await?;
        let mut all = Vec::new();
        for known in layers.into_iter().filter_map(Known::read) {
            let health = self.health(&repository, &known).await;
            let Known { layer, about } = known;
            all.push(Layer { layer, health, source: about.source, seconds: about.seconds, log: about.log });
        }
        Ok(all)
    }

    /// As it was last found.
    async fn health(&self, repository: &Repository, known: &Known) -> Health {
        let later = self.site.rooms().cache.get(remembered_as(repository, known)).await.unwrap_or_else(|fault| {
            tracing::warn!(%fault, "an environment's health is told as it was built");
            None
        });
        let later = later.and_then(|later| serde_json::from_str(&later).ok());
        later.unwrap_or_else(|| known.about.health.clone())
    }

    async fn remember(&self, repository: &Repository, known: &Known, health: &Health) -> Result<(), Fault> {
        let health = serde_json::to_string(health)
            .map_err(|error| Fault::bug(format!("an environment's health cannot be written down: {error}")))?;
        self.site.rooms().cache.put(remembered_as(repository, known), health).await
    }
}

impl Site {
    /// What the checks say of the base in a fresh checkout over this layer.
    async fn look(
        &self,
        definition: &Definition,
        request: &BuildRequest,
        layer: EnvironmentId,
    ) -> Result<Health, Fault> {
        let workspaces = &self.rooms().workspaces;
        let name = format!("health-{}-{}", layer.short(), jiff::Timestamp::now().as_nanosecond());
        let checkout = CheckoutRequest {
            repository: request.repository.clone(),
            commit: request.base.clone(),
            protect: None,
            name: name.clone(),
            surroundings: Surroundings { environment: Some(layer), confinement: request.confinement },
        };
        let health = match workspaces.checkout(checkout).await {
            Ok(place) => self.examine(definition, &place, request).await,
            Err(fault) => Err(fault),
        };
        workspaces.discard_checkout(name).await;
        health
    }

    async fn examine(
        &self,
        definition: &Definition,
        place: &Prepared,
        request: &BuildRequest,
    ) -> Result<Health, Fault> {
        let used = Used::of(&*self.rooms().secrets, &request.repository, definition).await?;
        let blocked = Refusals::at_most(REFUSALS);
        let sandbox = Request {
            repository: &request.repository,
            definition,
            place,
            reach: Reach::Check,
            confinement: request.confinement,
            programs: Vec::new(),
            allow: Vec::new(),
            env: line::environment().collect(),
            bridges: Vec::new(),
            refused: blocked.receiver(),
            output_bytes: OUTPUT,
        };
        let furnished = self.furnish(sandbox, &used).await?;
        let mut log = Log::default();
        for note in services::start(&furnished, &definition.services).await {
            log.say(&note);
        }
        let found = health::find(&**furnished.sandbox(), request, &mut log).await;
        furnished.sandbox().kill().await;
        Ok(found?.blocked(&blocked.all()).of(log.keep(self).await))
    }
}

fn remembered_as(repository: &Repository, known: &Known) -> String {
    format!("environment-health-{}-{}", repository.id.0, known.layer.id)
}
