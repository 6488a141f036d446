//! How a turn's agent comes to its model: whose keys, whose money, and what it may see of the host for it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use bytes::Bytes;
use domain::{
    Fault, FaultClass,
    brief::Login,
    budget::{Purse, Spender, purses},
    ids::{AttemptKey, TurnNo},
    ports::{
        agent::{Agent, ModelNeed, Needs, OwnLogin},
        egress::MODEL_PORT,
        model::{Access, CallWatch, Credentials, Endpoint, Model, ModelAsk},
        sandbox::{Bridge, Confinement},
    },
    task::Task,
};

use super::{Site, clean_up::secrets_scope};

/// One turn's way to its model.
#[derive(Default)]
pub(crate) struct Way {
    pub model: Option<Arc<dyn Model>>,
    pub side_model: Option<Arc<dyn Model>>,
    pub endpoint: Option<Endpoint>,
    pub bridges: Vec<Bridge>,
    /// Files of a lent login, and the hosts they are good for.
    pub login: Vec<(String, Bytes)>,
    pub allow: Vec<String>,
    pub programs: Vec<PathBuf>,
}

/// The task's own keys, and the installation's where the task has none.
pub(crate) async fn credentials(site: &Site, task: &Task) -> Result<Credentials, Fault> {
    let secrets = &site.ports.secrets;
    let mut credentials = secrets.get("home".to_owned()).await?;
    credentials.0.extend(secrets.get(secrets_scope(task.id)).await?.0);
    Ok(credentials)
}

/// What a call of this attempt is paid from today, beside its task's budget.
fn purses_of(site: &Site, task: &Task, key: AttemptKey) -> Vec<Purse> {
    let person = task.submitted_by.to_string();
    purses(&site.terms.budgets, Spender { key: Some(key), person: &person, labels: &task.brief.labels }, today(site))
}

/// The same for a call that a person makes without a task.
pub(crate) fn purses_for(site: &Site, person: &str) -> Vec<Purse> {
    purses(&site.terms.budgets, Spender { key: None, person, labels: &BTreeMap::new() }, today(site))
}

/// A day of people's calendars ends where they are.
pub(crate) fn today(site: &Site) -> jiff::civil::Date {
    site.ports.clock.now().to_zoned(jiff::tz::TimeZone::system()).date()
}

/// Whose turn it is.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    pub site: &'a Site,
    pub task: &'a Task,
    pub key: AttemptKey,
    pub turn: TurnNo,
}

impl Caller<'_> {
    /// The way for this agent. The inner error: why there is none, in a way that a person must mend.
    pub async fn way(
        self,
        agent: &dyn Agent,
        model: Option<&str>,
        watch: Arc<dyn CallWatch>,
    ) -> Result<Result<Way, String>, Fault> {
        let needs = match agent.needs() {
            Ok(needs) => needs,
            Err(fault) => return Ok(Err(fault.to_string())),
        };
        let mut way = Way { programs: needs.programs.clone(), ..Way::default() };
        if self.task.brief.agent.login == Login::Own {
            return Ok(self.lend(&needs, way).await?.map_err(|fault| fault.to_string()));
        }
        let model = match (needs.model, model) {
            (ModelNeed::None, _) | (ModelNeed::Offered, None) => return Ok(Ok(way)),
            (ModelNeed::Required | ModelNeed::Client, None) => return Ok(Err("the task has no model".to_owned())),
            (ModelNeed::Offered | ModelNeed::Required | ModelNeed::Client, Some(model)) => model.to_owned(),
        };
        let access = self.access(model, watch).await?;
        let gateways = &self.site.ports.gateways;
        let reached = match needs.model {
            ModelNeed::Required => {
                way.side_model = self.side_model(&access)?;
                gateways.model(access).map(|model| way.model = Some(model))
            }
            ModelNeed::None | ModelNeed::Offered | ModelNeed::Client => {
                gateways.endpoint(access).await.map(|endpoint| way.endpoint = Some(endpoint))
            }
        };
        if let Err(fault) = reached {
            return Ok(Err(fault.to_string()));
        }
        if let (Confinement::Confined, Some(endpoint)) = (self.task.confinement, &mut way.endpoint) {
            endpoint.url = format!("http://127.0.0.1:{MODEL_PORT}");
            way.bridges.push(Bridge { port: MODEL_PORT, door: Arc::clone(&endpoint.door) });
        }
        Ok(Ok(way))
    }

    pub async fn access(self, model: String, watch: Arc<dyn CallWatch>) -> Result<Access, Fault> {
        let ports = &self.site.ports;
        Ok(Access {
            key: self.key,
            turn: self.turn,
            model,
            credentials: credentials(self.site, self.task).await?,
            budget: self.task.brief.budget,
            purses: purses_of(self.site, self.task, self.key),
            redactor: ports.environments.redactor(self.task.origin.repository.clone()).await?,
            watch,
        })
    }

    /// The cheap model, where the keys at hand reach it.
    fn side_model(self, access: &Access) -> Result<Option<Arc<dyn Model>>, Fault> {
        let Some(name) = &self.site.terms.side_model else { return Ok(None) };
        let gateways = &self.site.ports.gateways;
        let ask =
            ModelAsk { name: Some(name), credentials: &access.credentials, budget: &access.budget, protocols: &[] };
        match gateways.resolve(ask) {
            Ok(resolved) => gateways.model(Access { model: resolved.name, ..access.clone() }).map(Some),
            Err(fault) if fault.class == FaultClass::Input => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Lends the person's own login.
    async fn lend(self, needs: &Needs, mut way: Way) -> Result<Result<Way, Fault>, Fault> {
        let name = &self.task.brief.agent.name;
        let login = match lendable(self.site.terms.own_logins, name, needs) {
            Ok(login) => login,
            Err(fault) => return Ok(Err(fault)),
        };
        let mut credentials = credentials(self.site, self.task).await?;
        for path in &login.files {
            if let Some(content) = credentials.0.remove(&format!("{}{path}", Credentials::LOGIN)) {
                way.login.push((path.clone(), Bytes::from(content.into_bytes())));
            }
        }
        if way.login.is_empty() {
            return Ok(Err(no_login(name, login)));
        }
        way.allow = login.hosts.clone();
        Ok(Ok(way))
    }
}

/// What may be lent of a person's login.
pub(crate) fn lendable<'a>(allowed: bool, agent: &str, needs: &'a Needs) -> Result<&'a OwnLogin, Fault> {
    if !allowed {
        return Err(Fault::conflict("this installation lends no logins to agents")
            .hint("use a model key, or set `own_logins = true` under [agents] in config.toml"));
    }
    needs.login.as_ref().ok_or_else(|| {
        Fault::input(format!("the agent `{agent}` has no login of its own to lend")).hint("leave `--login own` out")
    })
}

pub(crate) fn no_login(agent: &str, login: &OwnLogin) -> Fault {
    Fault::input(format!("no login of `{agent}` is at hand: none of {} is there", login.files.join(", ")))
        .hint(format!("log in with `{agent}` on this machine first"))
}
