//! `OpenAI` Chat Completions: `POST /v1/chat/completions`, streamed with `include_usage`.

use bytes::Bytes;
use domain::ports::model::{Message, ModelReply, ModelRequest, Part, Role, Stop};
use serde::Deserialize;

use super::{
    Complaint, Trouble,
    tokens::{Count, account},
    write::{comma, raw, string},
};
use crate::prices::Counted;

/// What the output cap is called: `OpenAI`'s own newer models refuse the older name, most other servers know only that.
pub(crate) fn cap_name(model: &str) -> &'static str {
    if is_own_model(model) { "max_completion_tokens" } else { "max_tokens" }
}

/// Whether a bare name is one of `OpenAI`'s own.
pub(crate) fn is_own_model(model: &str) -> bool {
    let reasoning = || model.strip_prefix('o').is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()));
    ["gpt-", "chatgpt-", "codex-"].iter().any(|prefix| model.starts_with(prefix)) || reasoning()
}

pub(super) fn encode(model: &str, request: &ModelRequest<'_>) -> Bytes {
    let mut out = Vec::with_capacity(16 << 10);
    raw(&mut out, r#"{"model":"#);
    string(&mut out, model);
    raw(&mut out, &format!(r#","{}":{},"stream":true"#, cap_name(model), request.max_output));
    raw(&mut out, r#","stream_options":{"include_usage":true}"#);
    if !request.tools.is_empty() {
        raw(&mut out, r#","tools":["#);
        for tool in request.tools {
            comma(&mut out);
            raw(&mut out, r#"{"type":"function","function":{"name":"#);
            string(&mut out, &tool.name);
            raw(&mut out, r#","description":"#);
            string(&mut out, &tool.description);
            raw(&mut out, r#","parameters":"#);
            raw(&mut out, &tool.schema);
            raw(&mut out, "}}");
        }
        raw(&mut out, "]");
    }
    raw(&mut out, r#","messages":["#);
    if !request.system.is_empty() {
        say(&mut out, "system", request.system);
    }
    for message in request.messages {
        match message.role {
            Role::User => encode_user(&mut out, &message.parts),
            Role::Assistant => encode_assistant(&mut out, &message.parts),
        }
    }
    raw(&mut out, "]}");
    Bytes::from(out)
}

fn say(out: &mut Vec<u8>, role: &str, text: &str) {
    comma(out);
    raw(out, r#"{"role":"#);
    string(out, role);
    raw(out, r#","content":"#);
    string(out, text);
    raw(out, "}");
}

/// A message per part: results are messages of their own here, and a text that joins later must not change what was sent before.
fn encode_user(out: &mut Vec<u8>, parts: &[Part]) {
    for part in parts {
        match part {
            Part::Text { text } => say(out, "user", text),
            Part::ToolResult { id, text, .. } => {
                comma(out);
                raw(out, r#"{"role":"tool","tool_call_id":"#);
                string(out, id);
                raw(out, r#","content":"#);
                string(out, text);
                raw(out, "}");
            }
            Part::Image { media, base64 } => {
                comma(out);
                raw(out, r#"{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:"#);
                // Neither has anything in it that JSON would escape.
                raw(out, media);
                raw(out, ";base64,");
                raw(out, base64);
                raw(out, r#""}}]}"#);
            }
            Part::ToolCall { .. } | Part::Opaque { .. } => {}
        }
    }
}

fn encode_assistant(out: &mut Vec<u8>, parts: &[Part]) {
    let texts: Vec<&str> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text { text } => Some(text.as_str()),
            Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
        })
        .collect();
    let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    comma(out);
    raw(out, r#"{"role":"assistant","content":"#);
    if texts.is_empty() && calls {
        raw(out, "null");
    } else {
        string(out, &texts.join("\n\n"));
    }
    for part in parts {
        // Another dialect's secrets mean nothing here. Ours are the fields of the message that we do not know by meaning.
        if let Part::Opaque { json } = part
            && is_reasoning(json)
            && let Some(fields) = json.strip_prefix('{').and_then(|json| json.strip_suffix('}'))
        {
            raw(out, ",");
            raw(out, fields);
        }
    }
    if calls {
        raw(out, r#","tool_calls":["#);
        for part in parts {
            if let Part::ToolCall { id, name, arguments } = part {
                comma(out);
                raw(out, r#"{"id":"#);
                string(out, id);
                raw(out, r#","type":"function","function":{"name":"#);
                string(out, name);
                raw(out, r#","arguments":"#);
                string(out, arguments);
                raw(out, "}}");
            }
        }
        raw(out, "]");
    }
    raw(out, "}");
}

/// Whether an opaque part comes from this dialect: an object of fields that go back into the assistant's message.
pub(super) fn is_reasoning(json: &str) -> bool {
    json.starts_with(r#"{"reasoning"#)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    prompt_tokens: Count,
    /// Reasoning included.
    completion_tokens: Count,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CompletionDetails {
    reasoning_tokens: Count,
}

impl Usage {
    fn counted(self) -> Counted {
        let mut counted = Counted::default();
        let mut read = |count: Count| count.read(&mut counted).unwrap_or(0);
        let (input, output) = (self.prompt_tokens, self.completion_tokens);
        let PromptDetails { cached_tokens, cache_write_tokens } = self.prompt_tokens_details.unwrap_or_default();
        let CompletionDetails { reasoning_tokens } = self.completion_tokens_details.unwrap_or_default();
        let (cache_read, cache_write) = (read(cached_tokens), read(cache_write_tokens));
        counted.usage = domain::budget::Usage {
            input: read(input).saturating_sub(cache_read).saturating_sub(cache_write),
            cache_read,
            cache_write,
            output: read(output),
            reasoning: read(reasoning_tokens),
        };
        counted
    }
}

pub(super) fn count(json: &str, counted: &mut Counted) -> bool {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(default, deserialize_with = "account")]
        usage: Option<Usage>,
    }
    match serde_json::from_str::<Holder>(json) {
        Ok(Holder { usage: Some(usage) }) => {
            *counted = usage.counted();
            true
        }
        Ok(Holder { usage: None }) | Err(_) => false,
    }
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Deserialize)]
struct CallDelta {
    /// Some servers leave it out when they send each call whole.
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Debug, Default)]
struct Call {
    index: usize,
    id: String,
    name: String,
    arguments: String,
}

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    text: String,
    refusal: String,
    /// Reasoning in the open: the field it came in, and its text. Servers want it back in the same field.
    reasoning: Option<(&'static str, String)>,
    calls: Vec<Call>,
    finish: Option<String>,
    pub(super) counted: Option<Counted>,
    pub(super) over: bool,
}

impl Decoder {
    pub(super) fn event(&mut self, data: &str) -> Result<(), Trouble> {
        if data == "[DONE]" {
            self.over = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|err| Trouble::invalid(&format!("an event of the stream cannot be read ({err})"), data))?;
        if chunk.error.is_some() {
            return Err(Trouble::complaint(&Complaint::read(data).unwrap_or_default()));
        }
        if let Some(usage) = chunk.usage {
            self.counted = Some(usage.counted());
        }
        if let Some(choice) = chunk.choices.into_iter().next() {
            self.extend(choice.delta);
            self.finish = choice.finish_reason.or(self.finish.take());
        }
        Ok(())
    }

    fn extend(&mut self, delta: Delta) {
        self.text.push_str(delta.content.as_deref().unwrap_or_default());
        self.refusal.push_str(delta.refusal.as_deref().unwrap_or_default());
        for (field, text) in [("reasoning_content", delta.reasoning_content), ("reasoning", delta.reasoning)] {
            // A server that sends both sends the same in both.
            if let Some(text) = text
                && self.reasoning.as_ref().is_none_or(|(known, _)| *known == field)
            {
                self.reasoning.get_or_insert((field, String::new())).1.push_str(&text);
            }
        }
        for delta in delta.tool_calls.into_iter().flatten() {
            let index = delta.index.unwrap_or_else(|| match &delta.id {
                Some(_) => self.calls.len(),
                None => self.calls.len().saturating_sub(1),
            });
            let at = self.calls.iter().position(|call| call.index == index).unwrap_or_else(|| {
                self.calls.push(Call { index, ..Call::default() });
                self.calls.len() - 1
            });
            let call = &mut self.calls[at];
            // Repeated by some servers, so set and not appended.
            if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
                call.id = id;
            }
            if let Some(function) = delta.function {
                if let Some(name) = function.name.filter(|name| !name.is_empty()) {
                    call.name = name;
                }
                call.arguments.push_str(function.arguments.as_deref().unwrap_or_default());
            }
        }
    }

    /// A stream that stops after its finish reason, without `[DONE]`, is whole.
    pub(super) fn finish(self) -> Option<Result<ModelReply, Trouble>> {
        if !self.over && self.finish.is_none() {
            return None;
        }
        if self.finish.is_none() && self.calls.is_empty() && self.text.is_empty() && self.refusal.is_empty() {
            return Some(Err(Trouble::Invalid("the stream ended without a reply".to_owned())));
        }
        let stop = match self.finish.as_deref() {
            Some("length") => Stop::Length,
            Some("content_filter") => Stop::Refused,
            _ if !self.refusal.is_empty() => Stop::Refused,
            // Some servers say `stop` after tool calls.
            _ if !self.calls.is_empty() => Stop::ToolCalls,
            _ => Stop::EndTurn,
        };
        let reasoning = self.reasoning.filter(|(_, text)| !text.is_empty()).map(|(field, text)| {
            let mut json = format!(r#"{{"{field}":"#).into_bytes();
            string(&mut json, &text);
            raw(&mut json, "}");
            Part::Opaque { json: String::from_utf8_lossy(&json).into_owned() }
        });
        let texts = [self.text, self.refusal].into_iter().filter(|text| !text.is_empty());
        let calls = self.calls.into_iter().map(|call| Part::ToolCall {
            // A result must be able to name its call.
            id: if call.id.is_empty() { format!("call_{}", uuid::Uuid::new_v4().simple()) } else { call.id },
            name: call.name,
            // Some servers send nothing for a call without arguments.
            arguments: if call.arguments.is_empty() { "{}".to_owned() } else { call.arguments },
        });
        let parts = reasoning.into_iter().chain(texts.map(|text| Part::Text { text })).chain(calls).collect();
        let usage = self.counted.unwrap_or_default().usage;
        Some(Ok(ModelReply { message: Message { role: Role::Assistant, parts }, stop, usage }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(events: &[&str]) -> Result<Option<Result<ModelReply, Trouble>>, Trouble> {
        let mut decoder = Decoder::default();
        events.iter().try_for_each(|event| decoder.event(event))?;
        Ok(decoder.finish())
    }

    fn reply(events: &[&str]) -> ModelReply {
        decode(events).unwrap().unwrap().unwrap()
    }

    #[test]
    fn deltas_are_merged_by_index_and_usage_comes_last() {
        let reply = reply(&[
            r#"{"choices":[],"prompt_filter_results":[{"prompt_index":0}]}"#,
            r#"{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"shell","arguments":""}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"read","arguments":"{\"pa"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"command\":\"ls\"}"}},{"index":1,"function":{"arguments":"th\":\"x\"}"}}]}}]}"#,
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,"prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":128}}}"#,
            "[DONE]",
        ]);
        let usage = domain::budget::Usage { input: 86, cache_read: 1920, cache_write: 0, output: 300, reasoning: 128 };
        assert_eq!((reply.stop, reply.usage), (Stop::ToolCalls, usage));
        let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        assert_eq!(
            reply.message.parts,
            [
                Part::Text { text: "Hi".to_owned() },
                call("call_a", "shell", r#"{"command":"ls"}"#),
                call("call_b", "read", r#"{"path":"x"}"#),
            ]
        );
    }

    #[test]
    fn local_servers_are_understood() {
        // Calls whole and without index or id, `stop` after calls, no `[DONE]`.
        let whole = reply(&[
            r#"{"choices":[{"delta":{"reasoning_content":"hm","tool_calls":[{"id":"","function":{"name":"a","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":" so","tool_calls":[{"id":"x","function":{"name":"b"}}]},"finish_reason":"stop"}]}"#,
        ]);
        assert_eq!(whole.stop, Stop::ToolCalls);
        let [Part::Opaque { json }, Part::ToolCall { id, name, .. }, Part::ToolCall { id: second, arguments, .. }] =
            whole.message.parts.as_slice()
        else {
            panic!("{whole:?}");
        };
        assert_eq!((json.as_str(), name.as_str()), (r#"{"reasoning_content":"hm so"}"#, "a"));
        assert!(id.starts_with("call_"), "an id is made up");
        assert_eq!((second.as_str(), arguments.as_str()), ("x", "{}"));
        let mut sent = Vec::new();
        encode_assistant(&mut sent, &whole.message.parts);
        let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!((&sent["reasoning_content"], &sent["content"]), (&"hm so".into(), &serde_json::Value::Null));
        assert_eq!(sent["tool_calls"][1]["function"]["name"], "b");
    }

    #[test]
    fn ends_and_errors_are_told_apart() {
        let said = |finish: &str| {
            reply(&[&format!(r#"{{"choices":[{{"delta":{{"content":"x"}},"finish_reason":"{finish}"}}]}}"#)]).stop
        };
        assert_eq!(
            (said("stop"), said("length"), said("content_filter")),
            (Stop::EndTurn, Stop::Length, Stop::Refused)
        );
        let refusal = reply(&[r#"{"choices":[{"delta":{"refusal":"I can't"},"finish_reason":"stop"}]}"#]);
        assert_eq!((refusal.stop, refusal.message.parts.len()), (Stop::Refused, 1));
        assert_eq!(decode(&[r#"{"choices":[{"delta":{"content":"x"}}]}"#]), Ok(None), "cut");
        assert!(matches!(decode(&["[DONE]"]), Ok(Some(Err(Trouble::Invalid(_))))), "nothing at all");
        let busy = r#"{"error":{"message":"busy","type":"server_error","code":null}}"#;
        assert_eq!(decode(&[busy]), Err(Trouble::Passing("server_error: busy".to_owned())));
        let numbered = r#"{"error":{"message":"upstream","code":502}}"#;
        assert_eq!(decode(&[numbered]), Err(Trouble::Passing("502: upstream".to_owned())));
        let wrong = r#"{"error":"bad model"}"#;
        assert_eq!(decode(&[wrong]), Err(Trouble::Invalid("bad model".to_owned())));
        assert!(matches!(decode(&["{not json"]), Err(Trouble::Invalid(_))));
    }
}
