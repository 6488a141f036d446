//! `[profiles.NAME]` of `overnight.toml` and of the configuration.

use std::collections::BTreeMap;

use domain::{
    Fault,
    brief::{Deliverable, Fallback},
    budget::{Budget, MicroUsd},
    profile::Profile,
};
use serde::Deserialize;

use super::{MAX_PROMPT, MAX_TEXT, is_name};
use crate::builtin::tools;

/// A profile as a table says it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Section {
    /// When to use it, in a sentence or two.
    pub description: String,
    pub agent: Option<String>,
    pub model: Option<String>,
    /// As `[{ agent = "codex" }, { model = "gpt-5" }]`.
    pub fallbacks: Vec<Other>,
    /// Told to the agent before the brief.
    pub prompt: String,
    /// Names of the built-in agent's tools.
    pub tools: Option<Vec<String>>,
    pub read_only: bool,
    /// `change` or `report`.
    pub deliverable: Option<Deliverable>,
    pub budget: Limits,
    pub max_rounds: Option<u32>,
    pub report_filter: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Other {
    pub agent: Option<String>,
    pub model: Option<String>,
}

/// As `{ usd = 2, tokens = 200_000, rounds = 40, wall = "2h" }`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub usd: Option<f64>,
    pub tokens: Option<u64>,
    pub rounds: Option<u32>,
    pub wall: Option<String>,
}

impl Section {
    /// `source`: the file it stands in, or `configuration`. `Input` says what is wrong with it.
    pub fn profile(self, name: &str, source: &str) -> Result<Profile, Fault> {
        let wrong = |what: String| Fault::input(format!("{source}: the profile `{name}` {what}"));
        if !is_name(name) {
            return Err(wrong("cannot be called so".to_owned()).hint("use lower case letters, digits and `-`"));
        }
        for (what, text, most) in [("prompt", &self.prompt, MAX_PROMPT), ("description", &self.description, MAX_TEXT)] {
            if text.len() > most {
                return Err(wrong(format!("has a {what} of {} bytes", text.len())).hint(format!("at most {most} fit")));
            }
        }
        // Of a name that means nothing the agent would only be without the tool.
        let known = |tool: &&String| tool.starts_with("mcp_") || tools::names().any(|name| name == tool.as_str());
        if let Some(tool) = self.tools.iter().flatten().find(|tool| !known(tool)) {
            let names: Vec<_> = tools::names().collect();
            return Err(wrong(format!("names `{tool}`, which is no tool of the built-in agent"))
                .hint(format!("its tools: {}", names.join(", "))));
        }
        let fallback = |Other { agent, model }| Fallback { agent, model };
        Ok(Profile {
            name: name.to_owned(),
            description: self.description,
            source: source.to_owned(),
            agent: self.agent,
            model: self.model,
            fallbacks: self.fallbacks.into_iter().map(fallback).collect(),
            prompt: self.prompt,
            tools: self.tools,
            read_only: self.read_only,
            deliverable: self.deliverable,
            budget: self.budget.budget().map_err(wrong)?,
            max_rounds: self.max_rounds,
            report_filter: self.report_filter,
        })
    }
}

impl Limits {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    fn budget(self) -> Result<Budget, String> {
        let cost = match self.usd {
            Some(usd) if (0.0..1e9).contains(&usd) => Some(MicroUsd((usd * 1e6).round() as u64)),
            Some(usd) => return Err(format!("may not spend {usd} USD: write a number from 0")),
            None => None,
        };
        let wall_s = match self.wall {
            Some(text) => {
                let wall =
                    text.parse::<jiff::SignedDuration>().ok().and_then(|wall| u64::try_from(wall.as_secs()).ok());
                Some(wall.ok_or_else(|| format!("may not run for `{text}`: write a time such as \"90m\" or \"2h\""))?)
            }
            None => None,
        };
        Ok(Budget { cost, tokens: self.tokens, rounds: self.rounds, wall_s })
    }
}

/// The profiles of an `overnight.toml`; what else stands there is read elsewhere.
pub(super) fn overnight(path: &str, content: &[u8]) -> Result<Vec<Profile>, Fault> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        profiles: BTreeMap<String, Section>,
    }
    let text = String::from_utf8_lossy(content);
    let File { profiles } = toml::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        let line = error.span().map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
        let place = line.map(|line| format!(", line {line}")).unwrap_or_default();
        Fault::input(format!("{path}{place}: {}", error.message().trim())).hint("mend the file's `[profiles]`")
    })?;
    profiles.into_iter().map(|(name, section)| section.profile(&name, path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_all_of_a_profile() {
        let text = r#"
            [environment]
            install = "make"
            [profiles.night-watch]
            description = "Looks after main"
            agent = "claude"
            model = "claude-sonnet-5"
            fallbacks = [{ agent = "codex" }, { model = "gpt-5" }]
            prompt = "Watch."
            tools = ["read", "search"]
            read_only = true
            deliverable = "report"
            budget = { usd = 1.5, tokens = 1000, rounds = 9, wall = "1h 30m" }
            max_rounds = 4
            report_filter = "ALERT"
        "#;
        let [profile] = &overnight("overnight.toml", text.as_bytes()).unwrap()[..] else { panic!("not one") };
        assert_eq!((profile.name.as_str(), profile.source.as_str()), ("night-watch", "overnight.toml"));
        let budget =
            Budget { cost: Some(MicroUsd(1_500_000)), tokens: Some(1000), rounds: Some(9), wall_s: Some(5400) };
        assert_eq!(profile.budget, budget);
        assert_eq!(profile.fallbacks[1].model.as_deref(), Some("gpt-5"));
        assert_eq!((profile.deliverable, profile.read_only), (Some(Deliverable::Report), true));
        assert!(overnight("overnight.toml", b"[checks]\nfast = []\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, words) in [
            ("[profiles.a]\nprompts = \"x\"", ["overnight.toml, line 2", "prompts"]),
            ("[profiles.\"A b\"]\nprompt = \"x\"", ["`A b`", "called so"]),
            ("[profiles.a]\nbudget = { wall = \"soon\" }", ["`soon`", "90m"]),
            ("[profiles.a]\ntools = [\"bash\"]", ["`bash`", "shell, poll, read"]),
            ("[profiles.a]\nbudget = { usd = -1 }", ["-1 USD", "from 0"]),
        ] {
            let told = overnight("overnight.toml", text.as_bytes()).unwrap_err().to_string();
            assert!(words.iter().all(|word| told.contains(word)), "{told}");
        }
    }
}
