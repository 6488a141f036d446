//! What the agents' programs print, a JSON object a line, brought to the transcript.

use domain::ports::agent::{PlanStep, StepState};
use serde_json::Value;

use super::recipe::{Events, Success};
use crate::updates::{Call, CallState, Updates};

/// What was seen of a run, besides what went to the transcript.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Whether anything was understood.
    pub anything: bool,
    pub session: Option<String>,
    /// It says that it is done.
    pub done: bool,
    /// It says that it failed, and why.
    pub failed: Option<String>,
    /// Its last words, where it names them.
    pub words: Option<String>,
}

impl Seen {
    /// Takes in one event.
    pub fn event(&mut self, events: Events, success: Option<&Success>, event: &Value, updates: &mut Updates<'_>) {
        self.anything |= event["type"].is_string() || matches!(events, Events::Jsonl);
        match events {
            Events::Text => {}
            Events::Jsonl => self.plain(success, event, updates),
            Events::CodexJsonl => self.codex(event, updates),
            Events::ClaudeStreamJson => self.claude(event, updates),
            Events::PiJson => self.pi(event, updates),
        }
    }

    fn plain(&mut self, success: Option<&Success>, event: &Value, updates: &mut Updates<'_>) {
        if let Some(id) = event["session"].as_str() {
            self.session = Some(id.to_owned());
        }
        if let Some(text) = event["text"].as_str() {
            updates.say(None, text);
            updates.end_message();
        }
        if let Some(text) = event["result"].as_str() {
            self.words = Some(text.to_owned());
        }
        if !event["error"].is_null() {
            self.failed = Some(reason(&event["error"]));
        }
        if let Some(Success::Event { field, is }) = success {
            self.done |= pick(event, field).is_some_and(|value| is_text(value, is));
        }
    }

    fn codex(&mut self, event: &Value, updates: &mut Updates<'_>) {
        match event["type"].as_str().unwrap_or_default() {
            "thread.started" => self.session = event["thread_id"].as_str().map(str::to_owned),
            "turn.completed" => self.done = true,
            "turn.failed" => self.failed = Some(reason(&event["error"])),
            kind @ ("item.started" | "item.updated" | "item.completed") => {
                codex_item(&event["item"], kind == "item.completed", updates);
            }
            _ => {}
        }
    }

    fn claude(&mut self, event: &Value, updates: &mut Updates<'_>) {
        let parts = event["message"]["content"].as_array().map_or(&[][..], Vec::as_slice);
        match event["type"].as_str().unwrap_or_default() {
            "system" if event["subtype"] == "init" => self.session = event["session_id"].as_str().map(str::to_owned),
            // What its own helpers say among themselves is not said to anybody here.
            "assistant" if event["parent_tool_use_id"].is_null() => {
                for part in parts {
                    claude_part(part, updates);
                }
            }
            "user" if event["parent_tool_use_id"].is_null() => {
                for part in parts.iter().filter(|part| part["type"] == "tool_result") {
                    ended(&part["tool_use_id"], text(&part["content"]), part["is_error"] == true, updates);
                }
            }
            "result" if event["is_error"] == true || event["subtype"] != "success" => {
                let told =
                    [&event["result"], &event["errors"], &event["subtype"]].into_iter().find(|told| !told.is_null());
                self.failed = Some(told.map(reason).unwrap_or_default());
            }
            "result" => {
                self.done = true;
                self.words = event["result"].as_str().map(str::to_owned);
            }
            _ => {}
        }
    }

    fn pi(&mut self, event: &Value, updates: &mut Updates<'_>) {
        let message = &event["message"];
        match event["type"].as_str().unwrap_or_default() {
            "message_end" if message["role"] == "assistant" => {
                updates.say(None, &text(&message["content"]));
                updates.end_message();
                match message["stopReason"].as_str().unwrap_or_default() {
                    "error" | "aborted" => self.failed = Some(reason(&message["errorMessage"])),
                    "length" => self.failed = Some("the model's reply was cut at its output limit".to_owned()),
                    // It tried again by itself, and went on.
                    _ => self.failed = None,
                }
                self.done = message["stopReason"] == "stop";
            }
            "tool_execution_start" => {
                begun(&event["toolCallId"], &event["toolName"], &event["args"], updates);
            }
            "tool_execution_end" => {
                ended(&event["toolCallId"], text(&event["result"]["content"]), event["isError"] == true, updates);
            }
            _ => {}
        }
    }
}

fn codex_item(item: &Value, is_completed: bool, updates: &mut Updates<'_>) {
    let kind = item["type"].as_str().unwrap_or_default();
    match kind {
        "agent_message" if is_completed => {
            updates.say(None, item["text"].as_str().unwrap_or_default());
            updates.end_message();
        }
        "agent_message" | "reasoning" => {}
        "error" => updates.note(item["message"].as_str().unwrap_or_default()),
        "todo_list" => updates.plan_is(steps(&item["items"], |step| {
            let state = if step["completed"] == true { StepState::Done } else { StepState::Pending };
            (step["text"].as_str(), state)
        })),
        _ => {
            let (name, input) = match kind {
                "command_execution" => ("shell", serde_json::json!({ "command": item["command"] })),
                "file_change" => ("edit", serde_json::json!({ "changes": item["changes"] })),
                "mcp_tool_call" => (item["tool"].as_str().unwrap_or(kind), item["arguments"].clone()),
                "web_search" => (kind, serde_json::json!({ "query": item["query"] })),
                _ => (kind, Value::Null),
            };
            begun(&item["id"], &name.into(), &input, updates);
            if is_completed {
                let output = match kind {
                    "mcp_tool_call" => text(&item["result"]["content"]),
                    _ => item["aggregated_output"].as_str().unwrap_or_default().to_owned(),
                };
                let is_error = item["status"] == "failed" || item["exit_code"].as_i64().is_some_and(|code| code != 0);
                ended(&item["id"], output, is_error, updates);
            }
        }
    }
}

fn claude_part(part: &Value, updates: &mut Updates<'_>) {
    match part["type"].as_str().unwrap_or_default() {
        "text" => {
            updates.say(None, part["text"].as_str().unwrap_or_default());
            updates.end_message();
        }
        "tool_use" => {
            if part["name"] == "TodoWrite" {
                updates.plan_is(steps(&part["input"]["todos"], |step| {
                    let state = match step["status"].as_str() {
                        Some("completed") => StepState::Done,
                        Some("in_progress") => StepState::Doing,
                        _ => StepState::Pending,
                    };
                    (step["content"].as_str(), state)
                }));
            }
            begun(&part["id"], &part["name"], &part["input"], updates);
        }
        _ => {}
    }
}

fn steps<'a>(items: &'a Value, step: impl Fn(&'a Value) -> (Option<&'a str>, StepState)) -> Vec<PlanStep> {
    let step = |item| {
        let (text, state) = step(item);
        Some(PlanStep { text: text?.to_owned(), state })
    };
    items.as_array().into_iter().flatten().filter_map(step).collect()
}

fn begun(id: &Value, name: &Value, input: &Value, updates: &mut Updates<'_>) {
    let Some(id) = id.as_str() else { return };
    let arguments = (!input.is_null()).then(|| input.to_string());
    let name = name.as_str().map(str::to_owned);
    updates.call(id, Call { name, arguments, state: Some(CallState::Running), ..Call::default() });
}

fn ended(id: &Value, output: String, is_error: bool, updates: &mut Updates<'_>) {
    let Some(id) = id.as_str() else { return };
    let state = if is_error { CallState::Failed } else { CallState::Done };
    updates.call(id, Call { output: Some(output), state: Some(state), ..Call::default() });
}

/// The text of a content: itself, or of its parts.
fn text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("\n")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => String::new(),
    }
}

fn reason(error: &Value) -> String {
    let text = error["message"].as_str().or_else(|| error.as_str()).map_or_else(|| error.to_string(), str::to_owned);
    if text.is_empty() || text == "null" { "it gives no reason".to_owned() } else { text }
}

/// A field by its name, or by names with dots between them.
pub(super) fn pick<'a>(value: &'a Value, field: &str) -> Option<&'a Value> {
    field.split('.').try_fold(value, |value, name| value.get(name))
}

/// Whether a value is this, as text.
pub(super) fn is_text(value: &Value, text: &str) -> bool {
    let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value == text
}
