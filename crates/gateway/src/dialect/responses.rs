//! `OpenAI` Responses: `POST /v1/responses`, streamed.
//!
//! The provider is asked to keep nothing: what it thought comes back encrypted, and goes out again with the next request.

use bytes::Bytes;
use domain::ports::model::{Message, ModelReply, ModelRequest, Part, Role, Stop};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Complaint, Trouble,
    openai::is_own_model,
    tokens::{Count, account},
    write::{comma, raw, string},
};
use crate::prices::Counted;

/// Begins every opaque part of this dialect.
const OURS: &str = r#"{"type":"reasoning","#;

/// The events that end a stream, each with the whole response.
const LAST: [&str; 3] = ["response.completed", "response.incomplete", "response.failed"];

/// A whole answer, or an event of a stream that holds one.
#[derive(Deserialize)]
struct Holder {
    response: Option<Response>,
    id: Option<String>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Response {
    id: Option<String>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Usage {
    input_tokens: Count,
    /// Reasoning included.
    output_tokens: Count,
    input_tokens_details: Option<InputDetails>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputDetails {
    cached_tokens: Count,
    cache_write_tokens: Count,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputDetails {
    reasoning_tokens: Count,
}

impl Usage {
    fn counted(self) -> Counted {
        let mut counted = Counted::default();
        let mut read = |count: Count| count.read(&mut counted).unwrap_or(0);
        let InputDetails { cached_tokens, cache_write_tokens } = self.input_tokens_details.unwrap_or_default();
        let OutputDetails { reasoning_tokens } = self.output_tokens_details.unwrap_or_default();
        let (cache_read, cache_write) = (read(cached_tokens), read(cache_write_tokens));
        counted.usage = domain::budget::Usage {
            input: read(self.input_tokens).saturating_sub(cache_read).saturating_sub(cache_write),
            cache_read,
            cache_write,
            output: read(self.output_tokens),
            reasoning: read(reasoning_tokens),
        };
        counted
    }
}

fn response(json: &str) -> Option<Response> {
    let Holder { response, id, usage } = serde_json::from_str(json).ok()?;
    Some(response.unwrap_or(Response { id, usage }))
}

pub(super) fn count(json: &str, counted: &mut Counted) -> bool {
    let Some(usage) = response(json).and_then(|response| response.usage) else { return false };
    *counted = usage.counted();
    true
}

pub(super) fn ends(data: &str) -> bool {
    #[derive(Deserialize)]
    struct Event<'a> {
        r#type: &'a str,
    }
    // The first look spares the reading of thousands of small events; the second tells the type from what a client put in.
    LAST.iter().any(|last| data.contains(last))
        && serde_json::from_str::<Event<'_>>(data).is_ok_and(|event| LAST.contains(&event.r#type))
}

/// The name under which the provider keeps a response, so that the next request can go on from it.
pub(crate) fn id(json: &str) -> Option<String> {
    response(json)?.id
}

/// Whether an opaque part comes from this dialect.
pub(super) fn is_own(json: &str) -> bool {
    json.starts_with(OURS)
}

/// Whether a model thinks before it speaks; others refuse to be asked for their thoughts.
fn is_thinker(model: &str) -> bool {
    is_own_model(model) && !["gpt-3", "gpt-4", "chatgpt-"].iter().any(|older| model.starts_with(older))
}

pub(super) fn encode(model: &str, request: &ModelRequest<'_>) -> Bytes {
    let mut out = Vec::with_capacity(16 << 10);
    raw(&mut out, r#"{"model":"#);
    string(&mut out, model);
    raw(&mut out, &format!(r#","max_output_tokens":{},"stream":true,"store":false"#, request.max_output));
    if is_thinker(model) {
        raw(&mut out, r#","include":["reasoning.encrypted_content"]"#);
    }
    if !request.tools.is_empty() {
        raw(&mut out, r#","tools":["#);
        for tool in request.tools {
            comma(&mut out);
            raw(&mut out, r#"{"type":"function","name":"#);
            string(&mut out, &tool.name);
            raw(&mut out, r#","description":"#);
            string(&mut out, &tool.description);
            raw(&mut out, r#","parameters":"#);
            raw(&mut out, &tool.schema);
            // Strict ones take only a part of JSON Schema.
            raw(&mut out, r#","strict":false}"#);
        }
        raw(&mut out, "]");
    }
    if !request.system.is_empty() {
        raw(&mut out, r#","instructions":"#);
        string(&mut out, request.system);
    }
    raw(&mut out, r#","input":["#);
    for message in request.messages {
        for part in &message.parts {
            encode_part(&mut out, message.role, part);
        }
    }
    raw(&mut out, "]}");
    Bytes::from(out)
}

/// Every part is an item of its own.
fn encode_part(out: &mut Vec<u8>, role: Role, part: &Part) {
    // Another dialect's secrets mean nothing here.
    if matches!(part, Part::Opaque { json } if !is_own(json)) {
        return;
    }
    comma(out);
    match part {
        Part::Text { text } => {
            raw(
                out,
                if role == Role::User { r#"{"role":"user","content":"# } else { r#"{"role":"assistant","content":"# },
            );
            string(out, text);
            raw(out, "}");
        }
        Part::Image { media, base64 } => {
            raw(out, r#"{"role":"user","content":[{"type":"input_image","image_url":"data:"#);
            // Neither has anything in it that JSON would escape.
            raw(out, media);
            raw(out, ";base64,");
            raw(out, base64);
            raw(out, r#""}]}"#);
        }
        Part::ToolCall { id, name, arguments } => {
            raw(out, r#"{"type":"function_call","call_id":"#);
            string(out, id);
            raw(out, r#","name":"#);
            string(out, name);
            raw(out, r#","arguments":"#);
            string(out, arguments);
            raw(out, "}");
        }
        Part::ToolResult { id, text, .. } => {
            raw(out, r#"{"type":"function_call_output","call_id":"#);
            string(out, id);
            raw(out, r#","output":"#);
            string(out, text);
            raw(out, "}");
        }
        Part::Opaque { json } => raw(out, json),
    }
}

/// One event of a stream: `kind` says which of the fields are there.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    item: Option<Item<'a>>,
    #[serde(borrow)]
    response: Option<Last<'a>>,
    code: Option<String>,
    message: Option<String>,
}

/// The response, as its last event tells it.
#[derive(Deserialize)]
struct Last<'a> {
    incomplete_details: Option<Incomplete>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "account")]
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<String>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    // Of a message, and of some servers' reasoning.
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    encrypted_content: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    parts: Vec<Part>,
    refused: bool,
    stop: Option<Stop>,
    pub(super) counted: Option<Counted>,
    pub(super) over: bool,
}

impl Decoder {
    pub(super) fn event(&mut self, data: &str) -> Result<(), Trouble> {
        let event: Event<'_> = serde_json::from_str(data)
            .map_err(|err| Trouble::invalid(&format!("an event of the stream cannot be read ({err})"), data))?;
        match (event.kind, event.item, event.response) {
            ("response.output_item.done", Some(item), _) => self.take(&item, data)?,
            ("error", ..) => {
                let (kind, message) = (event.code.unwrap_or_default(), event.message.unwrap_or_default());
                return Err(Trouble::complaint(&Complaint { kind, ..Complaint::of(message) }));
            }
            ("response.failed", _, Some(last)) => {
                self.count(last.usage);
                let error = format!(r#"{{"error":{}}}"#, last.error.map_or("{}", RawValue::get));
                return Err(Trouble::complaint(&Complaint::read(&error).unwrap_or_default()));
            }
            ("response.completed", _, Some(last)) => {
                self.count(last.usage);
                (self.stop, self.over) = (Some(Stop::EndTurn), true);
            }
            ("response.incomplete", _, Some(last)) => {
                self.count(last.usage);
                let reason = last.incomplete_details.and_then(|details| details.reason);
                let stop = if reason.as_deref() == Some("content_filter") { Stop::Refused } else { Stop::Length };
                (self.stop, self.over) = (Some(stop), true);
            }
            // Small pieces of what comes whole, and what is invented later.
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, usage: Option<Usage>) {
        if let Some(usage) = usage {
            self.counted = Some(usage.counted());
        }
    }

    fn take(&mut self, item: &Item<'_>, data: &str) -> Result<(), Trouble> {
        match item.kind {
            "message" => {
                let said: Vec<Said> = item
                    .content
                    .map_or(Ok(Vec::new()), |content| serde_json::from_str(content.get()))
                    .map_err(|err| Trouble::invalid(&format!("a message cannot be read ({err})"), data))?;
                for Said { text, refusal } in said {
                    self.refused |= refusal.is_some();
                    let text = text.or(refusal).unwrap_or_default();
                    if !text.is_empty() {
                        self.parts.push(Part::Text { text });
                    }
                }
            }
            "function_call" => {
                let (Some(id), Some(name)) = (&item.call_id, &item.name) else {
                    return Err(Trouble::invalid("a tool call without id or name", data));
                };
                let arguments =
                    item.arguments.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "{}".to_owned());
                self.parts.push(Part::ToolCall { id: id.clone(), name: name.clone(), arguments });
            }
            "reasoning" => self.parts.extend(thought(item)),
            // Of tools that the provider runs itself, which are not asked for.
            _ => {}
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Option<Result<ModelReply, Trouble>> {
        let stop = self.stop?;
        if self.parts.is_empty() && stop == Stop::EndTurn {
            return Some(Err(Trouble::Invalid("the stream ended without a reply".to_owned())));
        }
        let calls = self.parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
        let stop = match stop {
            Stop::EndTurn if self.refused => Stop::Refused,
            Stop::EndTurn if calls => Stop::ToolCalls,
            stop => stop,
        };
        let usage = self.counted.unwrap_or_default().usage;
        Some(Ok(ModelReply { message: Message { role: Role::Assistant, parts: self.parts }, stop, usage }))
    }
}

/// What was thought, as it goes back. Without its encrypted content the provider would look for it in what it keeps, which is nothing.
fn thought(item: &Item<'_>) -> Option<Part> {
    let encrypted = item.encrypted_content.as_ref()?;
    let mut json = OURS.as_bytes().to_vec();
    if let Some(id) = &item.id {
        raw(&mut json, r#""id":"#);
        string(&mut json, id);
        raw(&mut json, ",");
    }
    raw(&mut json, r#""summary":"#);
    raw(&mut json, item.summary.map_or("[]", RawValue::get));
    raw(&mut json, r#","encrypted_content":"#);
    string(&mut json, encrypted);
    raw(&mut json, "}");
    Some(Part::Opaque { json: String::from_utf8_lossy(&json).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: &str = r#"{"input_tokens":2006,"input_tokens_details":{"cached_tokens":1920},"output_tokens":300,"output_tokens_details":{"reasoning_tokens":128},"total_tokens":2306}"#;

    #[test]
    fn usage_and_name_are_read_from_a_document_and_from_the_last_event() {
        let expected =
            domain::budget::Usage { input: 86, cache_read: 1920, cache_write: 0, output: 300, reasoning: 128 };
        for json in [
            format!(r#"{{"id":"resp_1","object":"response","usage":{USAGE},"metadata":{{"usage":"x"}}}}"#),
            format!(
                r#"{{"type":"response.completed","sequence_number":9,"response":{{"id":"resp_1","usage":{USAGE}}}}}"#
            ),
        ] {
            let mut counted = Counted::default();
            assert!(count(&json, &mut counted), "{json}");
            assert_eq!((counted.usage, id(&json).as_deref()), (expected, Some("resp_1")));
        }
        for json in [r#"{"type":"response.created","response":{"id":"resp_1","usage":null}}"#, "[DONE]", "{"] {
            assert!(!count(json, &mut Counted::default()), "{json}");
        }
    }

    #[test]
    fn only_the_type_of_an_event_ends_a_stream() {
        for last in LAST {
            assert!(ends(&format!(r#"{{"sequence_number":3,"type":"{last}","response":{{}}}}"#)));
        }
        for other in [
            r#"{"type":"response.created","response":{"metadata":{"type":"response.completed"}}}"#,
            r#"{"type":"response.output_text.delta","delta":"\"type\":\"response.completed\""}"#,
            r#"{"type":"error","message":"response.failed"}"#,
        ] {
            assert!(!ends(other), "{other}");
        }
    }

    fn decode(events: &[&str]) -> Result<Option<Result<ModelReply, Trouble>>, Trouble> {
        let mut decoder = Decoder::default();
        events.iter().try_for_each(|event| decoder.event(event))?;
        Ok(decoder.finish())
    }

    #[test]
    fn items_are_put_together_and_go_back_as_they_came() {
        let reply = decode(&[
            r#"{"type":"response.created","response":{"id":"resp_1","status":"in_progress","usage":null,"error":null}}"#,
            r#"{"type":"response.output_item.added","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}"#,
            r#"{"type":"response.output_item.done","output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"gAA=","status":null}}"#,
            r#"{"type":"response.output_text.delta","delta":"Hi"}"#,
            r#"{"type":"response.output_item.done","output_index":1,"item":{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[]}]}}"#,
            r#"{"type":"response.output_item.done","output_index":2,"item":{"id":"fc_1","type":"function_call","call_id":"call_1","name":"shell","arguments":"{\"command\":\"ls\"}"}}"#,
            r#"{"type":"response.output_item.done","output_index":3,"item":{"id":"ws_1","type":"web_search_call"}}"#,
            &format!(
                r#"{{"type":"response.completed","response":{{"id":"resp_1","status":"completed","error":null,"usage":{USAGE}}}}}"#
            ),
        ]);
        let reply = reply.unwrap().unwrap().unwrap();
        assert_eq!((reply.stop, reply.usage.reasoning, reply.usage.cache_read), (Stop::ToolCalls, 128, 1920));
        let result = Part::ToolResult { id: "call_1".to_owned(), text: "a".to_owned(), is_error: false };
        let image = Part::Image { media: "image/png".to_owned(), base64: "aGk=".to_owned() };
        let messages = [reply.message, Message { role: Role::User, parts: vec![result, image] }];
        let request = ModelRequest { system: "s", tools: &[], messages: &messages, max_output: 1 };
        let sent: serde_json::Value = serde_json::from_slice(&encode("gpt-6-sol", &request)).unwrap();
        let expected = serde_json::json!([
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "gAA="},
            {"role": "assistant", "content": "Hi"},
            {"type": "function_call", "call_id": "call_1", "name": "shell", "arguments": r#"{"command":"ls"}"#},
            {"type": "function_call_output", "call_id": "call_1", "output": "a"},
            {"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,aGk="}]},
        ]);
        assert_eq!((&sent["input"], &sent["instructions"], &sent["store"]), (&expected, &"s".into(), &false.into()));
        assert_eq!(sent["include"][0], "reasoning.encrypted_content");
        let local: serde_json::Value = serde_json::from_slice(&encode("qwen3", &request)).unwrap();
        assert!(local.get("include").is_none(), "{local}");
    }

    #[test]
    fn every_other_end_is_told() {
        let item = r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"type":"refusal","refusal":"no"}]}}"#;
        let done = r#"{"type":"response.completed","response":{"usage":null}}"#;
        assert_eq!(decode(&[item, done]).unwrap().unwrap().unwrap().stop, Stop::Refused);
        let cap = r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}"#;
        assert_eq!(decode(&[item, cap]).unwrap().unwrap().unwrap().stop, Stop::Length);
        assert_eq!(decode(&[item]), Ok(None), "cut");
        assert!(matches!(decode(&[done]), Ok(Some(Err(Trouble::Invalid(_))))), "nothing at all");
        let failed = r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"busy"}}}"#;
        assert_eq!(decode(&[failed]), Err(Trouble::Passing("server_error: busy".to_owned())));
        let error = r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down","sequence_number":1}"#;
        assert_eq!(decode(&[error]), Err(Trouble::Passing("rate_limit_exceeded: slow down".to_owned())));
        let wrong = r#"{"type":"error","code":"invalid_prompt","message":"no"}"#;
        assert_eq!(decode(&[wrong]), Err(Trouble::Invalid("invalid_prompt: no".to_owned())));
    }
}
