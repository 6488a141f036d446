//! Reading what an agent tells in `session/update`. Fields are taken where they are as expected, and left where they are not.

use domain::ports::agent::{PlanStep, StepState};
use serde_json::Value;

use crate::updates::{Call, CallState, Updates};

/// Passes on one update.
pub(super) fn tell(update: &Value, updates: &mut Updates<'_>) {
    match update["sessionUpdate"].as_str() {
        Some("agent_message_chunk") => {
            let piece = block(&update["content"]);
            updates.say(update["messageId"].as_str(), &piece);
        }
        Some("tool_call" | "tool_call_update") => {
            if let Some(id) = update["toolCallId"].as_str() {
                updates.call(id, call(update));
            }
        }
        Some("plan") => {
            let entries = update["entries"].as_array().map_or(&[][..], Vec::as_slice);
            updates.plan_is(entries.iter().filter_map(step).collect());
        }
        // Thoughts, the person's own words again, lists of commands, costs that are not comparable, and what is newer than this.
        _ => {}
    }
}

/// The failure that an update or the answer to a prompt tells of, where the agent has the extension for that.
pub(super) fn failure(meta: &Value) -> Option<String> {
    let failure = &meta["_meta"]["jetbrains"]["air"]["sessionFailure"];
    (failure["severity"] == "error").then(|| failure["title"].as_str().unwrap_or("it does not say why").to_owned())
}

fn step(entry: &Value) -> Option<PlanStep> {
    let state = match entry["status"].as_str() {
        Some("completed") => StepState::Done,
        Some("in_progress") => StepState::Doing,
        _ => StepState::Pending,
    };
    Some(PlanStep { text: entry["content"].as_str()?.to_owned(), state })
}

/// What an update, or a request for leave, says of a tool call.
pub(super) fn call(update: &Value) -> Call {
    let state = match update["status"].as_str() {
        Some("pending") => Some(CallState::Pending),
        Some("in_progress") => Some(CallState::Running),
        Some("completed") => Some(CallState::Done),
        Some("failed") => Some(CallState::Failed),
        _ => None,
    };
    let input = &update["rawInput"];
    let is_telling = !input.is_null() && input.as_object().is_none_or(|fields| !fields.is_empty());
    let title = update["title"].as_str().map(str::to_owned);
    Call { name: name(update), title, arguments: is_telling.then(|| input.to_string()), output: output(update), state }
}

/// The tool's own name where it is told; else what kind of tool it is.
fn name(update: &Value) -> Option<String> {
    let own = [&update["name"], &update["_meta"]["claudeCode"]["toolName"], &update["kind"]];
    own.into_iter().find_map(Value::as_str).map(str::to_owned)
}

/// The first of the places in which agents put a tool's output that holds something.
fn output(update: &Value) -> Option<String> {
    let places = [
        content(&update["content"]),
        said(&update["rawOutput"]),
        said(&update["_meta"]["terminal_output"]["data"]),
        said(&update["_meta"]["claudeCode"]["toolResponse"]),
    ];
    places.into_iter().find(|text| !text.trim().is_empty())
}

/// The text in content of a tool call.
pub(super) fn content(content: &Value) -> String {
    let items = content.as_array().map_or(&[][..], Vec::as_slice);
    let texts = items.iter().map(|item| match item["type"].as_str() {
        Some("diff") => format!("edited {}", item["path"].as_str().unwrap_or("a file")),
        Some("content") => block(&item["content"]),
        _ => block(item),
    });
    texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
}

/// A block of content as text.
fn block(block: &Value) -> String {
    match block["type"].as_str() {
        Some("image") => "[image]".to_owned(),
        Some("audio") => "[audio]".to_owned(),
        Some("resource_link") => block["uri"].as_str().unwrap_or_default().to_owned(),
        Some("resource") => block["resource"]["text"].as_str().unwrap_or("[resource]").to_owned(),
        _ => block["text"].as_str().unwrap_or_default().to_owned(),
    }
}

/// A tool's output in a form of the agent's own.
fn said(output: &Value) -> String {
    const NAMES: [&str; 9] = [
        "formatted_output",
        "aggregated_output",
        "output",
        "stdout",
        "content",
        "detailedContent",
        "text",
        "error",
        "message",
    ];
    match output {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(said).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) if fields.is_empty() => String::new(),
        Value::Object(_) => {
            let known = NAMES.iter().map(|name| said(&output[*name])).find(|text| !text.is_empty());
            known.unwrap_or_else(|| output.to_string())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn output_is_found_wherever_it_is() {
        for update in [
            json!({"content": [{"type": "content", "content": {"type": "text", "text": "hi"}}]}),
            json!({"content": [], "rawOutput": {"formatted_output": "hi", "exit_code": 0}}),
            json!({"rawOutput": "hi"}),
            json!({"rawOutput": {"output": "hi", "metadata": {}}}),
            json!({"_meta": {"claudeCode": {"toolResponse": {"stdout": "hi", "stderr": ""}}}}),
            json!({"_meta": {"claudeCode": {"toolResponse": [{"type": "text", "text": "hi"}]}}}),
        ] {
            assert_eq!(call(&update).output.as_deref(), Some("hi"), "{update}");
        }
        assert_eq!(call(&json!({"content": 7, "rawOutput": {}})).output, None);
    }

    #[test]
    fn a_call_is_named_by_its_tool_and_empty_input_is_none_yet() {
        let update = json!({"title": "ls -la\nmore", "kind": "execute", "rawInput": {}, "status": "pending"});
        let read = call(&update);
        assert_eq!(
            (read.name.as_deref(), read.arguments, read.state),
            (Some("execute"), None, Some(CallState::Pending))
        );
        assert_eq!(read.title.as_deref(), Some("ls -la\nmore"));
        let update =
            json!({"title": "`ls`", "_meta": {"claudeCode": {"toolName": "Bash"}}, "rawInput": {"command": "ls"}});
        let read = call(&update);
        assert_eq!((read.name.as_deref(), read.arguments.as_deref()), (Some("Bash"), Some(r#"{"command":"ls"}"#)));
    }
}
