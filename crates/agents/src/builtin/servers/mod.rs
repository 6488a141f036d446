//! Servers of tools that the repository brings along (`.mcp.json` of the base, Model Context Protocol over standard input and
//! output). They run inside the sandbox, and so under its rules for files and network. What goes wrong with one is told to the
//! model; no turn fails by it.

mod client;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use domain::{
    ports::{
        agent::Line,
        sandbox::{Output, Sandbox},
    },
    profile::Profile,
};
use futures::future::join_all;
use serde::Deserialize;
use serde_json::Value;

use self::client::{Client, Failure, Tool};
use super::{
    conversation::Done,
    images,
    output::{self, MAX_TEXT},
    tools::{Lending, Lent, Server, is_given},
};
use crate::{clip, prompts};

/// The file that names the servers.
const FILE: &str = ".mcp.json";
const MAX_SERVERS: usize = 8;
/// A server that takes longer to start, or to answer a call, is given up.
const START_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(120);
/// How often one is started in a turn.
const MAX_STARTS: u32 = 3;
/// The tools that the model is given as they are; the others it reaches by `mcp`. Bytes of names, descriptions and schemas.
const MAX_TOOLS: usize = 40;
const MAX_SPECS: usize = 12 * 1024;
const MAX_DESCRIPTION: usize = 600;
/// The longest name that every provider takes.
const MAX_NAME: usize = 64;
/// Bytes of the list of the other tools.
const MAX_OTHERS: usize = 4 * 1024;

/// A server as the file configures it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Config {
    name: String,
    argv: Vec<String>,
    env: Vec<(String, String)>,
}

/// The servers of one turn. What runs when it is dropped is killed.
pub(super) struct Servers<'a> {
    sandbox: &'a Arc<dyn Sandbox>,
    line: &'a dyn Line,
    configs: Vec<Config>,
    /// Why servers of the file are not among them, a sentence each.
    remarks: Vec<String>,
    running: BTreeMap<String, Client>,
    starts: BTreeMap<String, u32>,
}

impl<'a> Servers<'a> {
    /// Starts nothing yet. `guidance`: files of the base by path.
    pub fn new(sandbox: &'a Arc<dyn Sandbox>, line: &'a dyn Line, guidance: &[(String, Bytes)]) -> Self {
        let file = guidance.iter().find(|(path, _)| path == FILE);
        let (configs, remarks) = file.map_or_else(Default::default, |(_, content)| read(content));
        Self { sandbox, line, configs, remarks, running: BTreeMap::new(), starts: BTreeMap::new() }
    }

    /// Starts all servers, side by side, for a conversation that begins: what they lend, and what the model is told of them.
    pub async fn introduce(&mut self, profile: Option<&Profile>) -> (Lending, String) {
        let has_tools = |tools: &Vec<String>| tools.iter().any(|tool| tool == "mcp" || tool.starts_with("mcp_"));
        let is_asked_for = profile.and_then(|profile| profile.tools.as_ref()).is_none_or(has_tools);
        if !is_asked_for || (self.configs.is_empty() && self.remarks.is_empty()) {
            return (Lending::default(), String::new());
        }
        let sandbox = self.sandbox;
        let starting = join_all(self.configs.iter().map(|config| start(sandbox, config)));
        let started = tokio::select! {
            biased;
            () = self.line.interrupted() => Vec::new(),
            started = starting => started,
        };
        let mut said = std::mem::take(&mut self.remarks);
        for (config, started) in self.configs.iter().zip(started) {
            self.starts.insert(config.name.clone(), 1);
            match started {
                Ok(client) => drop(self.running.insert(config.name.clone(), client)),
                Err(why) => said.push(format!("The server `{}` could not be started: {why}.", config.name)),
            }
        }
        let offered = self.configs.iter().filter_map(|config| {
            self.running.get(&config.name).map(|client| (config.name.as_str(), client.tools.as_slice()))
        });
        let (lending, others) = choose(offered, profile);
        said.extend(others.iter().map(|(server, tools)| format!("`{server}` has also, by mcp: {}", tools.join(", "))));
        let mut text = String::new();
        prompts::list(&mut text, "Servers of tools", &[clip::head(&said.join("\n- "), MAX_OTHERS)]);
        (lending, if said.is_empty() { String::new() } else { text })
    }

    /// Carries out a call; `id` names it within the attempt. Resolves soon after the turn is interrupted.
    pub async fn call(&mut self, call: Server, id: &str) -> Done {
        let name = call.server.clone();
        let Some(config) = self.configs.iter().find(|config| config.name == name) else {
            let names: Vec<_> = self.configs.iter().map(|config| config.name.as_str()).collect();
            return Done::error(format!("There is no server `{name}`. The servers are: {}.", names.join(", ")));
        };
        let mut client = match self.running.remove(&name) {
            Some(client) => client,
            None => match self.start_again(&config.clone()).await {
                Ok(client) => client,
                Err(why) => return Done::error(format!("The server `{name}` could not be started: {why}.")),
            },
        };
        let Some(arguments) = call.arguments else {
            let told = describe(&client, &call.tool);
            self.running.insert(name, client);
            return told;
        };
        let answer = tokio::select! {
            biased;
            () = self.line.interrupted() => None,
            answer = tokio::time::timeout(ANSWER_WITHIN, client.call(&call.tool, arguments)) => Some(answer),
        };
        let answer = match answer {
            None => {
                client.kill().await;
                return Done::error("[stopped: the turn was interrupted]");
            }
            Some(Err(_)) => Err(Failure::Dead(format!("it did not answer within {} s", ANSWER_WITHIN.as_secs()))),
            Some(Ok(answer)) => answer,
        };
        match answer {
            Ok(result) => {
                self.running.insert(name, client);
                told(self.sandbox, result, id).await
            }
            Err(Failure::Refused(why)) => {
                let told = clip::head(&format!("`{name}` refused the call: {why}"), MAX_TEXT);
                self.running.insert(name, client);
                Done::error(told)
            }
            Err(Failure::Dead(why)) => {
                client.kill().await;
                Done::error(format!(
                    "The server `{name}` failed and was stopped: {why}. Whether the call had an effect is unknown. It is started \
                     anew when you call it again."
                ))
            }
        }
    }

    pub async fn clear(&mut self) {
        join_all(std::mem::take(&mut self.running).into_values().map(Client::kill)).await;
    }

    async fn start_again(&mut self, config: &Config) -> Result<Client, String> {
        let starts = self.starts.entry(config.name.clone()).or_default();
        if *starts >= MAX_STARTS {
            return Err(format!("it failed {MAX_STARTS} times in this turn"));
        }
        *starts += 1;
        tokio::select! {
            biased;
            () = self.line.interrupted() => Err("the turn was interrupted".to_owned()),
            started = start(self.sandbox, config) => started,
        }
    }
}

async fn start(sandbox: &Arc<dyn Sandbox>, config: &Config) -> Result<Client, String> {
    match tokio::time::timeout(START_WITHIN, Client::start(sandbox, config)).await {
        Ok(started) => started.map_err(Failure::why),
        Err(_) => Err(format!("it was not ready within {} s", START_WITHIN.as_secs())),
    }
}

/// Reads the file: the servers, and what is to be said of those left out.
fn read(content: &[u8]) -> (Vec<Config>, Vec<String>) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct File {
        #[serde(default)]
        mcp_servers: BTreeMap<String, Value>,
    }
    #[derive(Deserialize)]
    struct Entry {
        command: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
    }
    let servers = match serde_json::from_slice::<File>(content) {
        Ok(file) => file.mcp_servers,
        Err(error) => return (Vec::new(), vec![format!("{FILE} cannot be read: {error}.")]),
    };
    let (mut configs, mut remarks) = (Vec::new(), Vec::new());
    for (name, entry) in servers {
        let remark = match serde_json::from_value::<Entry>(entry) {
            Ok(Entry { command, args, env }) if configs.len() < MAX_SERVERS => {
                let argv = [command].into_iter().chain(args).collect();
                let name = name.clone();
                configs.push(Config { name, argv, env: env.into_iter().collect() });
                continue;
            }
            Ok(_) => format!("The server `{name}` is left out: there are more than {MAX_SERVERS}."),
            Err(_) => format!("The server `{name}` is left out: it is not started by a command."),
        };
        remarks.push(remark);
    }
    (configs, remarks)
}

/// Names of tools that are not lent as they are, by server.
type Others = BTreeMap<String, Vec<String>>;

/// Which tools the model is given as they are, within the bounds; the others by name.
fn choose<'a>(offered: impl Iterator<Item = (&'a str, &'a [Tool])>, profile: Option<&Profile>) -> (Lending, Others) {
    let (mut tools, mut others, mut names, mut size) = (Vec::new(), Others::new(), BTreeSet::new(), 0);
    for (server, tool) in offered.flat_map(|(server, tools)| tools.iter().map(move |tool| (server, tool))) {
        let lent = lent(server, tool);
        if !is_given(profile, &lent.name) {
            continue;
        }
        let bytes = lent.name.len() + lent.description.len() + lent.schema.len();
        if tools.len() < MAX_TOOLS && size + bytes <= MAX_SPECS && names.insert(lent.name.clone()) {
            size += bytes;
            tools.push(lent);
        } else {
            others.entry(server.to_owned()).or_default().push(tool.name.clone());
        }
    }
    let more = !others.is_empty();
    (Lending { tools, more }, others)
}

fn lent(server: &str, tool: &Tool) -> Lent {
    let plain = |word: char| if word.is_ascii_alphanumeric() || word == '-' { word } else { '_' };
    let mut name: String = format!("mcp_{server}_{}", tool.name).chars().map(plain).collect();
    name.truncate(MAX_NAME);
    let mut schema = tool.input_schema.clone();
    // Some providers refuse what is no part of the schema itself, and a schema that is none of an object.
    schema.remove("$schema");
    schema.entry("type").or_insert_with(|| "object".into());
    Lent {
        name,
        server: server.to_owned(),
        tool: tool.name.clone(),
        description: clip::head(tool.description.trim(), MAX_DESCRIPTION),
        schema: Value::from(schema).to_string(),
        reads: tool.annotations.read_only_hint,
    }
}

fn describe(client: &Client, tool: &str) -> Done {
    match client.tools.iter().find(|known| known.name == tool) {
        Some(Tool { description, input_schema, .. }) => {
            let schema = Value::from(input_schema.clone());
            Done::ok(clip::head(&format!("{description}\nSchema of its arguments: {schema}"), MAX_TEXT))
        }
        None => {
            let names: Vec<_> = client.tools.iter().map(|tool| tool.name.as_str()).collect();
            Done::error(clip::head(&format!("It has no tool `{tool}`. It has: {}.", names.join(", ")), MAX_TEXT))
        }
    }
}

/// A result as the model is told it: its texts, cut like a command's output, and its images.
async fn told(sandbox: &Arc<dyn Sandbox>, result: Value, id: &str) -> Done {
    let (mut text, mut shown) = (String::new(), Vec::new());
    let content = result.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    for item in content {
        let kind = word(item, "type");
        let told = match kind.as_str() {
            "text" => word(item, "text"),
            "image" => match images::encoded(&word(item, "mimeType"), &word(item, "data")) {
                Some(image) => {
                    shown.push(image);
                    images::FOLLOWS.to_owned()
                }
                None => format!("[an image that cannot be shown: {}]", word(item, "mimeType")),
            },
            "resource_link" => word(item, "uri"),
            "resource" => word(item.get("resource").unwrap_or(&Value::Null), "text"),
            _ => format!("[{kind}]"),
        };
        let _ = writeln!(text, "{told}");
    }
    if content.is_empty()
        && let Some(structured) = result.get("structuredContent")
    {
        text = structured.to_string();
    }
    let is_error = result.get("isError") == Some(&Value::Bool(true));
    let total = text.len() as u64;
    let whole = Output { head: text.into(), total, ..Output::default() };
    let news = output::news(&whole, 0);
    let mut text = news.text.trim_end().to_owned();
    if news.elided > 0 {
        let _ = write!(text, "\n{}", output::keep(sandbox, whole, id).await);
    }
    if text.is_empty() {
        "[no output]".clone_into(&mut text);
    }
    Done { text, is_error, images: shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, bytes: usize) -> Tool {
        let schema = serde_json::json!({"$schema": "x", "properties": {}});
        Tool {
            name: name.to_owned(),
            description: "d".repeat(bytes),
            input_schema: schema.as_object().unwrap().clone(),
            annotations: client::Annotations::default(),
        }
    }

    #[test]
    fn the_file_names_commands_and_says_what_it_leaves_out() {
        let (configs, remarks) = read(
            br#"{"mcpServers": {"a": {"command": "node", "args": ["s.js"], "env": {"K": "v"}}, "b": {"url": "http://x"}}}"#,
        );
        let argv = vec!["node".to_owned(), "s.js".to_owned()];
        assert_eq!(configs, [Config { name: "a".to_owned(), argv, env: vec![("K".to_owned(), "v".to_owned())] }]);
        assert!(remarks[0].contains("`b` is left out"), "{remarks:?}");
        assert!(read(b"{").1[0].contains("cannot be read"));
        assert_eq!(read(b"{}"), (Vec::new(), Vec::new()));
    }

    #[test]
    fn names_and_schemas_are_such_as_every_provider_takes() {
        let lent = lent("my.server", &tool(&"é/x".repeat(40), 3));
        assert!(lent.name.starts_with("mcp_my_server__") && lent.name.len() == MAX_NAME, "{}", lent.name);
        assert_eq!(lent.schema, r#"{"properties":{},"type":"object"}"#);
    }

    #[test]
    fn many_tools_are_reached_by_name() {
        let many: Vec<_> = (0..60).map(|n| tool(&format!("t{n}"), 10)).collect();
        let (lending, others) = choose([("a", many.as_slice())].into_iter(), None);
        assert_eq!((lending.tools.len(), lending.more, others["a"].len()), (MAX_TOOLS, true, 20));
        let large: Vec<_> = (0..30).map(|n| tool(&format!("t{n}"), 1000)).collect();
        let (lending, _) = choose([("a", large.as_slice())].into_iter(), None);
        assert!(lending.more && lending.tools.len() >= 15, "{}", lending.tools.len());
        let twice = [tool("a.b", 1), tool("a_b", 1)];
        let (lending, others) = choose([("s", twice.as_slice())].into_iter(), None);
        assert_eq!((lending.tools.len(), others["s"].as_slice()), (1, &["a_b".to_owned()][..]));
        let none = Profile { tools: Some(vec!["read".to_owned()]), ..Profile::default() };
        assert_eq!(choose([("a", many.as_slice())].into_iter(), Some(&none)).0, Lending::default());
    }
}
