//! Anthropic Messages, version 2023-06-01: `POST /v1/messages`, streamed.
//!
//! The provider's cache is asked for in two marks that never move, so that an earlier request stays a prefix of a later one:
//! one after the system prompt (shared by all attempts), and the request's own `cache_control`, which stands for its last block.

use bytes::Bytes;
use domain::ports::model::{Message, ModelReply, ModelRequest, Part, Role, Stop};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Complaint, Trouble, gemini,
    openai::is_reasoning,
    responses,
    tokens::{Count, account},
    write::{comma, is_object, raw, string},
};
use crate::prices::Counted;

/// The value of the header `anthropic-version`.
pub(crate) const VERSION: &str = "2023-06-01";

pub(super) fn encode(model: &str, request: &ModelRequest<'_>) -> Bytes {
    let mut out = Vec::with_capacity(16 << 10);
    raw(&mut out, r#"{"model":"#);
    string(&mut out, model);
    raw(&mut out, &format!(r#","max_tokens":{},"stream":true"#, request.max_output));
    raw(&mut out, r#","cache_control":{"type":"ephemeral"}"#);
    if !request.tools.is_empty() {
        raw(&mut out, r#","tools":["#);
        for tool in request.tools {
            comma(&mut out);
            raw(&mut out, r#"{"name":"#);
            string(&mut out, &tool.name);
            raw(&mut out, r#","description":"#);
            string(&mut out, &tool.description);
            raw(&mut out, r#","input_schema":"#);
            raw(&mut out, &tool.schema);
            raw(&mut out, "}");
        }
        raw(&mut out, "]");
    }
    if !request.system.is_empty() {
        raw(&mut out, r#","system":[{"type":"text","text":"#);
        string(&mut out, request.system);
        raw(&mut out, r#","cache_control":{"type":"ephemeral"}}]"#);
    }
    raw(&mut out, r#","messages":["#);
    for message in request.messages {
        encode_message(&mut out, message);
    }
    raw(&mut out, "]}");
    Bytes::from(out)
}

fn encode_message(out: &mut Vec<u8>, message: &Message) {
    comma(out);
    raw(
        out,
        match message.role {
            Role::User => r#"{"role":"user","content":["#,
            Role::Assistant => r#"{"role":"assistant","content":["#,
        },
    );
    for part in &message.parts {
        encode_part(out, part);
    }
    raw(out, "]}");
}

fn encode_part(out: &mut Vec<u8>, part: &Part) {
    match part {
        Part::Text { text } => {
            comma(out);
            raw(out, r#"{"type":"text","text":"#);
            string(out, text);
            raw(out, "}");
        }
        Part::ToolCall { id, name, arguments } => {
            comma(out);
            raw(out, r#"{"type":"tool_use","id":"#);
            string(out, id);
            raw(out, r#","name":"#);
            string(out, name);
            raw(out, r#","input":"#);
            if is_object(arguments) {
                raw(out, arguments);
            } else {
                // The provider takes nothing but an object, and the model should see what it wrote.
                raw(out, r#"{"invalid_arguments":"#);
                string(out, arguments);
                raw(out, "}");
            }
            raw(out, "}");
        }
        Part::ToolResult { id, text, is_error } => {
            comma(out);
            raw(out, r#"{"type":"tool_result","tool_use_id":"#);
            string(out, id);
            raw(out, r#","content":"#);
            string(out, text);
            raw(out, if *is_error { r#","is_error":true}"# } else { "}" });
        }
        Part::Image { media, base64 } => {
            comma(out);
            raw(out, r#"{"type":"image","source":{"type":"base64","media_type":"#);
            string(out, media);
            raw(out, r#","data":"#);
            string(out, base64);
            raw(out, "}}");
        }
        // Another dialect's secrets mean nothing here.
        Part::Opaque { json } if is_reasoning(json) || gemini::is_own(json) || responses::is_own(json) => {}
        Part::Opaque { json } => {
            comma(out);
            raw(out, json);
        }
    }
}

/// Usage as `message_start`, `message_delta` and whole messages report it; later numbers replace earlier ones.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    input_tokens: Count,
    cache_read_input_tokens: Count,
    cache_creation_input_tokens: Count,
    output_tokens: Count,
    cache_creation: Option<CacheCreation>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: Count,
    reasoning_tokens: Count,
}

impl Usage {
    fn into(self, counted: &mut Counted) {
        let OutputDetails { thinking_tokens, reasoning_tokens } = self.output_tokens_details.unwrap_or_default();
        let kept = self.cache_creation.unwrap_or_default().ephemeral_1h_input_tokens;
        let mut read = |count: Count| count.read(counted);
        let input = read(self.input_tokens);
        let (cache_read, cache_write) = (read(self.cache_read_input_tokens), read(self.cache_creation_input_tokens));
        let (output, reasoning) = (read(self.output_tokens), read(thinking_tokens).or(read(reasoning_tokens)));
        let kept_an_hour = read(kept);
        let usage = &mut counted.usage;
        for (to, from) in [
            (&mut usage.input, input),
            (&mut usage.cache_read, cache_read),
            (&mut usage.cache_write, cache_write),
            (&mut usage.output, output),
            (&mut usage.reasoning, reasoning),
            (&mut counted.kept_an_hour, kept_an_hour),
        ] {
            *to = from.unwrap_or(*to);
        }
    }
}

pub(super) fn count(json: &str, counted: &mut Counted) -> bool {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(default, deserialize_with = "account")]
        usage: Option<Usage>,
        message: Option<Inner>,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default, deserialize_with = "account")]
        usage: Option<Usage>,
    }
    let Ok(holder) = serde_json::from_str::<Holder>(json) else { return false };
    match holder.usage.or(holder.message.and_then(|message| message.usage)) {
        Some(usage) => {
            usage.into(counted);
            true
        }
        None => false,
    }
}

/// One event of a stream: `kind` says which of the fields are there.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: Option<Start>,
    index: Option<usize>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    delta: Option<Delta>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Opening<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    text: Option<String>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    thinking: Option<String>,
    signature: Option<String>,
}

/// Of a block, or (`stop_reason`) of the message.
#[derive(Default, Deserialize)]
struct Delta {
    text: Option<String>,
    partial_json: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    stop_reason: Option<String>,
}

/// A content block that is being put together.
#[derive(Debug)]
enum Block {
    Text(String),
    /// `input` is what the block opened with; it counts when no delta follows.
    ToolUse {
        id: String,
        name: String,
        input: String,
        deltas: String,
    },
    Thinking {
        thinking: String,
        signature: String,
    },
    /// Redacted thinking, and whatever is invented later.
    Whole(String),
}

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    blocks: Vec<Block>,
    stop: Option<Stop>,
    pub(super) counted: Option<Counted>,
    pub(super) over: bool,
}

impl Decoder {
    pub(super) fn event(&mut self, data: &str) -> Result<(), Trouble> {
        let event: Event<'_> = serde_json::from_str(data)
            .map_err(|err| Trouble::invalid(&format!("an event of the stream cannot be read ({err})"), data))?;
        if let Some(usage) = event.message.and_then(|message| message.usage).or(event.usage) {
            usage.into(self.counted.get_or_insert_default());
        }
        match event.kind {
            "content_block_start" => {
                if event.index != Some(self.blocks.len()) {
                    return Err(Trouble::invalid("a content block opens out of order", data));
                }
                self.blocks.push(open(event.content_block.map_or("{}", RawValue::get))?);
            }
            "content_block_delta" => {
                let block = event.index.and_then(|index| self.blocks.get_mut(index));
                let (Some(block), Some(delta)) = (block, event.delta) else {
                    return Err(Trouble::invalid("a delta belongs to no content block", data));
                };
                block.extend(&delta);
            }
            "message_delta" => {
                self.stop = event.delta.and_then(|delta| delta.stop_reason).as_deref().map(stop).or(self.stop);
            }
            "message_stop" => self.over = true,
            "error" => return Err(Trouble::complaint(&Complaint::read(data).unwrap_or_default())),
            // `message_start` and `content_block_stop` say nothing more, `ping` says nothing, others may be invented.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Option<Result<ModelReply, Trouble>> {
        if !self.over {
            return None;
        }
        let Some(stop) = self.stop else {
            return Some(Err(Trouble::Invalid("the reply ended without a stop reason".to_owned())));
        };
        let parts = self.blocks.into_iter().map(part).collect();
        let usage = self.counted.unwrap_or_default().usage;
        Some(Ok(ModelReply { message: Message { role: Role::Assistant, parts }, stop, usage }))
    }
}

impl Block {
    /// Deltas that do not fit (citations of a text) are not for us.
    fn extend(&mut self, delta: &Delta) {
        let add = |whole: &mut String, piece: &Option<String>| whole.push_str(piece.as_deref().unwrap_or_default());
        match self {
            Self::Text(text) => add(text, &delta.text),
            Self::ToolUse { deltas, .. } => add(deltas, &delta.partial_json),
            Self::Thinking { thinking, signature } => {
                add(thinking, &delta.thinking);
                add(signature, &delta.signature);
            }
            Self::Whole(_) => {}
        }
    }
}

fn open(block: &str) -> Result<Block, Trouble> {
    let opening: Opening<'_> = serde_json::from_str(block)
        .map_err(|err| Trouble::invalid(&format!("a content block cannot be read ({err})"), block))?;
    Ok(match opening.kind {
        "text" => Block::Text(opening.text.unwrap_or_default()),
        "tool_use" => {
            let (Some(id), Some(name)) = (opening.id, opening.name) else {
                return Err(Trouble::invalid("a tool call without id or name", block));
            };
            let input = opening.input.map_or("{}", RawValue::get).to_owned();
            Block::ToolUse { id, name, input, deltas: String::new() }
        }
        "thinking" => Block::Thinking {
            thinking: opening.thinking.unwrap_or_default(),
            signature: opening.signature.unwrap_or_default(),
        },
        _ => Block::Whole(block.to_owned()),
    })
}

fn part(block: Block) -> Part {
    match block {
        Block::Text(text) => Part::Text { text },
        Block::ToolUse { id, name, input, deltas } => {
            Part::ToolCall { id, name, arguments: if deltas.is_empty() { input } else { deltas } }
        }
        Block::Thinking { thinking, signature } => {
            let mut json = br#"{"type":"thinking","thinking":"#.to_vec();
            string(&mut json, &thinking);
            raw(&mut json, r#","signature":"#);
            string(&mut json, &signature);
            raw(&mut json, "}");
            Part::Opaque { json: String::from_utf8_lossy(&json).into_owned() }
        }
        Block::Whole(json) => Part::Opaque { json },
    }
}

fn stop(reason: &str) -> Stop {
    match reason {
        "tool_use" => Stop::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "refusal" => Stop::Refused,
        // `end_turn`, `stop_sequence`, `pause_turn`, and what is invented later.
        _ => Stop::EndTurn,
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

    #[test]
    fn every_kind_of_event_finds_its_place() {
        let redacted = r#"{ "type":"redacted_thinking", "data":"Eo8=" }"#;
        let reply = decode(&[
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"cache_creation_input_tokens":7,"cache_read_input_tokens":null,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":5},"output_tokens":1,"service_tier":"standard"}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            r#"{"type": "ping"}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a \"b\" "}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"c"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eqo/="}}"#,
            r#"{"type":"content_block_stop","index":0}"#,
            &format!(r#"{{"type":"content_block_start","index":1,"content_block":{redacted}}}"#),
            r#"{"type":"content_block_stop","index":1}"#,
            r#"{"type":"content_block_start","index":2,"content_block":{"type":"text","text":"","citations":null}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"text_delta","text":"Hi"}}"#,
            r#"{"type":"content_block_delta","index":2,"delta":{"type":"citations_delta","citation":{"type":"char_location"}}}"#,
            r#"{"type":"content_block_stop","index":2}"#,
            r#"{"type":"content_block_start","index":3,"content_block":{"type":"tool_use","id":"toolu_1","name":"shell","input":{}}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"{\"command\": "}}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"input_json_delta","partial_json":"\"ls\"}"}}"#,
            r#"{"type":"content_block_stop","index":3}"#,
            r#"{"type":"content_block_start","index":4,"content_block":{"type":"tool_use","id":"toolu_2","name":"finish","input":{}}}"#,
            r#"{"type":"content_block_stop","index":4}"#,
            r#"{"type":"something_new","index":4}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":89}}"#,
            r#"{"type":"message_stop"}"#,
        ]);
        let reply = reply.unwrap().unwrap().unwrap();
        let usage = domain::budget::Usage { input: 25, cache_read: 0, cache_write: 7, output: 89, reasoning: 0 };
        assert_eq!((reply.stop, reply.usage), (Stop::ToolCalls, usage));
        let call = |id: &str, name: &str, arguments: &str| Part::ToolCall {
            id: id.to_owned(),
            name: name.to_owned(),
            arguments: arguments.to_owned(),
        };
        let opaque = |json: &str| Part::Opaque { json: json.to_owned() };
        assert_eq!(
            reply.message.parts,
            [
                opaque(r#"{"type":"thinking","thinking":"a \"b\" c","signature":"Eqo/="}"#),
                opaque(redacted),
                Part::Text { text: "Hi".to_owned() },
                call("toolu_1", "shell", r#"{"command": "ls"}"#),
                call("toolu_2", "finish", "{}"),
            ]
        );
        let mut sent = Vec::new();
        encode_message(&mut sent, &reply.message);
        let sent: serde_json::Value = serde_json::from_slice(&sent).unwrap();
        assert_eq!(sent["content"][1]["data"], "Eo8=");
        assert_eq!(sent["content"][3]["input"]["command"], "ls");
    }

    #[test]
    fn broken_streams_are_told_apart() {
        let overloaded =
            r#"{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(decode(&[overloaded]), Err(Trouble::Passing("overloaded_error: Overloaded".to_owned())));
        let invalid = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
        assert_eq!(decode(&[invalid]), Err(Trouble::Invalid("invalid_request_error: no".to_owned())));
        for nonsense in [
            "{}",
            "<html>",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#,
            r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","name":"x"}}"#,
            r#"{"type":"content_block_start","index":0}"#,
        ] {
            assert!(matches!(decode(&[nonsense]), Err(Trouble::Invalid(_))), "{nonsense}");
        }
        assert_eq!(decode(&[]), Ok(None), "not over");
        assert!(matches!(decode(&[r#"{"type":"message_stop"}"#]), Ok(Some(Err(Trouble::Invalid(_))))));
    }

    #[test]
    fn the_cap_tools_and_system_prompt_come_before_what_grows() {
        let request = ModelRequest { system: "s", tools: &[], messages: &[], max_output: 7 };
        let body = String::from_utf8(encode("m", &request).to_vec()).unwrap();
        let head = r#"{"model":"m","max_tokens":7,"stream":true,"cache_control":{"type":"ephemeral"},"system":["#;
        assert!(body.starts_with(head) && body.ends_with(r#"}],"messages":[]}"#), "{body}");
    }
}
