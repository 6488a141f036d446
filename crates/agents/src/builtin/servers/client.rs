//! One server of tools in the sandbox, spoken to in the Model Context Protocol over its standard input and output.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use domain::ports::sandbox::{Conversation, Exec, Sandbox};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Config;
use crate::clip;

/// The revision of the protocol that is asked for; servers answer with theirs, and tools are the same in all.
const PROTOCOL: &str = "2025-06-18";
/// The longest that a server may live: as long as a turn at most.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Lines without a message, or with one that nobody asked for, before a server is given up.
const MAX_NOISE: u32 = 10_000;
/// Pages of a list of tools.
const MAX_PAGES: u32 = 20;
/// Bytes of a server's standard error that tell why it failed.
const LAST_WORDS: usize = 400;

/// A server's tool, as the server tells of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tool {
    pub name: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub input_schema: Map<String, Value>,
    #[serde(default)]
    pub annotations: Annotations,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Annotations {
    pub read_only_hint: bool,
}

/// A running server. Dropping it kills it.
pub(super) struct Client {
    conversation: Conversation,
    asked: u64,
    pub tools: Vec<Tool>,
}

/// Why a request has no result.
pub(super) enum Failure {
    /// The server says so, and lives on.
    Refused(String),
    /// It cannot be spoken with any more.
    Dead(String),
}

impl Failure {
    pub fn why(self) -> String {
        match self {
            Self::Refused(why) | Self::Dead(why) => why,
        }
    }
}

impl Client {
    /// Starts a server and learns its tools. Not bounded in time.
    pub async fn start(sandbox: &Arc<dyn Sandbox>, config: &Config) -> Result<Self, Failure> {
        let Config { argv, env, .. } = config.clone();
        let exec = Exec { argv, cwd: None, env, stdin: Bytes::new(), timeout: LIFE };
        let conversation = sandbox.converse(exec).await.map_err(|fault| Failure::Dead(fault.to_string()))?;
        let mut client = Self { conversation, asked: 0, tools: Vec::new() };
        let hello = json!({
            "protocolVersion": PROTOCOL,
            "capabilities": {},
            "clientInfo": {"name": "overnight", "version": env!("CARGO_PKG_VERSION")},
        });
        client.ask("initialize", hello).await?;
        client.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await?;
        client.learn().await?;
        Ok(client)
    }

    async fn learn(&mut self) -> Result<(), Failure> {
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let params = cursor.map_or_else(|| json!({}), |cursor: Value| json!({ "cursor": cursor }));
            let mut page = self.ask("tools/list", params).await?;
            let tools = page.get_mut("tools").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default();
            // One that cannot be understood does not take the others with it.
            self.tools.extend(tools.into_iter().filter_map(|tool| serde_json::from_value(tool).ok()));
            cursor = page.get_mut("nextCursor").map(Value::take).filter(Value::is_string);
            if cursor.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// The result of a call, as the server tells it.
    pub async fn call(&mut self, tool: &str, arguments: Map<String, Value>) -> Result<Value, Failure> {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    pub async fn kill(mut self) {
        self.conversation.process.kill().await;
    }

    /// Sends a request and waits for its answer; what the server asks meanwhile is answered, or refused.
    async fn ask(&mut self, method: &str, params: Value) -> Result<Value, Failure> {
        self.asked += 1;
        let id = self.asked;
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})).await?;
        for _ in 0..MAX_NOISE {
            let line = match self.conversation.lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Err(self.gone().await),
                Err(fault) => return Err(Failure::Dead(fault.to_string())),
            };
            let Ok(mut message) = serde_json::from_slice::<Value>(&line) else { continue };
            let other = message.get("id").cloned();
            match (message.get("method").and_then(Value::as_str), other) {
                (Some("ping"), Some(other)) => {
                    self.say(&json!({"jsonrpc": "2.0", "id": other, "result": {}})).await?;
                }
                (Some(_), Some(other)) => {
                    let error = json!({"code": -32601, "message": "this client offers nothing"});
                    self.say(&json!({"jsonrpc": "2.0", "id": other, "error": error})).await?;
                }
                (None, Some(other)) if other == json!(id) => {
                    if let Some(error) = message.get("error") {
                        let why = error.get("message").and_then(Value::as_str).map(str::to_owned);
                        return Err(Failure::Refused(why.unwrap_or_else(|| error.to_string())));
                    }
                    return Ok(message.get_mut("result").map(Value::take).unwrap_or_default());
                }
                _ => {}
            }
        }
        Err(Failure::Dead(format!("it printed {MAX_NOISE} lines that answer nothing")))
    }

    async fn say(&mut self, message: &Value) -> Result<(), Failure> {
        let line = Bytes::from(format!("{message}\n"));
        match self.conversation.input.write(line).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.gone().await),
        }
    }

    /// The end of a server, with its last words.
    async fn gone(&mut self) -> Failure {
        let exit = self.conversation.process.wait(Duration::from_secs(1)).await;
        let output = self.conversation.process.output();
        let all = [&output.head[..], &output.tail[..]].concat();
        let words = String::from_utf8_lossy(&all[all.len().saturating_sub(LAST_WORDS)..]).trim().to_owned();
        let how = exit.map_or_else(|| "it closed its output".to_owned(), |exit| format!("it ended with {exit:?}"));
        Failure::Dead(if words.is_empty() { how } else { format!("{how}: {}", clip::head(&words, LAST_WORDS)) })
    }
}
