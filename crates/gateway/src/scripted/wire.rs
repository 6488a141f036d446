//! Replies as providers send them.

use serde_json::{Value, json};

use super::{Reply, ReplyStop, ReplyUsage};
use crate::dialect::{Dialect, Protocol, Wire};

/// How much of a text comes in one event.
const PIECE_CHARS: usize = 120;

/// A reply to send.
pub(super) struct Playing<'a> {
    pub protocol: Protocol,
    pub model: &'a str,
    pub reply: &'a Reply,
    /// Tells this reply's ids from others'.
    pub number: u64,
    /// `None`: it is left out.
    pub usage: Option<ReplyUsage>,
    pub break_arguments: bool,
}

impl Playing<'_> {
    pub(super) fn arguments(&self, arguments: &Value) -> String {
        let text = arguments.to_string();
        if self.break_arguments { format!("{},,", &text[..text.len() - 1]) } else { text }
    }

    pub(super) fn stop(&self) -> &'static str {
        match (self.protocol.dialect(), self.reply.stop, self.reply.tools.is_empty()) {
            (Dialect::Anthropic, Some(ReplyStop::Length), _) => "max_tokens",
            (Dialect::Anthropic, Some(ReplyStop::Refused), _) => "refusal",
            (Dialect::Anthropic, None, true) => "end_turn",
            (Dialect::Anthropic, None, false) => "tool_use",
            (Dialect::Gemini, Some(ReplyStop::Length), _) => "MAX_TOKENS",
            (Dialect::Gemini, Some(ReplyStop::Refused), _) => "SAFETY",
            (Dialect::Gemini, None, _) if self.break_arguments => "MALFORMED_FUNCTION_CALL",
            (Dialect::Gemini, None, _) => "STOP",
            (Dialect::OpenAi, Some(ReplyStop::Length), _) => "length",
            (Dialect::OpenAi, Some(ReplyStop::Refused), _) => "content_filter",
            (Dialect::OpenAi, None, true) => "stop",
            (Dialect::OpenAi, None, false) => "tool_calls",
        }
    }

    /// The events of a stream, each with its blank line.
    pub fn events(&self) -> Vec<String> {
        match self.protocol {
            Protocol::Messages => self.anthropic_events(),
            Protocol::ChatCompletions => self.openai_events(),
            Protocol::GenerateContent => self.gemini_events(),
            Protocol::Responses => self.responses_events(),
        }
    }

    /// The reply in one piece.
    pub fn document(&self) -> Value {
        match self.protocol {
            Protocol::Messages => self.anthropic_document(),
            Protocol::ChatCompletions => self.openai_document(),
            Protocol::GenerateContent => self.gemini_document(),
            Protocol::Responses => self.responses_document(),
        }
    }

    pub(super) fn tool_id(&self, at: usize) -> String {
        let prefix = match self.protocol.dialect() {
            Dialect::Anthropic => "toolu",
            Dialect::Gemini | Dialect::OpenAi => "call",
        };
        format!("{prefix}_{:016x}{at:02}", self.number)
    }

    pub(super) fn signature(&self) -> String {
        format!("sig-{:016x}", self.number)
    }

    fn anthropic_usage(&self) -> Value {
        let ReplyUsage { input, cache_read, cache_write, output } = self.usage.unwrap_or_default();
        json!({
            "input_tokens": input, "cache_read_input_tokens": cache_read,
            "cache_creation_input_tokens": cache_write, "output_tokens": output,
        })
    }

    fn anthropic_message(&self, content: Value, stop: Value) -> Value {
        let mut message = json!({
            "id": format!("msg_{:016x}", self.number), "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop, "stop_sequence": null,
        });
        if self.usage.is_some() {
            message["usage"] = self.anthropic_usage();
        }
        message
    }

    fn anthropic_document(&self) -> Value {
        let mut content = Vec::new();
        if !self.reply.thinking.is_empty() {
            content.push(json!({"type": "thinking", "thinking": self.reply.thinking, "signature": self.signature()}));
        }
        if !self.reply.text.is_empty() {
            content.push(json!({"type": "text", "text": self.reply.text}));
        }
        for (at, tool) in self.reply.tools.iter().enumerate() {
            content
                .push(json!({"type": "tool_use", "id": self.tool_id(at), "name": tool.name, "input": tool.arguments}));
        }
        self.anthropic_message(content.into(), self.stop().into())
    }

    fn anthropic_events(&self) -> Vec<String> {
        let mut start = self.anthropic_message(json!([]), Value::Null);
        if self.usage.is_some() {
            start["usage"]["output_tokens"] = 1.into();
        }
        let mut events = vec![json!({"type": "message_start", "message": start}), json!({"type": "ping"})];
        let mut index = 0;
        let mut block = |opening: Value, deltas: Vec<Value>| {
            events.push(json!({"type": "content_block_start", "index": index, "content_block": opening}));
            let delta = |delta| json!({"type": "content_block_delta", "index": index, "delta": delta});
            events.extend(deltas.into_iter().map(delta));
            events.push(json!({"type": "content_block_stop", "index": index}));
            index += 1;
        };
        if !self.reply.thinking.is_empty() {
            let mut deltas: Vec<_> = pieces(&self.reply.thinking)
                .map(|piece| json!({"type": "thinking_delta", "thinking": piece}))
                .collect();
            deltas.push(json!({"type": "signature_delta", "signature": self.signature()}));
            block(json!({"type": "thinking", "thinking": "", "signature": ""}), deltas);
        }
        if !self.reply.text.is_empty() {
            let deltas = pieces(&self.reply.text).map(|piece| json!({"type": "text_delta", "text": piece})).collect();
            block(json!({"type": "text", "text": ""}), deltas);
        }
        for (at, tool) in self.reply.tools.iter().enumerate() {
            let deltas = pieces(&self.arguments(&tool.arguments))
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect();
            block(json!({"type": "tool_use", "id": self.tool_id(at), "name": tool.name, "input": {}}), deltas);
        }
        let mut end = json!({"type": "message_delta", "delta": {"stop_reason": self.stop(), "stop_sequence": null}});
        if self.usage.is_some() {
            end["usage"] = self.anthropic_usage();
        }
        events.extend([end, json!({"type": "message_stop"})]);
        let line = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        events.iter().map(line).collect()
    }

    fn openai_usage(&self) -> Value {
        let Some(ReplyUsage { input, cache_read, cache_write, output }) = self.usage else { return Value::Null };
        let prompt = input + cache_read + cache_write;
        json!({
            "prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": cache_read, "cache_write_tokens": cache_write},
            "completion_tokens_details": {"reasoning_tokens": 0},
        })
    }

    fn openai_call(&self, at: usize) -> Value {
        let tool = &self.reply.tools[at];
        let function = json!({"name": tool.name, "arguments": self.arguments(&tool.arguments)});
        json!({"id": self.tool_id(at), "type": "function", "function": function})
    }

    fn openai_document(&self) -> Value {
        let text = if self.reply.text.is_empty() { Value::Null } else { self.reply.text.as_str().into() };
        let mut message = json!({"role": "assistant", "content": text});
        if !self.reply.thinking.is_empty() {
            message["reasoning_content"] = self.reply.thinking.as_str().into();
        }
        if !self.reply.tools.is_empty() {
            message["tool_calls"] = (0..self.reply.tools.len()).map(|at| self.openai_call(at)).collect();
        }
        let mut document = self.openai_frame("chat.completion");
        document["choices"] = json!([{"index": 0, "message": message, "finish_reason": self.stop()}]);
        document["usage"] = self.openai_usage();
        document
    }

    fn openai_frame(&self, object: &str) -> Value {
        json!({
            "id": format!("chatcmpl-{:016x}", self.number), "object": object, "created": 0, "model": self.model,
            "choices": [], "usage": null,
        })
    }

    fn openai_events(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut chunk = |delta: Value, finish: Value| {
            let mut frame = self.openai_frame("chat.completion.chunk");
            frame["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
            events.push(frame);
        };
        chunk(json!({"role": "assistant", "content": ""}), Value::Null);
        for piece in pieces(&self.reply.thinking) {
            chunk(json!({"reasoning_content": piece}), Value::Null);
        }
        for piece in pieces(&self.reply.text) {
            chunk(json!({"content": piece}), Value::Null);
        }
        for at in 0..self.reply.tools.len() {
            let mut opening = self.openai_call(at);
            let arguments = opening["function"]["arguments"].take();
            opening["index"] = at.into();
            opening["function"]["arguments"] = "".into();
            chunk(json!({"tool_calls": [opening]}), Value::Null);
            for piece in pieces(arguments.as_str().unwrap_or_default()) {
                chunk(json!({"tool_calls": [{"index": at, "function": {"arguments": piece}}]}), Value::Null);
            }
        }
        chunk(json!({}), self.stop().into());
        if self.usage.is_some() {
            let mut last = self.openai_frame("chat.completion.chunk");
            last["usage"] = self.openai_usage();
            events.push(last);
        }
        let lines = events.iter().map(|event| format!("data: {event}\n\n"));
        lines.chain(["data: [DONE]\n\n".to_owned()]).collect()
    }
}

pub(super) fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(PIECE_CHARS).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}
