//! What an agent asks its client: for leave, which a policy gives as nobody is there; and questions, which a person answers.

use std::path::{Component, Path, PathBuf};

use domain::ports::agent::Mode;
use serde_json::{Value, json};

/// Kinds of tool calls that change nothing here.
const READING: [&str; 4] = ["read", "search", "fetch", "think"];
/// Fields of a tool's input that hold a path.
const PATHS: [&str; 6] = ["file_path", "filePath", "path", "abs_path", "absolute_path", "notebook_path"];

/// The directories that are the attempt's own.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    pub workspace: String,
    pub home: String,
}

/// What a request for leave comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Granted,
    Denied(String),
    /// It has planned and wants to begin: this is the plan.
    Planned(String),
    Asked(Question),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub text: String,
    pub choices: Vec<String>,
}

/// The policy. The sandbox is the wall: what is denied is denied for the sake of the turn's mode, or told because it would come to
/// nothing.
pub(super) fn leave(params: &Value, mode: Mode, places: &Places) -> Leave {
    let call = &params["toolCall"];
    let input = &call["rawInput"];
    if let Some(question) = of_tool(input) {
        return Leave::Asked(question);
    }
    let kind = call["kind"].as_str().unwrap_or("other");
    let is_reading = READING.contains(&kind);
    match mode {
        Mode::Plan if kind == "switch_mode" => return Leave::Planned(plan(call)),
        Mode::Plan if !is_reading => {
            return Leave::Denied("this turn is for planning: nothing may be changed or run".to_owned());
        }
        Mode::Plan | Mode::Work | Mode::Report => {}
    }
    let locations = call["locations"].as_array().into_iter().flatten().filter_map(|place| place["path"].as_str());
    let named = PATHS.iter().filter_map(|name| input[*name].as_str());
    match locations.chain(named).find(|path| !is_reading && places.are_left_by(path)) {
        Some(path) => Leave::Denied(format!(
            "{path} is not a part of the task: only the workspace, HOME and /tmp are, and nothing else is kept"
        )),
        None => Leave::Granted,
    }
}

impl Places {
    fn are_left_by(&self, path: &str) -> bool {
        if !path.starts_with('/') {
            return false;
        }
        let mut real = PathBuf::new();
        for part in Path::new(path).components() {
            match part {
                Component::ParentDir => drop(real.pop()),
                Component::CurDir => {}
                part => real.push(part),
            }
        }
        ![self.workspace.as_str(), self.home.as_str(), "/tmp"].iter().any(|place| real.starts_with(place))
    }
}

/// The answer to a request for leave. Once, so that nothing is written into anybody's settings.
pub(super) fn outcome(params: &Value, is_granted: bool) -> Value {
    let kinds = if is_granted { ["allow_once", "allow_always"] } else { ["reject_once", "reject_always"] };
    let options = params["options"].as_array().map_or(&[][..], Vec::as_slice);
    let option = kinds.iter().find_map(|kind| options.iter().find(|option| option["kind"] == **kind));
    match option.and_then(|option| option["optionId"].as_str()) {
        Some(id) => json!({"outcome": {"outcome": "selected", "optionId": id}}),
        None => json!({"outcome": {"outcome": "cancelled"}}),
    }
}

fn plan(call: &Value) -> String {
    let told = call["rawInput"]["plan"].as_str().map(str::to_owned);
    told.unwrap_or_else(|| super::news::content(&call["content"])).trim().to_owned()
}

/// A question that comes as a tool's input.
fn of_tool(input: &Value) -> Option<Question> {
    let questions = input["questions"].as_array()?;
    let texts: Vec<&str> = questions.iter().filter_map(|question| question["question"].as_str()).collect();
    let choices = match &questions[..] {
        [question] => titles(&question["options"], &["label", "title", "value"]),
        _ => Vec::new(),
    };
    (!texts.is_empty()).then(|| Question { text: texts.join("\n\n"), choices })
}

/// A form that the agent wants filled in. `None`: it is not for a person here (a page to visit).
pub(super) fn of_form(params: &Value) -> Option<Question> {
    if params["mode"].as_str().is_some_and(|mode| mode != "form") {
        return None;
    }
    let fields = params["requestedSchema"]["properties"].as_object()?;
    let mut text = params["message"].as_str().unwrap_or_default().trim().to_owned();
    let mut lists = Vec::new();
    for field in fields.values() {
        let options = [&field["oneOf"], &field["enum"], &field["items"]["anyOf"], &field["items"]["enum"]];
        let Some(options) = options.into_iter().find(|options| options.is_array()) else { continue };
        if let Some(description) = field["description"].as_str() {
            text = format!("{text}\n\n{description}");
        }
        lists.push(titles(options, &["title", "const"]));
    }
    let choices = if lists.len() == 1 { lists.remove(0) } else { Vec::new() };
    (!text.is_empty()).then(|| Question { text: text.trim().to_owned(), choices })
}

/// Of options that are words, or have one under one of these names.
fn titles(options: &Value, names: &[&str]) -> Vec<String> {
    let title = |option: &Value| {
        let named = || names.iter().find_map(|name| option[*name].as_str());
        option.as_str().or_else(named).map(str::to_owned)
    };
    options.as_array().into_iter().flatten().filter_map(title).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places { workspace: "/workspace".to_owned(), home: "/home/agent".to_owned() }
    }

    fn ask(kind: &str, input: Value) -> Value {
        let options = json!([
            {"optionId": "always", "kind": "allow_always"}, {"optionId": "once", "kind": "allow_once"},
            {"optionId": "no", "kind": "reject_once"},
        ]);
        json!({"toolCall": {"toolCallId": "1", "kind": kind, "rawInput": input}, "options": options})
    }

    #[test]
    fn what_stays_inside_is_granted_once() {
        for params in [
            ask("execute", json!({"command": "rm -rf /"})),
            ask("edit", json!({"file_path": "/workspace/a"})),
            ask("edit", json!({"path": "src/lib.rs"})),
            ask("read", json!({"path": "/usr/include/stdio.h"})),
        ] {
            assert_eq!(leave(&params, Mode::Work, &places()), Leave::Granted, "{params}");
        }
        assert_eq!(outcome(&ask("edit", json!({})), true)["outcome"]["optionId"], "once");
        assert_eq!(outcome(&ask("edit", json!({})), false)["outcome"]["optionId"], "no");
        assert_eq!(outcome(&json!({}), true)["outcome"]["outcome"], "cancelled");
    }

    #[test]
    fn what_leaves_the_task_is_denied() {
        for path in ["/etc/passwd", "/workspace/../etc/passwd", "/workspacer/a", "/home/agent/../other"] {
            let left = leave(&ask("edit", json!({ "file_path": path })), Mode::Work, &places());
            assert!(matches!(&left, Leave::Denied(why) if why.starts_with(path)), "{left:?}");
        }
    }

    #[test]
    fn a_planning_turn_reads_and_its_plan_is_heard() {
        assert!(matches!(leave(&ask("execute", json!({})), Mode::Plan, &places()), Leave::Denied(_)));
        assert_eq!(leave(&ask("search", json!({})), Mode::Plan, &places()), Leave::Granted);
        let planned = leave(&ask("switch_mode", json!({"plan": "1. do it\n"})), Mode::Plan, &places());
        assert_eq!(planned, Leave::Planned("1. do it".to_owned()));
    }

    #[test]
    fn questions_are_read_in_any_form() {
        let form = json!({"mode": "form", "message": "Which?", "requestedSchema": {"properties": {
            "question_0": {"type": "string", "oneOf": [{"const": "A", "title": "A"}, {"const": "B", "title": "B"}]},
            "question_0_custom": {"type": "string", "description": "Other"},
        }}});
        let question = Question { text: "Which?".to_owned(), choices: vec!["A".to_owned(), "B".to_owned()] };
        assert_eq!(of_form(&form), Some(question.clone()));
        assert_eq!(of_form(&json!({"mode": "url", "message": "Sign in"})), None);
        let tool = json!({"questions": [{"question": "Which?", "options": [{"label": "A"}, {"label": "B"}]}]});
        assert_eq!(leave(&ask("other", tool), Mode::Work, &places()), Leave::Asked(question));
    }
}
