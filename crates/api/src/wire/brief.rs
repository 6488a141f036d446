//! A brief as people write it: the same fields in JSON bodies and in the front matter of brief files.

use domain::{
    Fault,
    brief::{self, AgentChoice, Deliverable, LandingMethod, Login, Planning},
    budget::Budget as Limits,
    check::CheckSpec,
};
use ignore::gitignore::GitignoreBuilder;
use serde::{Deserialize, Serialize};

use super::ask::Labels;
use crate::amount;

/// [`brief::Brief`] with human forms: `budget = "2usd"`, `checks = ["cargo test"]`, `plan = true`. Absent fields take the
/// defaults of [`brief::Brief`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Brief {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub goal: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub non_goals: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub acceptance: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protected_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approval_boundary: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reviewer: Option<String>,
    /// RFC 3339, or a local date or time: `2026-12-24` is the end of that day.
    #[serde(skip_serializing_if = "Option::is_none", with = "amount::deadline")]
    pub deadline: Option<jiff::Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// `builtin`, `command`, …; absent: `command` where a command is given, else `builtin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// For agent `command`: the program and its arguments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `own`: the agent is lent the login that this person has with it; absent or `gateway`: it calls its model through the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Who goes on when the agent stalls, in this order: `agent`, `agent:model` or `:model`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Fallback>,
    /// A profile of the base, of the configuration or ready-made; what the brief does not say is taken from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The model that criticises a plan before a person sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub critic: Option<String>,
    /// 1 to 16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_corrections: Option<u32>,
    /// The agent proposes a plan first, which waits for a person.
    #[serde(skip_serializing_if = "is_false")]
    pub plan: bool,
    /// A text is to be delivered; nothing changes.
    #[serde(skip_serializing_if = "is_false")]
    pub report: bool,
    /// `squash`, `merge` or `branch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub land: Option<LandingMethod>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub notes: String,
    // Tables come last, as TOML wants them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// Another agent or model, written `agent`, `agent:model` or `:model`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Fallback(pub brief::Fallback);

impl From<String> for Fallback {
    fn from(text: String) -> Self {
        let (agent, model) = text.split_once(':').unwrap_or((&text, ""));
        let named = |name: &str| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
        Self(brief::Fallback { agent: named(agent), model: named(model) })
    }
}

impl From<Fallback> for String {
    fn from(Fallback(fallback): Fallback) -> Self {
        let agent = fallback.agent.unwrap_or_default();
        fallback.model.map_or_else(|| agent.clone(), |model| format!("{agent}:{model}"))
    }
}

/// A command line, or one with a name and a time limit. Read from a text or a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "amount::CheckForm", into = "amount::CheckForm")]
pub struct Check(pub CheckSpec);

/// Limits, read from a text (`2usd`, `200ktok, 2h`) or a table `{usd, tokens, rounds, wall}`; written as a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "amount::BudgetForm", into = "amount::BudgetForm")]
pub struct Budget(pub Limits);

fn is_false(value: &bool) -> bool {
    !*value
}

impl From<&brief::Brief> for Brief {
    fn from(brief: &brief::Brief) -> Self {
        let standard = brief::Brief::default();
        Self {
            goal: brief.goal.clone(),
            non_goals: brief.non_goals.clone(),
            requirements: brief.requirements.clone(),
            acceptance: brief.acceptance.clone(),
            allowed_paths: brief.allowed_paths.clone(),
            protected_paths: brief.protected_paths.clone(),
            approval_boundary: brief.approval_boundary.clone(),
            reviewer: brief.reviewer.clone(),
            deadline: brief.deadline,
            category: brief.category.clone(),
            evidence: brief.evidence.clone(),
            agent: (brief.agent.name != standard.agent.name).then(|| brief.agent.name.clone()),
            command: brief.agent.argv.clone(),
            login: (brief.agent.login != Login::Gateway).then_some(brief.agent.login),
            model: brief.model.clone(),
            fallbacks: brief.fallbacks.iter().cloned().map(Fallback).collect(),
            profile: brief.profile.clone(),
            critic: brief.critic.clone(),
            attempts: (brief.attempts != standard.attempts).then_some(brief.attempts),
            max_corrections: (brief.max_corrections != standard.max_corrections).then_some(brief.max_corrections),
            plan: brief.planning == Planning::ApproveFirst,
            report: brief.deliverable == Deliverable::Report,
            land: (brief.landing != standard.landing).then_some(brief.landing),
            notes: brief.notes.clone(),
            budget: (brief.budget != Limits::default()).then_some(Budget(brief.budget)),
            labels: brief.labels.clone(),
            checks: brief.checks.iter().cloned().map(Check).collect(),
        }
    }
}

/// Each is tried once an attempt has stalled with the one before.
const MAX_FALLBACKS: usize = 8;

/// The most a brief may hold, in bytes of its JSON: every event of its task carries it in the state.
const MAX_BRIEF: usize = 64 << 10;

impl Brief {
    /// Judges what the types cannot, and makes the contract of it.
    ///
    /// Errors: `Input` that names the field.
    pub fn accept(self) -> Result<brief::Brief, Fault> {
        let standard = brief::Brief::default();
        if self.goal.trim().is_empty() {
            return Err(Fault::input("the brief has no goal").hint("say in a sentence or more what is wanted"));
        }
        let attempts = self.attempts.unwrap_or(standard.attempts);
        if !(1..=16).contains(&attempts) {
            return Err(Fault::input(format!("`attempts` is {attempts}")).hint("choose 1 to 16"));
        }
        let max_corrections = self.max_corrections.unwrap_or(standard.max_corrections);
        if max_corrections > 100 {
            return Err(Fault::input(format!("`max_corrections` is {max_corrections}")).hint("choose 0 to 100"));
        }
        let agent = self.choose_agent()?;
        if self.critic.is_some() && !self.plan {
            return Err(Fault::input("`critic` names a model, but no plan is asked for")
                .hint("ask for one with `plan = true`, on the command line `--plan`"));
        }
        if self.fallbacks.iter().any(|Fallback(fallback)| fallback.agent.is_none() && fallback.model.is_none()) {
            return Err(Fault::input("`fallbacks` has an item that names neither an agent nor a model")
                .hint("write `agent`, `agent:model` or `:model`"));
        }
        if self.fallbacks.len() > MAX_FALLBACKS {
            return Err(Fault::input(format!("{} fallbacks are named", self.fallbacks.len()))
                .hint(format!("name {MAX_FALLBACKS} at most")));
        }
        let checks = accept_checks(&self.checks)?;
        for (field, list) in [
            ("non_goals", &self.non_goals),
            ("requirements", &self.requirements),
            ("acceptance", &self.acceptance),
            ("allowed_paths", &self.allowed_paths),
            ("protected_paths", &self.protected_paths),
            ("approval_boundary", &self.approval_boundary),
            ("evidence", &self.evidence),
        ] {
            if list.iter().any(|item| item.trim().is_empty()) {
                return Err(Fault::input(format!("`{field}` has an empty item")).hint("remove it"));
            }
        }
        accept_paths("allowed_paths", &self.allowed_paths)?;
        accept_paths("protected_paths", &self.protected_paths)?;
        let brief = brief::Brief {
            goal: self.goal,
            non_goals: self.non_goals,
            requirements: self.requirements,
            acceptance: self.acceptance,
            allowed_paths: self.allowed_paths,
            protected_paths: self.protected_paths,
            checks,
            approval_boundary: self.approval_boundary,
            reviewer: self.reviewer,
            budget: self.budget.unwrap_or_default().0,
            deadline: self.deadline,
            category: self.category,
            evidence: self.evidence,
            agent,
            model: self.model,
            fallbacks: self.fallbacks.into_iter().map(|Fallback(fallback)| fallback).collect(),
            profile: self.profile,
            critic: self.critic,
            attempts,
            max_corrections,
            deliverable: if self.report { Deliverable::Report } else { Deliverable::Change },
            planning: if self.plan { Planning::ApproveFirst } else { Planning::Direct },
            landing: self.land.unwrap_or(standard.landing),
            notes: self.notes,
            labels: self.labels,
        };
        let size = serde_json::to_vec(&brief).map_or(usize::MAX, |json| json.len());
        if size > MAX_BRIEF {
            return Err(Fault::input(format!("the brief has {size} bytes, more than {MAX_BRIEF}"))
                .hint("put long material into a file of the repository and name it in the brief"));
        }
        Ok(brief)
    }

    fn choose_agent(&self) -> Result<AgentChoice, Fault> {
        let login = self.login.unwrap_or_default();
        let name = match (&self.agent, self.command.is_empty()) {
            (Some(name), _) => name.clone(),
            (None, true) if login == Login::Own => {
                return Err(Fault::input("`login = \"own\"` does not say whose login").hint("name the agent too"));
            }
            (None, true) => return Ok(AgentChoice::default()),
            (None, false) => COMMAND_AGENT.to_owned(),
        };
        match (name == COMMAND_AGENT, self.command.is_empty()) {
            (true, true) => Err(Fault::input("agent `command` needs the command that it runs")
                .hint("give `command = [\"program\", \"argument\"]`, on the command line `-- program argument`")),
            (false, false) => Err(Fault::input(format!("a command is given, but agent `{name}` runs none"))
                .hint("leave the command out, or choose agent `command`")),
            (true, false) | (false, true) => Ok(AgentChoice { name, argv: self.command.clone(), login }),
        }
    }
}

const COMMAND_AGENT: &str = "command";

/// Refuses what would match nothing: the checks would find that out after the work only, or never.
fn accept_paths(field: &str, patterns: &[String]) -> Result<(), Fault> {
    for pattern in patterns {
        let why = match GitignoreBuilder::new("").add_line(None, pattern) {
            Err(error) => error.to_string(),
            Ok(_) if pattern.split('/').any(|part| part == "..") => "it leaves the repository".to_owned(),
            Ok(_) if pattern.starts_with('#') => "in gitignore syntax it is a comment".to_owned(),
            Ok(_) => continue,
        };
        return Err(Fault::input(format!("`{field}` has `{pattern}`, which matches nothing: {why}")).hint(
            "write paths from the root of the repository in gitignore syntax, such as `src/` or `docs/**/*.md`",
        ));
    }
    Ok(())
}

fn accept_checks(checks: &[Check]) -> Result<Vec<CheckSpec>, Fault> {
    for (position, Check(check)) in checks.iter().enumerate() {
        if check.command.trim().is_empty() || check.name.trim().is_empty() {
            return Err(Fault::input(format!("check {} has no command or no name", position + 1)).hint("fill it in"));
        }
        if checks[..position].iter().any(|Check(earlier)| earlier.name == check.name) {
            return Err(Fault::input(format!("two checks are named `{}`", check.name))
                .hint("remove one, or give them names: `{ name = \"…\", command = \"…\" }`"));
        }
    }
    Ok(checks.iter().map(|Check(check)| check.clone()).collect())
}
