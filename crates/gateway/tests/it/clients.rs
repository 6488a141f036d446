//! The official clients of three providers, which nobody here wrote, through the proxy. `cargo xtask test` installs them.

use std::{path::PathBuf, process::Stdio};

use domain::{budget::Usage, ports::model::Endpoint};
use gateway::Dialect;
use serde_json::{Value, json};

use crate::stage::Stage;

const USAGE: Usage = Usage { input: 10, cache_read: 20, cache_write: 0, output: 40, reasoning: 0 };

/// The first reply of each conversation.
fn first() -> Value {
    json!({
        "text": "words ".repeat(100), "thinking": "hm", "tools": [{"name": "shell", "arguments": {"command": "ls"}}],
        "usage": {"input": 10, "cache_read": 20, "output": 40},
    })
}

/// What a script prints, as JSON. `None`: the clients are not installed, which is said aloud.
async fn run(script: &str, endpoint: &Endpoint) -> Option<Value> {
    let Some(agents) = std::env::var_os("OVERNIGHT_AGENTS").map(PathBuf::from) else {
        eprintln!("SKIPPED: OVERNIGHT_AGENTS is not set; `cargo xtask agents` installs the clients and says where");
        return None;
    };
    let own = agents.join("bin/node");
    let mut node = tokio::process::Command::new(if own.exists() { own } else { "node".into() });
    node.args(["--input-type=module", "-e", script]).current_dir(agents).stdin(Stdio::null()).kill_on_drop(true);
    node.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    node.env("URL", &endpoint.url).env("KEY", &endpoint.token);
    let output = node.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

const ANTHROPIC: &str = r#"
import Anthropic from "@anthropic-ai/sdk";
const client = new Anthropic({ baseURL: process.env.URL, apiKey: process.env.KEY, maxRetries: 0 });
const model = "claude-sonnet-5-5";
const tools = [{ name: "shell", input_schema: { type: "object", properties: {} } }];
const messages = [{ role: "user", content: "hello" }];
let said = "";
const stream = client.messages.stream({ model, max_tokens: 500, tools, messages });
stream.on("text", (text) => { said += text; });
const first = await stream.finalMessage();
const call = first.content.find((block) => block.type === "tool_use");
messages.push({ role: "assistant", content: first.content });
messages.push({ role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "a b" }] });
const second = await client.messages.create({ model, max_tokens: 500, tools, messages });
const counted = await client.messages.countTokens({ model, messages });
let refused;
try { await client.messages.create({ model, max_tokens: 500, messages: [] }); } catch (error) { refused = error; }
console.log(JSON.stringify({
  said, call: call.name, arguments: call.input, usage: first.usage.output_tokens, second: second.content[0].text,
  counted: counted.input_tokens, refused: refused.status,
}));
"#;

#[tokio::test]
async fn anthropics_is_served() {
    let stage = Stage::of(json!([first(), {"text": "two", "when": "a b"}])).await;
    let endpoint = stage.endpoint(Dialect::Anthropic).await;
    let Some(told) = run(ANTHROPIC, &endpoint).await else { return };
    let expected = json!({
        "said": "words ".repeat(100), "call": "shell", "arguments": {"command": "ls"}, "usage": 40, "second": "two",
        "counted": 1, "refused": 400,
    });
    assert_eq!(told, expected);
    let settled = stage.ledger.settlements().await;
    assert!(settled.len() == 3 && settled.iter().all(|one| !one.estimated), "{settled:?}");
    assert_eq!(settled[0].usage, USAGE);
}

const GEMINI: &str = r#"
import { GoogleGenAI } from "@google/genai";
const client = new GoogleGenAI({ apiKey: process.env.KEY, httpOptions: { baseUrl: process.env.URL } });
const model = "gemini-3.8-flash";
const tools = [{ functionDeclarations: [{ name: "shell", parametersJsonSchema: { type: "object", properties: {} } }] }];
const contents = [{ role: "user", parts: [{ text: "hello" }] }];
const parts = [];
let usage;
for await (const chunk of await client.models.generateContentStream({ model, contents, config: { tools } })) {
  parts.push(...(chunk.candidates[0].content.parts ?? []));
  usage = chunk.usageMetadata;
}
const call = parts.find((part) => part.functionCall).functionCall;
const said = parts.filter((part) => part.text && !part.thought).map((part) => part.text).join("");
contents.push({ role: "model", parts });
contents.push({ role: "user", parts: [{ functionResponse: { name: call.name, response: { output: "a b" } } }] });
const second = await client.models.generateContent({ model, contents, config: { tools, maxOutputTokens: 500 } });
const counted = await client.models.countTokens({ model, contents });
let refused;
try { await client.models.generateContent({ model, contents, config: { cachedContent: "cachedContents/x" } }); }
catch (error) { refused = error; }
console.log(JSON.stringify({
  said, call: call.name, arguments: call.args, usage: usage.totalTokenCount, second: second.text,
  counted: counted.totalTokens, refused: refused.status,
}));
"#;

#[tokio::test]
async fn googles_is_served() {
    let stage = Stage::of(json!([first(), {"text": "two", "when": "a b"}])).await;
    let endpoint = stage.endpoint(Dialect::Gemini).await;
    let Some(told) = run(GEMINI, &endpoint).await else { return };
    let expected = json!({
        "said": "words ".repeat(100), "call": "shell", "arguments": {"command": "ls"}, "usage": 70, "second": "two",
        "counted": 1, "refused": 400,
    });
    assert_eq!(told, expected);
    let settled = stage.ledger.settlements().await;
    assert!(settled.len() == 2 && settled.iter().all(|one| !one.estimated), "{settled:?}");
    assert_eq!(settled[0].usage, Usage { reasoning: 20, ..USAGE });
}

const OPENAI: &str = r#"
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.URL + "/v1", apiKey: process.env.KEY, maxRetries: 0 });
const model = "gpt-6.1-sol";
const shell = { type: "function", name: "shell", parameters: { type: "object", properties: {} }, strict: false };
const input = [{ role: "user", content: "hello" }];
const stream = client.responses.stream({ model, input, tools: [shell] });
let said = "";
stream.on("response.output_text.delta", (event) => { said += event.delta; });
const first = await stream.finalResponse();
const call = first.output.find((item) => item.type === "function_call");
input.push(...first.output, { type: "function_call_output", call_id: call.call_id, output: "a b" });
const second = await client.responses.create({ model, input, tools: [shell], max_output_tokens: 500 });
const third = await client.responses.create({ model, input: "and?", previous_response_id: second.id, max_output_tokens: 500 });
const messages = [{ role: "user", content: "hello" }];
const chat = client.chat.completions.stream({ model, messages, tools: [{ type: "function", function: { name: "shell" } }] });
const chatted = (await chat.finalChatCompletion()).choices[0].message;
const models = [];
for await (const one of client.models.list()) models.push(one.id);
let refused;
try { await client.responses.create({ model, input: "x", background: true }); } catch (error) { refused = error; }
console.log(JSON.stringify({
  said, call: call.name, arguments: JSON.parse(call.arguments), usage: first.usage.total_tokens, second: second.output_text,
  third: third.output_text, chatted: chatted.content, chat_call: chatted.tool_calls[0].function.name, models,
  refused: refused.status,
}));
"#;

#[tokio::test]
async fn openais_is_served() {
    let stage = Stage::of(json!([first(), {"text": "two", "when": "a b"}, {"text": "three"}])).await;
    let endpoint = stage.endpoint(Dialect::OpenAi).await;
    let Some(told) = run(OPENAI, &endpoint).await else { return };
    let words = "words ".repeat(100);
    let expected = json!({
        "said": words, "call": "shell", "arguments": {"command": "ls"}, "usage": 70, "second": "two", "third": "three",
        "chatted": words, "chat_call": "shell", "models": [], "refused": 400,
    });
    assert_eq!(told, expected);
    let settled = stage.ledger.settlements().await;
    assert!(settled.len() == 4 && settled.iter().all(|one| !one.estimated), "{settled:?}");
    assert!(settled[0].usage == USAGE && settled[3].usage == USAGE);
}
