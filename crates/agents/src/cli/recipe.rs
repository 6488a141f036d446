//! What is different about one agent that is driven by its command line, as data: the table of known agents has it, and so has the
//! configuration.

use std::collections::BTreeMap;

use domain::ports::model::{Endpoint, Protocol};
use serde::Deserialize;

use crate::acp::{Client, HomeFile, Login};

/// An agent that is run with a prompt, works, and ends.
///
/// In arguments, `{session}` stands for the id of its session, `{home}` for its HOME, `{model}` for the model's name; an argument
/// `{prompt}` is the prompt (a long one says in which file it stands), `{prompt_file}` the path of a file with it, and `{mode}` all of
/// `work` or of `plan`. Where neither prompt nor file is an argument, the prompt comes on standard input. In the values of `env` and
/// in the content of `files`: `{url}`, `{token}` and `{model}`, as for agents that speak ACP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// By which tasks choose it. In a configuration: the table's own name.
    #[serde(skip)]
    pub name: String,
    /// The program, looked for in the directories of `[agents]` and on the daemon's PATH, and its arguments.
    pub argv: Vec<String>,
    /// The same for going on in a session. Empty: it has none, and is told each time what was done so far.
    pub resume: Vec<String>,
    /// Whether the id of its sessions is its own to give. Else Overnight makes a UUID.
    pub names_sessions: bool,
    pub work: Vec<String>,
    /// Arguments for a turn that only reads.
    pub plan: Vec<String>,
    pub events: Events,
    /// What must be seen besides exit code 0. `None`: what `events` has for it.
    pub success: Option<Success>,
    /// Lines of text that begin so say that it failed, whatever its exit code.
    pub failure: Vec<String>,
    /// npm packages as `NAME@VERSION`, the one that `argv` starts first: for telling how to install it.
    pub packages: Vec<String>,
    /// The command line that installs it, where that is not npm's.
    pub install: Option<String>,
    /// The version that this was tried with, where `packages` do not say it.
    pub tried: Option<String>,
    pub env: BTreeMap<String, String>,
    /// Written into its HOME before each start.
    pub files: Vec<HomeFile>,
    /// How its client is brought to the gateway, best first. Empty: it calls no model, or none that Overnight could meter.
    pub clients: Vec<Client>,
    /// What can be lent of a person's own login.
    pub login: Option<Login>,
    /// What people should know that is different from others, a sentence each.
    pub remarks: Vec<String>,
}

/// How what it prints is understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Events {
    /// Text for people. The last lines are its summary.
    #[default]
    Text,
    /// A JSON object a line. Known fields are `session`, `text` (a message), `result` (its summary) and `error`.
    Jsonl,
    /// Of `codex exec --json`.
    CodexJsonl,
    /// Of `claude -p --output-format stream-json`.
    ClaudeStreamJson,
    /// Of `pi --mode json`.
    PiJson,
}

/// What says that it is done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Success {
    /// A line that begins so.
    Line(String),
    /// An event whose field has this value, as in `{ event = { field = "type", is = "done" } }`.
    Event { field: String, is: String },
    /// A JSON file that it leaves in its HOME: the value of a field, by dots, and the field with its summary.
    File {
        path: String,
        field: String,
        is: String,
        #[serde(default)]
        summary: Option<String>,
    },
}

impl Recipe {
    pub(super) fn protocols(&self) -> Vec<Protocol> {
        self.clients.iter().map(|client| client.protocol).collect()
    }

    pub(super) fn tried(&self) -> Option<String> {
        let version = || self.packages.first()?.rsplit_once('@').map(|(_, version)| version.to_owned());
        self.tried.clone().or_else(version)
    }

    /// The client for what is spoken at an endpoint: the best of what it speaks.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Option<&Client> {
        self.clients.iter().find(|client| endpoint.protocols.contains(&client.protocol))
    }

    /// Whether any argument has this word.
    pub(super) fn mentions(&self, word: &str) -> bool {
        [&self.argv, &self.resume, &self.work, &self.plan].into_iter().flatten().any(|argument| argument.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_all_that_the_table_says() {
        let text = r#"
            argv = ["goose", "run", "--name", "{session}", "{prompt}"]
            resume = ["goose", "run", "--resume", "--name", "{session}", "{prompt}"]
            events = "jsonl"
            success = { event = { field = "type", is = "done" } }
            clients = [{ protocol = "chat_completions", env = { OPENAI_HOST = "{url}" } }]
        "#;
        let recipe: Recipe = toml::from_str(text).unwrap();
        assert_eq!((recipe.protocols(), recipe.events), (vec![Protocol::ChatCompletions], Events::Jsonl));
        assert_eq!(recipe.success, Some(Success::Event { field: "type".to_owned(), is: "done".to_owned() }));
        assert!(recipe.mentions("{session}") && !recipe.mentions("{home}"));
        let line: Recipe = toml::from_str(r#"success = { line = "Done" }"#).unwrap();
        assert_eq!(line.success, Some(Success::Line("Done".to_owned())));
        for (wrong, word) in [("arg = []", "argv"), (r#"events = "xml""#, "jsonl"), ("success = { word = 1 }", "line")]
        {
            let said = toml::from_str::<Recipe>(wrong).unwrap_err().to_string();
            assert!(said.contains(word), "{said}");
        }
    }
}
