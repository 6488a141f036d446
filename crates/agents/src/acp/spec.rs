//! What is different about one agent that speaks ACP, as data: the table of known agents has it, and so has the configuration.

use std::collections::BTreeMap;

use domain::ports::{
    agent::OwnLogin,
    model::{Endpoint, Protocol},
};
use serde::Deserialize;

/// An agent that speaks the Agent Client Protocol, version 1, over its standard input and output.
///
/// In the values of `env` and in the content of `files`, `{url}` stands for the address of the gateway (without a path), `{token}`
/// for what goes in the place of a key, and `{model}` for the model's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Spec {
    /// By which tasks choose it. In a configuration: the table's own name.
    #[serde(skip)]
    pub name: String,
    /// The program, looked for in the directories of `[agents]` and on the daemon's PATH, and its arguments.
    pub argv: Vec<String>,
    /// npm packages as `NAME@VERSION`, the one that `argv` starts first: for telling how to install it.
    pub packages: Vec<String>,
    /// The command line that installs it, where that is not npm's.
    pub install: Option<String>,
    /// Set whatever its client speaks.
    pub env: BTreeMap<String, String>,
    /// Written into its HOME before each start, whatever its client speaks.
    pub files: Vec<HomeFile>,
    /// How its client is brought to the gateway, best first. Empty: it calls no model, or none that Overnight could meter.
    pub clients: Vec<Client>,
    /// Options of its session for a turn of work, each to a value of the agent's: where no walls but the sandbox's are kept up.
    pub work: Vec<Setting>,
    /// Options of its session for a turn that only reads.
    pub plan: Vec<Setting>,
    /// A way to sign in that must be named before the first session.
    pub authenticate: Option<String>,
    /// A script for `sh`, run in its sandbox before it starts to go on in a session, whose id is `$1`.
    pub before_loading: Option<String>,
    /// What can be lent of a person's own login.
    pub login: Option<Login>,
    /// What people should know that is different from others, a sentence each.
    pub remarks: Vec<String>,
}

/// How a client asks for models in one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Client {
    pub protocol: Protocol,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    pub files: Vec<HomeFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeFile {
    /// Below HOME.
    pub path: String,
    /// What is put in place of `{url}` and the like is escaped as within a string of JSON or TOML.
    pub content: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The option's id; `mode` is the session's mode.
    pub option: String,
    pub value: String,
}

/// The login of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Below HOME.
    pub files: Vec<String>,
    /// As an allow-list has them.
    pub hosts: Vec<String>,
}

impl Spec {
    pub(super) fn protocols(&self) -> Vec<Protocol> {
        self.clients.iter().map(|client| client.protocol).collect()
    }

    pub(super) fn own_login(&self) -> Option<OwnLogin> {
        self.login.as_ref().map(|Login { files, hosts }| OwnLogin { files: files.clone(), hosts: hosts.clone() })
    }

    /// The version that its driver was tried with: the first package's.
    pub(super) fn tried(&self) -> Option<String> {
        let (name, version) = self.packages.first()?.rsplit_once('@')?;
        (!name.is_empty()).then(|| version.to_owned())
    }

    /// The client for what is spoken at an endpoint: the best of what it speaks.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Option<&Client> {
        let is_spoken = |client: &&Client| endpoint.protocols.contains(&client.protocol);
        self.clients.iter().find(is_spoken)
    }
}

/// What stands in for the words in braces.
pub(crate) struct Filling<'a> {
    pub endpoint: Option<&'a Endpoint>,
}

impl Filling<'_> {
    pub fn variable(&self, template: &str) -> String {
        self.fill(template, str::to_owned)
    }

    pub fn content(&self, template: &str) -> String {
        self.fill(template, |value| value.replace('\\', r"\\").replace('"', "\\\""))
    }

    fn fill(&self, template: &str, escaped: impl Fn(&str) -> String) -> String {
        let Some(endpoint) = self.endpoint else { return template.to_owned() };
        let mut text = template.to_owned();
        for (word, value) in [("{url}", &endpoint.url), ("{token}", &endpoint.token), ("{model}", &endpoint.model)] {
            if text.contains(word) {
                text = text.replace(word, &escaped(value));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_all_that_the_table_says() {
        let text = r#"{
            "argv": ["goose", "acp"], "install": "curl -O …", "env": {"GOOSE_PROVIDER": "openai"},
            "clients": [{"protocol": "chat_completions", "env": {"OPENAI_HOST": "{url}"}}],
            "work": [{"option": "mode", "value": "auto"}], "login": {"files": [".config/goose/auth"], "hosts": ["api.test"]}
        }"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!((spec.protocols(), spec.argv.len()), (vec![Protocol::ChatCompletions], 2));
        let wrong = serde_json::from_str::<Spec>(r#"{"argv": ["x"], "environment": {}}"#).unwrap_err().to_string();
        assert!(wrong.contains("environment") && wrong.contains("env"), "{wrong}");
    }

    #[test]
    fn versions_are_read_behind_the_last_at() {
        let of = |package: &str| Spec { packages: vec![package.to_owned()], ..Spec::default() }.tried();
        assert_eq!(of("@openai/codex@0.169.0").as_deref(), Some("0.169.0"));
        assert_eq!((of("opencode-ai"), of("@openai/codex")), (None, None));
    }
}
