//! Reading a request, in any protocol, as far as the script needs it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::shell::{self, Shell};
use crate::dialect::{Protocol, gemini};

/// What a request says.
#[derive(Debug)]
pub(super) struct Ask {
    pub model: String,
    pub streamed: bool,
    /// The first thing the user said.
    pub first: String,
    /// All that the user said before the model's first message.
    pub opening: String,
    /// All that was said after the model's last message.
    pub last: String,
    /// The model's messages.
    pub index: usize,
    /// Of system prompt and tools.
    pub head: u64,
    /// The response that this one goes on from, where the rest was not sent again.
    pub goes_on_from: Option<String>,
    /// The tool that runs commands, of those that are offered.
    pub shell: Option<Shell>,
}

#[derive(Deserialize)]
struct Body<'a> {
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(default)]
    input: Value,
    previous_response_id: Option<String>,
}

/// Of Gemini's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Contents<'a> {
    #[serde(borrow)]
    system_instruction: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    contents: Vec<Content>,
}

#[derive(Deserialize)]
struct Content {
    role: Option<String>,
    #[serde(default)]
    parts: Value,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

impl Ask {
    /// `Err`: why it is no request.
    pub fn read(protocol: Protocol, path: &str, body: &[u8]) -> Result<Self, String> {
        if let Some((model, method)) = gemini::target(path) {
            return Self::of_contents(model, method, body);
        }
        let body: Body<'_> =
            serde_json::from_slice(body).map_err(|err| format!("the request cannot be read: {err}"))?;
        if protocol == Protocol::Responses {
            return Self::of_items(&body);
        }
        let mut head = DefaultHasher::new();
        body.system.map(RawValue::get).hash(&mut head);
        body.tools.map(RawValue::get).hash(&mut head);
        let (mut first, mut opening, mut last, mut index) = (None, String::new(), String::new(), 0);
        for Message { role, content } in &body.messages {
            match (role.as_str(), protocol) {
                ("assistant", _) => {
                    index += 1;
                    last.clear();
                }
                // Anthropic's has taken it between the others' messages since 2026.
                ("system" | "developer", _) => words(content).hash(&mut head),
                ("user", _) => {
                    let said = words(content);
                    last.push_str(&said);
                    if index == 0 {
                        opening.push_str(&said);
                    }
                    first.get_or_insert(said);
                }
                ("tool", Protocol::ChatCompletions) => last.push_str(&words(content)),
                (role, _) => return Err(format!("messages: there is no role `{role}`")),
            }
        }
        let first = first.ok_or("messages: at least one of the user's is needed")?;
        let head = head.finish();
        let shell = shell::offered(body.tools);
        Ok(Self {
            model: body.model,
            streamed: body.stream,
            first,
            opening,
            last,
            index,
            head,
            goes_on_from: None,
            shell,
        })
    }

    /// A request of contents; its path says the rest.
    fn of_contents(model: &str, method: &str, body: &[u8]) -> Result<Self, String> {
        let body: Contents<'_> =
            serde_json::from_slice(body).map_err(|err| format!("the request cannot be read: {err}"))?;
        let mut head = DefaultHasher::new();
        body.system_instruction.map(RawValue::get).hash(&mut head);
        body.tools.map(RawValue::get).hash(&mut head);
        let (mut first, mut opening, mut last, mut index) = (None, String::new(), String::new(), 0);
        for Content { role, parts } in &body.contents {
            match role.as_deref() {
                Some("model") => {
                    index += 1;
                    last.clear();
                }
                None | Some("user") => {
                    let said = words(parts);
                    last.push_str(&said);
                    if index == 0 {
                        opening.push_str(&said);
                    }
                    first.get_or_insert(said);
                }
                Some(role) => return Err(format!("contents: there is no role `{role}`")),
            }
        }
        let first = first.ok_or("contents: at least one of the user's is needed")?;
        let streamed = method == "streamGenerateContent";
        Ok(Self {
            model: model.to_owned(),
            streamed,
            first,
            opening,
            last,
            index,
            head: head.finish(),
            goes_on_from: None,
            shell: shell::offered(body.tools),
        })
    }

    /// A request of items. One reply is several of them: what the model said, thought and called.
    fn of_items(body: &Body<'_>) -> Result<Self, String> {
        let mut head = DefaultHasher::new();
        body.instructions.map(RawValue::get).hash(&mut head);
        body.tools.map(RawValue::get).hash(&mut head);
        let text = [serde_json::json!({"role": "user", "content": body.input})];
        let items = body.input.as_array().map_or(&text[..], Vec::as_slice);
        let (mut first, mut last, mut index, mut is_models) = (None, String::new(), 0, false);
        let mut opening = String::new();
        for item in items {
            let of = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default();
            let was_models = std::mem::replace(&mut is_models, false);
            match (of("type"), of("role")) {
                ("" | "message", "user") => {
                    let said = words(&item["content"]);
                    last.push_str(&said);
                    if index == 0 {
                        opening.push_str(&said);
                    }
                    first.get_or_insert(said);
                }
                ("" | "message", "system" | "developer") => words(&item["content"]).hash(&mut head),
                ("function_call_output" | "custom_tool_call_output", _) => last.push_str(&words(&item["output"])),
                ("" | "message", "assistant") | ("reasoning" | "function_call" | "custom_tool_call", _) => {
                    is_models = true;
                    index += usize::from(!was_models);
                    last.clear();
                }
                (kind, role) => return Err(format!("input: there is no item `{kind}` of `{role}`")),
            }
        }
        let goes_on_from = body.previous_response_id.clone();
        let first = first.or_else(|| goes_on_from.is_some().then(String::new));
        let first = first.ok_or("input: at least one message of the user's is needed")?;
        Ok(Self {
            model: body.model.clone(),
            streamed: body.stream,
            first,
            opening,
            last,
            index,
            head: head.finish(),
            goes_on_from,
            shell: shell::offered(body.tools),
        })
    }
}

/// All text in a message's content: a string, or parts with `text`, with content of their own or with what a function gave.
fn words(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(words).collect::<Vec<_>>().join("\n"),
        Value::Object(part) => {
            let names = ["text", "content", "functionResponse", "response", "output", "error"];
            names.iter().find_map(|name| part.get(*name)).map(words).unwrap_or_default()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}

/// A request's bytes without the brackets that close it: what the next one should begin with.
pub(super) fn open_end(body: &[u8]) -> &[u8] {
    let closing = |byte: &u8| matches!(byte, b']' | b'}') || byte.is_ascii_whitespace();
    &body[..body.iter().rposition(|byte| !closing(byte)).map_or(0, |last| last + 1)]
}

pub(super) fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
