//! Gemini's `generateContent`, version `v1beta`: `POST /v1beta/models/MODEL:streamGenerateContent?alt=sse`.
//!
//! The model and the way to answer stand in the path, not in the body. A stream has no last event: it is whole once a candidate
//! has a finish reason. The provider names calls sometimes, and finds what they answered by the order otherwise.

use std::collections::HashMap;

use bytes::Bytes;
use domain::ports::model::{Message, ModelReply, ModelRequest, Part, Role, Stop};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Complaint, Trouble,
    tokens::Count,
    write::{comma, is_object, raw, string},
};
use crate::prices::Counted;

/// Before the names of models in a path.
pub(crate) const MODELS: &str = "/v1beta/models/";
/// Begins the name that we give a call that came without one. It is not sent back.
const OUR_NAME: &str = "unnamed-";
/// Begins every opaque part of this dialect.
const OURS: &str = r#"{"thought"#;
/// Begins one that belongs to the part after it: calls must come back with the signature they came with.
const SIGNATURE: &str = r#"{"thoughtSignature":"#;

/// Whether it can only be a model's name: a path with anything else in it could lead to other things that the key opens.
pub(crate) fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !text.is_empty() && !text.starts_with('.') && text.bytes().all(is_part)
}

/// The model and the method that a path (without its query) names: `gemini-3-pro`, `generateContent`.
pub(crate) fn target(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix(MODELS)?.split_once(':').filter(|(model, _)| is_name(model))
}

/// Where streamed replies of a model come from.
pub(crate) fn replies(model: &str) -> String {
    format!("{MODELS}{model}:streamGenerateContent?alt=sse")
}

pub(super) fn error(status: StatusCode, message: &str) -> serde_json::Value {
    let word = match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        402 | 429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        500 => "INTERNAL",
        _ => "UNAVAILABLE",
    };
    serde_json::json!({"error": {"code": status.as_u16(), "message": message, "status": word}})
}

/// Whether an opaque part comes from this dialect.
pub(super) fn is_own(json: &str) -> bool {
    json.starts_with(OURS)
}

pub(super) fn encode(request: &ModelRequest<'_>) -> Bytes {
    let mut out = Vec::with_capacity(16 << 10);
    raw(&mut out, &format!(r#"{{"generationConfig":{{"maxOutputTokens":{}}}"#, request.max_output));
    if !request.tools.is_empty() {
        raw(&mut out, r#","tools":[{"functionDeclarations":["#);
        for tool in request.tools {
            comma(&mut out);
            raw(&mut out, r#"{"name":"#);
            string(&mut out, &tool.name);
            raw(&mut out, r#","description":"#);
            string(&mut out, &tool.description);
            // Takes JSON Schema as it is; `parameters` takes a subset with types of its own.
            raw(&mut out, r#","parametersJsonSchema":"#);
            raw(&mut out, &tool.schema);
            raw(&mut out, "}");
        }
        raw(&mut out, "]}]");
    }
    if !request.system.is_empty() {
        raw(&mut out, r#","systemInstruction":{"parts":[{"text":"#);
        string(&mut out, request.system);
        raw(&mut out, "}]}");
    }
    raw(&mut out, r#","contents":["#);
    let mut called = HashMap::new();
    for message in request.messages {
        encode_message(&mut out, message, &mut called);
    }
    raw(&mut out, "]}");
    Bytes::from(out)
}

/// `called`: what was called, by the names of the calls so far.
fn encode_message<'a>(out: &mut Vec<u8>, message: &'a Message, called: &mut HashMap<&'a str, &'a str>) {
    comma(out);
    raw(
        out,
        match message.role {
            Role::User => r#"{"role":"user","parts":["#,
            Role::Assistant => r#"{"role":"model","parts":["#,
        },
    );
    // Of the part that comes next, with its comma.
    let mut signature = String::new();
    for part in &message.parts {
        if let Part::Opaque { json } = part {
            match json.strip_prefix(SIGNATURE).and_then(|rest| rest.strip_suffix('}')) {
                Some(value) if !value.contains(',') => signature = format!(r#","thoughtSignature":{value}"#),
                _ if is_own(json) => {
                    comma(out);
                    raw(out, json);
                }
                // Another dialect's secrets mean nothing here.
                _ => {}
            }
            continue;
        }
        comma(out);
        encode_part(out, part, called);
        raw(out, &std::mem::take(&mut signature));
        raw(out, "}");
    }
    // A message without a part is refused.
    if out.last() == Some(&b'[') {
        raw(out, r#"{"text":""}"#);
    }
    raw(out, "]}");
}

/// Writes a part without the bracket that closes it.
fn encode_part<'a>(out: &mut Vec<u8>, part: &'a Part, called: &mut HashMap<&'a str, &'a str>) {
    let name_call = |out: &mut Vec<u8>, id: &str, name: &str| {
        if !id.starts_with(OUR_NAME) {
            raw(out, r#""id":"#);
            string(out, id);
            raw(out, ",");
        }
        raw(out, r#""name":"#);
        string(out, name);
    };
    match part {
        Part::Text { text } => {
            raw(out, r#"{"text":"#);
            string(out, text);
        }
        Part::ToolCall { id, name, arguments } => {
            called.insert(id, name);
            raw(out, r#"{"functionCall":{"#);
            name_call(out, id, name);
            raw(out, r#","args":"#);
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
            raw(out, r#"{"functionResponse":{"#);
            // A result whose call is not there any more is refused without a name, and understood with any.
            name_call(out, id, called.get(id.as_str()).copied().unwrap_or("unknown"));
            raw(out, if *is_error { r#","response":{"error":"# } else { r#","response":{"output":"# });
            string(out, text);
            raw(out, "}}");
        }
        Part::Image { media, base64 } => {
            raw(out, r#"{"inlineData":{"mimeType":"#);
            string(out, media);
            raw(out, r#","data":"#);
            string(out, base64);
            raw(out, "}");
        }
        // Sorted out by the caller.
        Part::Opaque { .. } => raw(out, r#"{"text":"""#),
    }
}

/// Counts so far: each chunk of a stream tells them anew, and may leave some out.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    /// The cached ones included.
    prompt_token_count: Count,
    cached_content_token_count: Count,
    candidates_token_count: Count,
    thoughts_token_count: Count,
    /// Of what the provider's own tools found, which the model read.
    tool_use_prompt_token_count: Count,
}

impl Usage {
    fn into(self, counted: &mut Counted) {
        let mut read = |count: Count| count.read(counted).unwrap_or(0);
        let cache_read = read(self.cached_content_token_count);
        let prompt = read(self.prompt_token_count).saturating_add(read(self.tool_use_prompt_token_count));
        let input = prompt.saturating_sub(cache_read);
        let reasoning = read(self.thoughts_token_count);
        let output = read(self.candidates_token_count).saturating_add(reasoning);
        let usage = &mut counted.usage;
        if input.saturating_add(cache_read) >= usage.input.saturating_add(usage.cache_read) {
            (usage.input, usage.cache_read) = (input, cache_read);
        }
        usage.output = usage.output.max(output);
        usage.reasoning = usage.reasoning.max(reasoning);
    }
}

/// A whole answer, or a chunk of a stream.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chunk<'a> {
    #[serde(default, borrow)]
    candidates: Vec<Candidate<'a>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<Usage>,
    response_id: Option<String>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    #[serde(borrow)]
    content: Option<Content<'a>>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(default, borrow)]
    parts: Vec<Piece<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    text: Option<String>,
    #[serde(default)]
    thought: bool,
    thought_signature: Option<String>,
    #[serde(borrow)]
    function_call: Option<Call<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    id: Option<String>,
    name: String,
    #[serde(borrow)]
    args: Option<&'a RawValue>,
}

pub(super) fn count(json: &str, counted: &mut Counted) -> bool {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(rename = "usageMetadata")]
        usage: Option<Usage>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Answer {
        One(Holder),
        /// A stream that was not asked for as events.
        Many(Vec<Holder>),
    }
    let holders = match serde_json::from_str(json) {
        Ok(Answer::One(holder)) => vec![holder],
        Ok(Answer::Many(holders)) => holders,
        Err(_) => return false,
    };
    let mut any = false;
    for usage in holders.into_iter().filter_map(|holder| holder.usage) {
        usage.into(counted);
        any = true;
    }
    any
}

/// Whether the model has said all, as far as this chunk tells.
pub(crate) fn ends(data: &str) -> bool {
    let has_word = ["finishReason", "blockReason"].iter().any(|word| data.contains(word));
    has_word && serde_json::from_str::<Chunk<'_>>(data).is_ok_and(|chunk| chunk.stop().is_some())
}

impl Chunk<'_> {
    /// The reason for which it ended.
    fn stop(&self) -> Option<&str> {
        let finished = self.candidates.iter().find_map(|candidate| candidate.finish_reason.as_deref());
        finished.or_else(|| self.prompt_feedback.as_ref()?.block_reason.as_deref().map(|_| "SAFETY"))
    }
}

/// A part that is being put together.
#[derive(Debug)]
struct Block {
    kind: Kind,
    /// The provider's own memory of how it came to this.
    signature: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Text(String),
    Thought(String),
    Call { id: Option<String>, name: String, arguments: String },
}

#[derive(Debug, Default)]
pub(crate) struct Decoder {
    blocks: Vec<Block>,
    stop: Option<Stop>,
    response: Option<String>,
    pub(super) counted: Option<Counted>,
}

impl Decoder {
    pub(super) fn event(&mut self, data: &str) -> Result<(), Trouble> {
        let chunk: Chunk<'_> = serde_json::from_str(data)
            .map_err(|err| Trouble::invalid(&format!("an event of the stream cannot be read ({err})"), data))?;
        if chunk.error.is_some() {
            return Err(Trouble::complaint(&Complaint::read(data).unwrap_or_default()));
        }
        if let Some(reason) = chunk.stop() {
            self.stop = Some(stop(reason, chunk.candidates.first())?);
        }
        if let Some(usage) = chunk.usage_metadata {
            usage.into(self.counted.get_or_insert_default());
        }
        self.response = chunk.response_id.or(self.response.take());
        let content = chunk.candidates.into_iter().next().and_then(|candidate| candidate.content);
        for piece in content.into_iter().flat_map(|content| content.parts) {
            self.take(piece);
        }
        Ok(())
    }

    fn take(&mut self, piece: Piece<'_>) {
        let Piece { text, thought, thought_signature: signature, function_call } = piece;
        let kind = match (function_call, text) {
            (Some(Call { id, name, args }), _) => {
                let arguments = args.map_or("{}", RawValue::get).to_owned();
                Kind::Call { id: id.filter(|id| !id.is_empty()), name, arguments }
            }
            (None, Some(text)) if thought => Kind::Thought(text),
            (None, Some(text)) => Kind::Text(text),
            // Of tools that the provider runs itself, which are not asked for.
            (None, None) => return,
        };
        // What is signed stands for itself: its signature is void with anything else in it.
        if signature.is_none()
            && let Some(Block { kind: last, signature: None }) = self.blocks.last_mut()
        {
            match (last, &kind) {
                (Kind::Text(whole), Kind::Text(more)) | (Kind::Thought(whole), Kind::Thought(more)) => {
                    return whole.push_str(more);
                }
                _ => {}
            }
        }
        self.blocks.push(Block { kind, signature });
    }

    /// There is no last event: the end of the stream is the reply's.
    pub(super) fn finish(self) -> Option<Result<ModelReply, Trouble>> {
        let stop = self.stop?;
        let calls = self.blocks.iter().any(|block| matches!(block.kind, Kind::Call { .. }));
        if self.blocks.is_empty() && stop == Stop::EndTurn {
            return Some(Err(Trouble::Invalid("the stream ended without a reply".to_owned())));
        }
        let stop = if calls && stop == Stop::EndTurn { Stop::ToolCalls } else { stop };
        // The same reply gives the same names, and another one others.
        let response = self.response.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let mut parts = Vec::new();
        for (at, block) in self.blocks.into_iter().enumerate() {
            block.into_parts(&mut parts, || format!("{OUR_NAME}{response}-{at}"));
        }
        let usage = self.counted.unwrap_or_default().usage;
        Some(Ok(ModelReply { message: Message { role: Role::Assistant, parts }, stop, usage }))
    }
}

impl Block {
    fn into_parts(self, parts: &mut Vec<Part>, name: impl Fn() -> String) {
        let Self { kind, signature } = self;
        let signed = |json: &mut Vec<u8>| {
            if let Some(signature) = &signature {
                comma(json);
                raw(json, r#""thoughtSignature":"#);
                string(json, signature);
            }
        };
        let opaque = |write: &dyn Fn(&mut Vec<u8>)| {
            let mut json = b"{".to_vec();
            write(&mut json);
            raw(&mut json, "}");
            Part::Opaque { json: String::from_utf8_lossy(&json).into_owned() }
        };
        match &kind {
            Kind::Thought(text) => parts.push(opaque(&|json| {
                raw(json, r#""thought":true,"text":"#);
                string(json, text);
                signed(json);
            })),
            // Nothing but a signature: it stays a part of its own.
            Kind::Text(text) if text.is_empty() => {
                if signature.is_some() {
                    parts.push(opaque(&|json| {
                        signed(json);
                        raw(json, r#","text":"""#);
                    }));
                }
            }
            Kind::Text(_) | Kind::Call { .. } if signature.is_some() => parts.push(opaque(&signed)),
            Kind::Text(_) | Kind::Call { .. } => {}
        }
        match kind {
            Kind::Text(text) if !text.is_empty() => parts.push(Part::Text { text }),
            Kind::Call { id, name: called, arguments } => {
                parts.push(Part::ToolCall { id: id.unwrap_or_else(name), name: called, arguments });
            }
            Kind::Text(_) | Kind::Thought(_) => {}
        }
    }
}

fn stop(reason: &str, candidate: Option<&Candidate<'_>>) -> Result<Stop, Trouble> {
    Ok(match reason {
        "MAX_TOKENS" => Stop::Length,
        "SAFETY" | "RECITATION" | "LANGUAGE" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => Stop::Refused,
        // The model's slip of the pen, which the provider does not pass on: asked anew, it writes another call.
        "MALFORMED_FUNCTION_CALL" | "MALFORMED_RESPONSE" => {
            let said = candidate.and_then(|candidate| candidate.finish_message.as_deref()).unwrap_or_default();
            return Err(Trouble::Passing(format!("{reason}: {}", super::excerpt(said))));
        }
        // `STOP`, and what is invented later.
        _ => Stop::EndTurn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(events: &[&str]) -> Result<Option<Result<ModelReply, Trouble>>, Trouble> {
        let mut decoder = Decoder::default();
        events.iter().try_for_each(|event| decoder.event(event))?;
        Ok(decoder.finish())
    }

    fn encoded(messages: &[Message]) -> serde_json::Value {
        let request = ModelRequest { system: "", tools: &[], messages, max_output: 1 };
        serde_json::from_slice(&encode(&request)).unwrap()
    }

    #[test]
    fn parts_are_put_together_and_go_back_as_they_came() {
        let reply = decode(&[
            r#"{"candidates":[{"content":{"parts":[{"text":"a ","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9,"promptTokensDetails":[{"modality":"TEXT","tokenCount":9}]},"responseId":"r1"}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"b","thought":true},{"text":"Hi"}]}}],"responseId":"r1"}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":" there"},{"functionCall":{"name":"shell","args":{"x":1}},"thoughtSignature":"s/1="},{"functionCall":{"id":"own","name":"finish"}}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"","thoughtSignature":"s2"}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":2000,"cachedContentTokenCount":1900,"candidatesTokenCount":30,"thoughtsTokenCount":5,"toolUsePromptTokenCount":7,"totalTokenCount":2042}}"#,
        ]);
        let reply = reply.unwrap().unwrap().unwrap();
        let usage = domain::budget::Usage { input: 107, cache_read: 1900, cache_write: 0, output: 35, reasoning: 5 };
        assert_eq!((reply.stop, reply.usage), (Stop::ToolCalls, usage));
        let names: Vec<_> = reply
            .message
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::ToolCall { id, .. } => Some(id.as_str()),
                Part::Text { .. } | Part::ToolResult { .. } | Part::Image { .. } | Part::Opaque { .. } => None,
            })
            .collect();
        assert_eq!(names, ["unnamed-r1-2", "own"]);
        let result = |id: &str, is_error| Part::ToolResult { id: id.to_owned(), text: "o".to_owned(), is_error };
        let results = vec![result("unnamed-r1-2", false), result("own", true)];
        let sent = encoded(&[reply.message, Message { role: Role::User, parts: results }]);
        let expected = serde_json::json!([
            {"role": "model", "parts": [
                {"thought": true, "text": "a b"},
                {"text": "Hi there"},
                {"functionCall": {"name": "shell", "args": {"x": 1}}, "thoughtSignature": "s/1="},
                {"functionCall": {"id": "own", "name": "finish", "args": {}}},
                {"thoughtSignature": "s2", "text": ""},
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "shell", "response": {"output": "o"}}},
                {"functionResponse": {"id": "own", "name": "finish", "response": {"error": "o"}}},
            ]},
        ]);
        assert_eq!(sent["contents"], expected);
    }

    #[test]
    fn ends_and_errors_are_told_apart() {
        assert_eq!(decode(&[r#"{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}"#]), Ok(None), "cut");
        let blocked = decode(&[r#"{"promptFeedback":{"blockReason":"OTHER"}}"#]).unwrap().unwrap().unwrap();
        assert_eq!((blocked.stop, blocked.message.parts.len()), (Stop::Refused, 0));
        let empty = decode(&[r#"{"candidates":[{"finishReason":"STOP"}]}"#]);
        assert!(matches!(empty, Ok(Some(Err(Trouble::Invalid(_))))));
        let busy = decode(&[r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#]);
        assert_eq!(busy, Err(Trouble::Passing("503 UNAVAILABLE: busy".to_owned())));
        let key = r#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT","details":[{"@type":"x"},{"reason":"API_KEY_INVALID"}]}}"#;
        assert!(Complaint::read(key).unwrap().is_about_the_key());
        assert!(ends(r#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#));
        assert!(!ends(r#"{"candidates":[{"content":{"parts":[{"text":"\"finishReason\":\"STOP\""}]}}]}"#));
    }

    #[test]
    fn usage_is_read_from_a_list_of_chunks_too() {
        let mut counted = Counted::default();
        let list = r#"[{"usageMetadata":{"promptTokenCount":5}},{"usageMetadata":{"promptTokenCount":5,"candidatesTokenCount":3}},{}]"#;
        assert!(count(list, &mut counted));
        assert_eq!((counted.usage.input, counted.usage.output), (5, 3));
        assert!(!count("[]", &mut counted) && !count("{}", &mut counted));
    }
}
