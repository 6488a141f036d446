//! Back to a turn, through all of them again, and plans by their steps.

use serde_json::{Value, json};

use crate::{
    harness::{Place, read_until, spawn},
    model::{Model, finish, tool, write},
};

/// A task of two turns: the second heard a comment.
fn two_turns(place: &Place) -> Model {
    let heard = json!({ "when": "say three", "tools": write("three\n")["tools"] });
    let model = Model::say(place, &json!([write("two\n"), finish(), heard, finish(), finish()]));
    model.run(place, &["--check", "true", "--wait"]).ok();
    place.on(&["comment", "1", "say three"]).ok();
    reviewed(place, "1", 2);
    model
}

/// Waits until its checks were green so often.
fn reviewed(place: &Place, id: &str, times: u32) {
    let (mut logs, mut out) = spawn(&mut place.command(&["logs", id, "-f"]));
    for _ in 0..times {
        read_until(&mut out, "checks: green");
    }
    logs.kill().unwrap();
    logs.wait().unwrap();
}

#[test]
fn a_task_is_replayed_without_its_model() {
    let place = Place::new();
    let model = two_turns(&place);
    let asked = model.requests().len();
    let ran = place.on(&["replay", "1", "--json"]);
    let replay: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!((&replay["calls"], &replay["identical"]), (&json!(4), &json!(4)), "{replay:#}");
    assert_eq!((&replay["first_difference"], ran.code), (&Value::Null, Some(0)), "{replay:#}");
    let turns = replay["turns"].as_array().unwrap();
    assert!(turns.len() == 2 && turns.iter().all(|turn| turn["differing_paths"] == json!([])), "{replay:#}");
    assert_eq!(model.requests().len(), asked, "the model was asked nothing");
    assert!(place.on(&["replay", "1"]).ok().contains("4 identical"));

    let unknown = place.on(&["replay", "1", "--attempt", "7"]).refused();
    assert!(unknown.contains('7'), "{unknown}");
    let id = place.run_shell("echo x >>file.txt", &["--check", "true"]);
    let nothing = place.on(&["replay", &id]).refused();
    assert!(nothing.contains("record"), "{nothing}");

    // Once the record has expired there is nothing to replay; whether it has shows at each start.
    place.on(&["daemon", "stop"]).ok();
    place.configure("[records]\nkeep = \"1s\"\n");
    let gone = loop {
        let ran = place.on(&["replay", "1"]);
        if ran.code == Some(1) {
            break ran.stderr;
        }
        place.on(&["daemon", "stop"]).ok();
    };
    assert!(gone.contains("record"), "{gone}");
}

#[test]
fn a_fork_goes_on_from_a_turn() {
    let place = Place::new();
    two_turns(&place);
    let otherwise = json!({ "when": "Otherwise", "tools": write("four\n")["tools"] });
    let model = Model::say(&place, &json!([write("two\n"), finish(), otherwise, finish()]));
    assert_eq!(model.on(&place, &["fork", "1", "--at", "1", "-m", "Otherwise"]).ok(), "T-2\n");
    reviewed(&place, "2", 1);
    assert!(place.on(&["diff", "2"]).ok().contains("+four"));
    assert!(place.on(&["diff", "1"]).ok().contains("+three"), "the first task stays as it is");
    assert!(place.on(&["show", "2"]).ok().contains("from T-1, attempt 1, after turn 1"));
    let late = place.on(&["fork", "1", "--at", "9"]).refused();
    assert!(late.contains("no turn 9") && late.contains("it has 2"), "{late}");
}

#[test]
fn a_rewind_takes_a_turn_back() {
    let place = Place::new();
    two_turns(&place);
    assert!(place.on(&["diff", "1"]).ok().contains("+three"));
    place.on(&["rewind", "1", "--to", "1"]).ok();
    reviewed(&place, "1", 3);
    assert!(place.on(&["diff", "1"]).ok().contains("+two"));
    assert!(place.on(&["show", "1"]).ok().contains("taken back  turn 2"));
    let again = place.on(&["rewind", "1", "--to", "2"]).refused();
    assert!(again.contains("turn 2"), "{again}");
}

#[test]
fn a_plan_is_remarked_on_by_its_steps() {
    let place = Place::new();
    let plan = |summary: &str| tool("finish", &json!({ "summary": summary }));
    let mut better = plan("1. Write three.");
    better["when"] = json!("> step 2: Write two.");
    let model = Model::say(&place, &json!([plan("1. Look.\n2. Write two."), better, write("three\n"), finish()]));
    model.run(&place, &["--check", "true", "--plan", "--wait"]).ok();

    let unseen = place.on(&["plan", "1", "--comment", "5", "no"]).refused();
    assert!(unseen.contains("no step 5") && unseen.contains("1 to 2"), "{unseen}");
    let odd = place.on(&["plan", "1", "--comment", "two", "no"]).refused();
    assert!(odd.contains("number of a step"), "{odd}");
    assert!(place.on(&["plan", "1", "--approve"]).refused().contains("overnight plan T-1"));
    assert!(place.on(&["plan", "1"]).ok().contains("2. Write two."));
    place.on(&["plan", "1", "--comment", "2", "three, not two"]).ok();

    let (mut logs, mut out) = spawn(&mut place.command(&["logs", "1", "-f"]));
    read_until(&mut out, "1. Write three.");
    logs.kill().unwrap();
    logs.wait().unwrap();
    let shown = loop {
        let ran = place.on(&["plan", "1"]);
        if ran.code == Some(0) {
            break ran.stdout;
        }
    };
    assert!(shown.contains("1. Write three."), "{shown}");
    place.on(&["plan", "1", "--approve"]).ok();
    reviewed(&place, "1", 1);
    assert!(place.on(&["diff", "1"]).ok().contains("+three"));
    let none = place.on(&["plan", "1"]).refused();
    assert!(none.contains("no plan of T-1"), "{none}");
}
