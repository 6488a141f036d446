//! Replies as `OpenAI`'s Responses send them: a list of items, and many small events about each.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    ReplyStop, ReplyUsage,
    wire::{Playing, pieces},
};

/// The name of the response of this number.
pub(super) fn response_id(number: u64) -> String {
    format!("resp_{number:016x}")
}

/// What breaks a stream off.
pub(super) fn error_event(code: &str, message: &str) -> Bytes {
    let event = json!({"type": "error", "code": code, "message": message, "param": null, "sequence_number": 999});
    event.to_string().into()
}

impl Playing<'_> {
    fn responses_usage(&self) -> Value {
        let Some(ReplyUsage { input, cache_read, cache_write, output }) = self.usage else { return Value::Null };
        let whole = input + cache_read + cache_write;
        json!({
            "input_tokens": whole,
            "input_tokens_details": {"cached_tokens": cache_read, "cache_write_tokens": cache_write},
            "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": whole + output,
        })
    }

    fn responses_frame(&self, status: &str, output: Value, usage: Value) -> Value {
        let incomplete = match (status, self.reply.stop) {
            ("incomplete", Some(ReplyStop::Refused)) => json!({"reason": "content_filter"}),
            ("incomplete", _) => json!({"reason": "max_output_tokens"}),
            _ => Value::Null,
        };
        json!({
            "id": response_id(self.number), "object": "response", "created_at": 0, "status": status, "background": false,
            "error": null, "incomplete_details": incomplete, "instructions": null, "max_output_tokens": null,
            "metadata": {}, "model": self.model, "output": output, "parallel_tool_calls": true,
            "previous_response_id": null, "reasoning": {"effort": null, "summary": null}, "store": true,
            "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "truncation": "disabled", "usage": usage, "user": null,
        })
    }

    fn item_id(&self, prefix: &str, at: usize) -> String {
        format!("{prefix}_{:016x}{at:02}", self.number)
    }

    /// The items of the reply, whole.
    fn items(&self) -> Vec<Value> {
        let mut items = Vec::new();
        if !self.reply.thinking.is_empty() {
            let summary = json!([{"type": "summary_text", "text": self.reply.thinking}]);
            items.push(json!({"id": self.item_id("rs", 0), "type": "reasoning", "summary": summary}));
        }
        if !self.reply.text.is_empty() {
            let content = json!([{"type": "output_text", "text": self.reply.text, "annotations": [], "logprobs": []}]);
            items.push(json!({
                "id": self.item_id("msg", 0), "type": "message", "status": "completed", "role": "assistant",
                "content": content,
            }));
        }
        items.extend(self.reply.tools.iter().enumerate().map(|(at, tool)| {
            json!({
                "id": self.item_id("fc", at), "type": "function_call", "status": "completed", "call_id": self.tool_id(at),
                "name": tool.name, "arguments": self.arguments(&tool.arguments),
            })
        }));
        items
    }

    fn status(&self) -> &'static str {
        if self.reply.stop.is_some() { "incomplete" } else { "completed" }
    }

    pub(super) fn responses_document(&self) -> Value {
        self.responses_frame(self.status(), self.items().into(), self.responses_usage())
    }

    pub(super) fn responses_events(&self) -> Vec<String> {
        let begun = self.responses_frame("in_progress", json!([]), Value::Null);
        let mut events = vec![
            json!({"type": "response.created", "response": begun}),
            json!({"type": "response.in_progress", "response": begun}),
        ];
        for (at, item) in self.items().into_iter().enumerate() {
            let mut opening = item.clone();
            for (field, empty) in [("content", json!([])), ("summary", json!([])), ("arguments", json!(""))] {
                if opening.get(field).is_some() {
                    opening[field] = empty;
                }
            }
            if opening.get("status").is_some() {
                opening["status"] = "in_progress".into();
            }
            events.push(json!({"type": "response.output_item.added", "output_index": at, "item": opening}));
            events.extend(inside(at, &item));
            events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
        }
        let last = format!("response.{}", self.status());
        events.push(json!({"type": last, "response": self.responses_document()}));
        let line = |(number, event): (usize, &mut Value)| {
            event["sequence_number"] = number.into();
            format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
        };
        events.iter_mut().enumerate().map(line).collect()
    }
}

/// What is told between an item's beginning and its end.
fn inside(at: usize, item: &Value) -> Vec<Value> {
    let about = |event: &str, more: Value| {
        let mut event = json!({"type": format!("response.{event}"), "item_id": item["id"], "output_index": at});
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        event
    };
    let deltas = |text: &Value| pieces(text.as_str().unwrap_or_default()).map(str::to_owned).collect::<Vec<_>>();
    let mut events = Vec::new();
    match item["type"].as_str() {
        Some("reasoning") => {
            let (part, text) = (&item["summary"][0], &item["summary"][0]["text"]);
            let empty = json!({"type": "summary_text", "text": ""});
            events.push(about("reasoning_summary_part.added", json!({"summary_index": 0, "part": empty})));
            events.extend(
                deltas(text)
                    .iter()
                    .map(|piece| about("reasoning_summary_text.delta", json!({"summary_index": 0, "delta": piece}))),
            );
            events.push(about("reasoning_summary_text.done", json!({"summary_index": 0, "text": text})));
            events.push(about("reasoning_summary_part.done", json!({"summary_index": 0, "part": part})));
        }
        Some("message") => {
            let (part, text) = (&item["content"][0], &item["content"][0]["text"]);
            let empty = json!({"type": "output_text", "text": "", "annotations": [], "logprobs": []});
            events.push(about("content_part.added", json!({"content_index": 0, "part": empty})));
            events.extend(
                deltas(text).iter().map(|piece| {
                    about("output_text.delta", json!({"content_index": 0, "delta": piece, "logprobs": []}))
                }),
            );
            events.push(about("output_text.done", json!({"content_index": 0, "text": text, "logprobs": []})));
            events.push(about("content_part.done", json!({"content_index": 0, "part": part})));
        }
        _ => {
            let (name, arguments) = (&item["name"], &item["arguments"]);
            events.extend(
                deltas(arguments).iter().map(|piece| about("function_call_arguments.delta", json!({"delta": piece}))),
            );
            events.push(about("function_call_arguments.done", json!({"name": name, "arguments": arguments})));
        }
    }
    events
}
