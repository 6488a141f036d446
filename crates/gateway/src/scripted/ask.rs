//! Reading a request, in either dialect, as far as the script needs it.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use crate::dialect::Dialect;

/// What a request says.
#[derive(Debug)]
pub(super) struct Ask {
    pub model: String,
    pub streamed: bool,
    /// The first thing the user said.
    pub first: String,
    /// All that was said after the model's last message.
    pub last: String,
    /// The model's messages.
    pub index: usize,
    /// Of system prompt and tools.
    pub head: u64,
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
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    #[serde(default)]
    content: Value,
}

impl Ask {
    /// `Err`: why it is no request.
    pub fn read(dialect: Dialect, body: &[u8]) -> Result<Self, String> {
        let body: Body<'_> =
            serde_json::from_slice(body).map_err(|err| format!("the request cannot be read: {err}"))?;
        let mut head = DefaultHasher::new();
        body.system.map(RawValue::get).hash(&mut head);
        body.tools.map(RawValue::get).hash(&mut head);
        let (mut first, mut last, mut index) = (None, String::new(), 0);
        for Message { role, content } in &body.messages {
            match (role.as_str(), dialect) {
                ("assistant", _) => {
                    index += 1;
                    last.clear();
                }
                ("system" | "developer", Dialect::OpenAi) => words(content).hash(&mut head),
                ("user", _) => {
                    let said = words(content);
                    last.push_str(&said);
                    first.get_or_insert(said);
                }
                ("tool", Dialect::OpenAi) => last.push_str(&words(content)),
                (role, _) => return Err(format!("messages: there is no role `{role}`")),
            }
        }
        let first = first.ok_or("messages: at least one of the user's is needed")?;
        Ok(Self { model: body.model, streamed: body.stream, first, last, index, head: head.finish() })
    }
}

/// All text in a message's content: a string, or parts with `text` or with content of their own.
fn words(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().map(words).collect::<Vec<_>>().join("\n"),
        Value::Object(part) => part.get("text").or_else(|| part.get("content")).map(words).unwrap_or_default(),
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
