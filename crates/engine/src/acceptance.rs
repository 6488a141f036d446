//! Whether this installation can do what a brief asks for, told to the one who is still there.

use domain::{
    Fault,
    brief::{AgentChoice, Brief, Deliverable, Login, Planning},
    budget::Budget,
    ports::{
        agent::ModelNeed,
        model::{Credentials, ModelAsk, TriedModel},
        sandbox::Confinement,
        workspace::Origin,
    },
    profile::Profile,
};

use crate::{Handle, perform::reach};

/// A brief that can be done, with the models named in full.
pub(crate) struct Accepted {
    pub brief: Brief,
    /// `None` for an agent that needs none.
    pub model: Option<String>,
}

impl Handle {
    /// Every model and agent of the brief is looked for: its own, those of its fallbacks, its critic.
    pub(crate) async fn acceptable(
        &self,
        brief: &Brief,
        given: &Credentials,
        confinement: Confinement,
    ) -> Result<Accepted, Fault> {
        let ports = self.ports();
        if brief.goal.trim().is_empty() {
            return Err(Fault::input("the brief has no goal").hint("say in a sentence what is wanted"));
        }
        if !(1..=16).contains(&brief.attempts) {
            return Err(Fault::input(format!("{} attempts are asked for; 1 to 16 are possible", brief.attempts)));
        }
        if brief.agent.name == "command" && brief.agent.argv.is_empty() {
            return Err(Fault::input("the `command` agent was given no program")
                .hint("put it after `--`: `overnight run … --agent command -- ./codemod.sh`"));
        }
        if brief.agent.name == "command" && brief.planning == Planning::ApproveFirst {
            return Err(Fault::input("a program cannot be asked for a plan")
                .hint("leave the plan out, or choose an agent that a model drives"));
        }
        if confinement == Confinement::Confined && !ports.sandboxes.probe().confined {
            return Err(Fault::environment("this machine cannot confine an agent")
                .hint("`overnight doctor` says what is missing; `--unconfined` runs it with your own rights"));
        }
        let mut credentials = ports.secrets.get("home".to_owned()).await?;
        credentials.0.extend(given.0.clone());
        let model = self.model_for(&brief.agent, brief.model.as_deref(), &credentials, &brief.budget)?;
        let mut brief = brief.clone();
        for fallback in &mut brief.fallbacks {
            let name = fallback.agent.clone().unwrap_or_else(|| brief.agent.name.clone());
            let agent = AgentChoice { name, ..AgentChoice::default() };
            let wanted = fallback.model.as_deref().or(model.as_deref());
            let found = self.model_for(&agent, wanted, &credentials, &brief.budget)?;
            if fallback.model.is_some() || found != model {
                fallback.model = found;
            }
        }
        if let Some(critic) = &mut brief.critic {
            *critic = self.resolved(Some(critic), &credentials, &brief.budget, &[])?;
        }
        Ok(Accepted { brief, model })
    }

    /// The model this agent would use; `None`: it needs none, or has a login of its own.
    fn model_for(
        &self,
        agent: &AgentChoice,
        model: Option<&str>,
        credentials: &Credentials,
        budget: &Budget,
    ) -> Result<Option<String>, Fault> {
        let needs = self.ports().agents.find(&agent.name)?.needs()?;
        if agent.login == Login::Own {
            let login = reach::lendable(self.core.site.terms.own_logins, &agent.name, &needs)?;
            if !login.files.iter().any(|path| credentials.get(&format!("{}{path}", Credentials::LOGIN)).is_some()) {
                return Err(reach::no_login(&agent.name, login));
            }
            if budget.cost.is_some() || budget.tokens.is_some() {
                return Err(Fault::input(
                    "what is spent by a login of one's own cannot be metered: no budget in money or tokens holds",
                )
                .hint("bound it by rounds or time: `--budget 40rounds`, `--timeout 2h`"));
            }
            return Ok(None);
        }
        match needs.model {
            ModelNeed::Offered if model.is_none() => Ok(None),
            ModelNeed::None => Ok(None),
            ModelNeed::Offered | ModelNeed::Required | ModelNeed::Client => {
                self.resolved(model, credentials, budget, &needs.protocols).map(Some)
            }
        }
    }

    fn resolved(
        &self,
        name: Option<&str>,
        credentials: &Credentials,
        budget: &Budget,
        protocols: &[domain::ports::model::Protocol],
    ) -> Result<String, Fault> {
        let ask = ModelAsk { name, credentials, budget, protocols };
        Ok(self.ports().gateways.resolve(ask)?.name)
    }

    /// The profiles at a base (`None`: no repository), by precedence.
    pub async fn profiles(&self, origin: Option<&Origin>) -> Result<Vec<Profile>, Fault> {
        let files = match origin {
            Some(origin) => self.core.site.guidance.of(&self.ports().workspaces, origin).await?.profiles,
            None => Default::default(),
        };
        self.ports().agents.profiles(&files)
    }

    /// The brief with what its profile says where it says nothing itself.
    pub(crate) async fn with_profile(
        &self,
        mut brief: Brief,
        origin: Option<&Origin>,
    ) -> Result<(Brief, Option<Profile>), Fault> {
        let Some(name) = &brief.profile else { return Ok((brief, None)) };
        let profiles = self.profiles(origin).await?;
        let Some(profile) = profiles.iter().find(|profile| profile.name == *name) else {
            let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
            return Err(Fault::not_found(format!("there is no profile `{name}`"))
                .hint(format!("profiles here: {}", names.join(", "))));
        };
        if let Some(agent) = &profile.agent
            && brief.agent == AgentChoice::default()
        {
            brief.agent.name.clone_from(agent);
        }
        if brief.model.is_none() {
            brief.model.clone_from(&profile.model);
        }
        if brief.fallbacks.is_empty() {
            brief.fallbacks.clone_from(&profile.fallbacks);
        }
        // What may change nothing delivers a text.
        let deliverable = profile.deliverable.or(profile.read_only.then_some(Deliverable::Report));
        if let Some(deliverable) = deliverable
            && brief.deliverable == Deliverable::default()
        {
            brief.deliverable = deliverable;
        }
        let (own, theirs) = (brief.budget, profile.budget);
        brief.budget = Budget {
            cost: own.cost.or(theirs.cost),
            tokens: own.tokens.or(theirs.tokens),
            rounds: own.rounds.or(theirs.rounds),
            wall_s: own.wall_s.or(theirs.wall_s),
        };
        Ok((brief, Some(profile.clone())))
    }

    /// Makes one real call of a model, paid from the purses of everybody.
    pub async fn try_model(&self, name: String, person: &str, given: Credentials) -> Result<TriedModel, Fault> {
        let ports = self.ports();
        let mut credentials = ports.secrets.get("home".to_owned()).await?;
        credentials.0.extend(given.0);
        let purses = reach::purses_for(&self.core.site, person);
        ports.gateways.try_out(name, credentials, purses).await
    }
}
