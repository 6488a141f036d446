//! The built-in agent through the whole program, with a script for its model: corrections, questions, plans, bad models.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout},
};

use serde_json::{Value, json};

use crate::harness::{Place, Ran};

/// A scripted provider of its own, ended with the test.
pub struct Model {
    process: Child,
    /// Keeps the pipe open that the provider printed its address to.
    _out: BufReader<ChildStdout>,
    pub url: String,
    log: std::path::PathBuf,
}

impl Model {
    pub fn play(place: &Place, script: &Value) -> Self {
        let (file, log) = (place.directory.path().join("script.json"), place.directory.path().join("model.jsonl"));
        fs::write(&file, script.to_string()).unwrap();
        let arguments = ["scripted-model", "--script", file.to_str().unwrap(), "--log", log.to_str().unwrap()];
        let mut process = place.command(&arguments).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Self { process, _out: out, url, log }
    }

    /// One that answers any conversation with these replies.
    pub fn say(place: &Place, replies: &Value) -> Self {
        Self::play(place, &json!({ "conversations": [{ "replies": replies }] }))
    }

    pub fn requests(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `overnight run` with this model.
    pub fn run(&self, place: &Place, arguments: &[&str]) -> Ran {
        self.on(place, &[&["run", "Do it", "--model", "anthropic/scripted"], arguments].concat())
    }

    /// The program, with a key for this model in its environment.
    pub fn on(&self, place: &Place, arguments: &[&str]) -> Ran {
        let mut command = place.command(arguments);
        command.env("ANTHROPIC_API_KEY", "sk-of-no-worth").env("ANTHROPIC_BASE_URL", &self.url);
        let output = command.output().unwrap();
        Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn tool(name: &str, arguments: &Value) -> Value {
    json!({ "tools": [{ "name": name, "arguments": arguments }] })
}

pub fn write(content: &str) -> Value {
    tool("write", &json!({ "path": "file.txt", "content": content }))
}

pub fn finish() -> Value {
    tool("finish", &json!({ "summary": "done" }))
}

#[test]
fn a_red_check_goes_back_to_the_model_and_the_mended_change_lands() {
    let place = Place::new();
    let told = json!({ "when": "wanted two", "tools": write("two\n")["tools"] });
    let model = Model::say(&place, &json!([write("wrong\n"), finish(), told, finish()]));
    let check = "! grep -q wrong file.txt || { echo wanted two; exit 1; }";
    let ran = model.run(&place, &["--check", check, "--wait"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let task = place.show("1");
    assert_eq!((&task["attempts"][0]["corrections"], &task["spend"]["calls"]), (&json!(1), &json!(4)));
    let requests = model.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request["prefix_kept"] != json!(false)), "{requests:?}");
    place.on(&["approve", "1"]).ok();
    assert_eq!(place.read("file.txt"), "two\n");
}

#[test]
fn a_comment_on_a_waiting_change_starts_a_correction_and_voids_what_was_seen() {
    let place = Place::new();
    let heard = json!({ "when": "say three", "tools": write("three\n")["tools"] });
    let model = Model::say(&place, &json!([write("two\n"), finish(), heard, finish()]));
    model.run(&place, &["--check", "true", "--wait"]).ok();
    assert!(place.on(&["diff", "1"]).ok().contains("+two"));
    let old = place.show("1")["head"].as_str().unwrap().to_owned();

    place.on(&["comment", "1", "say three"]).ok();
    // The next decision is asked for under a new request; the log tells when it is there.
    let logs = place.command(&["logs", "1", "-f"]).spawn();
    let mut logs = logs.unwrap();
    let mut out = BufReader::new(logs.stdout.take().unwrap());
    crate::harness::read_until(&mut out, "checks: green");
    crate::harness::read_until(&mut out, "checks: green");
    logs.kill().unwrap();
    logs.wait().unwrap();

    let moved = place.on(&["approve", "1", "--head", &old]).refused();
    assert!(moved.contains(&old[..10]) && moved.contains("overnight diff"), "{moved}");
    assert!(place.on(&["diff", "1"]).ok().contains("+three"));
    place.on(&["approve", "1"]).ok();
    assert_eq!(place.read("file.txt"), "three\n");
}

#[test]
fn a_question_waits_for_its_answer() {
    let place = Place::new();
    let ask = tool("ask", &json!({ "question": "Two or three?", "choices": ["two", "three"] }));
    let told = json!({ "when": "three", "tools": write("three\n")["tools"] });
    let model = Model::say(&place, &json!([ask, told, finish()]));
    let ran = model.run(&place, &["--check", "true", "--wait"]);
    assert_eq!(ran.code, Some(1), "a person is needed: {ran:?}");
    let inbox = place.on(&["inbox"]).ok();
    assert!(inbox.contains("Two or three?") && inbox.contains("overnight answer T-1"), "{inbox}");
    place.on(&["answer", "1", "three"]).ok();
    let mut logs = place.command(&["logs", "1", "-f"]).spawn().unwrap();
    crate::harness::read_until(&mut BufReader::new(logs.stdout.take().unwrap()), "checks: green");
    logs.kill().unwrap();
    logs.wait().unwrap();
    assert!(place.on(&["diff", "1"]).ok().contains("+three"));
}

#[test]
fn a_plan_waits_for_approval_before_anything_is_written() {
    let place = Place::new();
    let plan = tool("finish", &json!({ "summary": "First this, then that." }));
    let model = Model::say(&place, &json!([plan, write("two\n"), finish()]));
    let ran = model.run(&place, &["--check", "true", "--plan", "--wait"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("First this, then that."), "{ran:?}");
    fs::remove_dir_all(place.home.join("seen")).unwrap_or_default();
    assert!(place.on(&["approve", "1"]).refused().contains("overnight show"));
    assert!(place.on(&["show", "1"]).ok().contains("First this"));
    assert!(place.on(&["approve", "1"]).ok().contains("the plan is approved"));
}

#[test]
fn a_report_needs_no_repository_and_changes_nothing() {
    let place = Place::new();
    let report = tool("finish", &json!({ "summary": "It is slow because of the weather." }));
    let model = Model::say(&place, &json!([report]));
    let outside = place.directory.path().join("user");
    let arguments = ["run", "Why is it slow?", "--report", "--wait", "--model", "anthropic/scripted"];
    let mut command = place.command(&arguments);
    command.current_dir(outside).env("ANTHROPIC_API_KEY", "k").env("ANTHROPIC_BASE_URL", &model.url);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(place.on(&["show", "1"]).ok().contains("because of the weather"));
}

#[test]
fn keys_are_those_of_the_caller_and_a_dead_one_is_told() {
    let place = Place::new();
    let none = place.on(&["run", "x"]).refused();
    assert!(none.contains("ANTHROPIC_API_KEY") && none.contains("overnight demo"), "{none}");

    let model = Model::say(&place, &json!([{ "fault": "401" }]));
    let ran = model.run(&place, &["--check", "true", "--wait"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("key"), "{ran:?}");
    assert_eq!(model.requests().len(), 1, "a dead key is tried once");
    let export = place.on(&["export", "1"]).ok();
    assert!(!export.contains("sk-of-no-worth"));
}

#[test]
fn a_budget_stops_the_next_call() {
    let place = Place::new();
    let model = Model::say(&place, &json!([write("two\n"), finish()]));
    let ran = model.run(&place, &["--check", "! grep -q two file.txt", "--budget", "1rounds", "--wait"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("round"), "the reason is told: {ran:?}");
    assert_eq!(model.requests().len(), 1);
    assert!(place.on(&["diff", "1"]).ok().contains("+two"), "what was done is kept");
}

#[test]
fn a_model_that_talks_nonsense_ends_the_turn_and_not_the_daemon() {
    let place = Place::new();
    for replies in [
        json!([tool("no_such_tool", &json!({})), write("two\n"), finish()]),
        json!([{ "fault": "invalid_json_arguments", "fault_times": 1, "tools": write("two\n")["tools"] }, write("two\n"), finish()]),
    ] {
        let model = Model::say(&place, &replies);
        model.run(&place, &["--check", "grep -q two file.txt", "--wait"]).ok();
    }
}

#[test]
fn a_program_with_a_client_of_its_own_calls_its_model_through_the_gateway_and_sees_no_key() {
    const CLIENT: &str = r#"
import json, os, urllib.request
body = json.dumps({"model": "scripted", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]})
headers = {"x-api-key": os.environ["ANTHROPIC_API_KEY"], "anthropic-version": "2023-06-01", "content-type": "application/json"}
call = urllib.request.Request(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", body.encode(), headers)
answer = json.load(urllib.request.urlopen(call))
open("answer.txt", "w").write(answer["content"][0]["text"] + "\n")
open("environment.txt", "w").write("".join(sorted(f"{name}={value}\n" for name, value in os.environ.items())))
"#;
    let place = Place::new();
    let model = Model::say(&place, &json!([{ "text": "hello to you", "usage": { "input": 7, "output": 3 } }]));
    let client = ["--agent", "command", "--check", "true", "--wait", "--", "/usr/bin/python3", "-c", CLIENT];
    model.run(&place, &client).ok();
    let diff = place.on(&["diff", "T-1"]).ok();
    assert!(diff.contains("+hello to you"), "{diff}");
    assert!(!diff.contains("sk-of-no-worth") && !diff.contains(&model.url), "{diff}");
    assert_eq!(model.requests()[0]["key"], "sk-of-no-worth", "the gateway puts the key on");
    let show = place.on(&["show", "T-1"]).ok();
    assert!(show.contains("10 tokens") && show.contains("1 model call"), "{show}");
}
