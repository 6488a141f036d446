//! `[[budgets]]`, `[records]` and `[stalls]`: what tasks may spend together, how long calls are kept, and when an agent counts as stuck.

use std::time::Duration;

use api::{amount, wire::brief};
use domain::{
    Fault,
    budget::{Budget, BudgetRule, Period, Whose},
};
use serde::{Deserialize, Deserializer, de::Error};

/// Each name once.
#[derive(Debug, Default)]
pub(super) struct Budgets(pub Vec<BudgetRule>);

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    limit: brief::Budget,
    #[serde(default)]
    per: Period,
    #[serde(default)]
    of: Of,
}

#[derive(Default)]
struct Of(Whose);

impl<'de> Deserialize<'de> for Of {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let whose = match (text.as_str(), text.strip_prefix("label:")) {
            ("everybody", _) => Whose::Everybody,
            ("person", _) => Whose::Person,
            ("attempt", _) => Whose::Attempt,
            (_, Some(label)) if !label.is_empty() => Whose::Label(label.to_owned()),
            _ => return Err(D::Error::custom("write \"everybody\", \"person\", \"attempt\" or \"label:NAME\"")),
        };
        Ok(Self(whose))
    }
}

impl<'de> Deserialize<'de> for Budgets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut rules: Vec<BudgetRule> = Vec::new();
        for Rule { name, limit: brief::Budget(limit), per, of: Of(of) } in Vec::deserialize(deserializer)? {
            let wrong = |why: &str| D::Error::custom(format!("the budget `{name}` {why}"));
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(wrong("needs a name without blanks"));
            }
            if rules.iter().any(|rule| rule.name == name) {
                return Err(wrong("is there twice: give one another name"));
            }
            let Budget { rounds: None, wall_s: None, .. } = limit else {
                return Err(wrong("can limit money and tokens only: rounds and time are a task's own"));
            };
            if limit == Budget::default() {
                return Err(wrong("limits nothing: write `limit = \"20usd\"` or `limit = \"2Mtok\"`"));
            }
            rules.push(BudgetRule { name, limit, per, of });
        }
        Ok(Self(rules))
    }
}

/// A length of time, written `30d`, `12h` or `10m`.
#[derive(Clone, Copy, Debug)]
struct Length(Duration);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |fault: Fault| D::Error::custom(format!("{}: {}", fault.what, fault.hint.unwrap_or_default()));
        amount::parse_seconds(&String::deserialize(deserializer)?)
            .map(|seconds| Self(Duration::from_secs(seconds)))
            .map_err(refused)
    }
}

/// The record of exchanges with models.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Records {
    keep: Option<Length>,
}

impl Records {
    pub fn keep_or(self, usual: Duration) -> Duration {
        self.keep.map_or(usual, |Length(keep)| keep)
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stalls {
    quiet: Option<Length>,
    repeats: Option<u32>,
}

impl Stalls {
    /// Errors: `Input` for a bound that would end every turn.
    pub fn bounds(self) -> Result<engine::Stalls, Fault> {
        let usual = engine::Stalls::default();
        let repeats = self.repeats.unwrap_or(usual.repeats);
        if repeats < 2 {
            return Err(Fault::input(format!("config.toml: `repeats` of [stalls] is {repeats}"))
                .hint("write 2 or more: a call that is made once repeats nothing"));
        }
        Ok(engine::Stalls { quiet: self.quiet.map_or(usual.quiet, |Length(quiet)| quiet), repeats })
    }
}
