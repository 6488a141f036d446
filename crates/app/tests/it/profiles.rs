//! The ready-made profiles at work, what a monitor tells at once, and a plan that a second model criticises.

use serde_json::json;

use crate::{
    harness::Place,
    model::{Model, finish, tool, write},
};

#[test]
fn every_ready_made_profile_does_its_work() {
    let place = Place::new();
    for name in ["implementer", "test-runner", "dependency-updater", "docs-writer"] {
        let model = Model::say(&place, &json!([write(&format!("{name}\n")), finish()]));
        model.run(&place, &["--profile", name, "--check", "true", "--wait"]).ok();
        let id = &place.on(&["list", "--json"]).json()["tasks"][0]["id"].as_str().unwrap().to_owned();
        assert!(place.on(&["diff", id]).ok().contains(&format!("+{name}")));
    }
    for name in ["code-reviewer", "security-auditor", "bug-triager", "monitor"] {
        // The tool is not there for it, and what it does by a shell goes no further.
        let told = json!({ "when": "There is no tool `write`",
            "tools": tool("shell", &json!({ "command": "echo by-shell >>file.txt" }))["tools"] });
        let found = tool("finish", &json!({ "summary": format!("{name}: all is well") }));
        let model = Model::say(&place, &json!([write("by-tool\n"), told, found]));
        let ran = model.run(&place, &["--profile", name, "--wait"]);
        assert_eq!(ran.code, Some(0), "{name}: {ran:?}");
        let id = &place.on(&["list", "--json"]).json()["tasks"][0]["id"].as_str().unwrap().to_owned();
        let shown = place.on(&["show", id]).ok();
        assert!(shown.contains(&format!("{name}: all is well")), "{shown}");
        assert_eq!(place.git(&["status", "--porcelain"]), "");
    }
}

#[test]
fn a_monitor_tells_at_once_what_passes_its_filter() {
    let place = Place::new();
    let look =
        |words: &str| json!({ "text": words, "tools": tool("shell", &json!({ "command": "echo fine" }))["tools"] });
    let mut replies = vec![look("I begin.\nALERT the deploy is red\nNothing else.")];
    replies.extend((0..14).map(|_| look("The same as before.")));
    replies.push(tool("finish", &json!({ "summary": "It was red once." })));
    let model = Model::say(&place, &json!(replies));
    model.run(&place, &["--profile", "monitor", "--wait"]).ok();
    let logs = place.on(&["logs", "1"]).ok();
    assert!(
        logs.lines().any(|line| line.trim_end().ends_with("the deploy is red") && !line.contains("ALERT")),
        "{logs}"
    );
    assert_eq!(model.requests().len(), 16, "to see the same again and again is its work");
}

#[test]
fn a_profile_bounds_the_rounds_of_a_turn_also_in_its_replay() {
    let place = Place::new();
    place.configure("[profiles.brief]\ndescription = \"Two rounds\"\nmax_rounds = 2\n");
    let model = Model::say(&place, &json!([write("two\n"), finish()]));
    model.run(&place, &["--profile", "brief", "--check", "true", "--wait"]).ok();
    let replay = place.on(&["replay", "1", "--json"]).json();
    assert_eq!((&replay["calls"], &replay["identical"]), (&json!(2), &json!(2)), "{replay:#}");
}

#[test]
fn a_second_model_criticises_a_plan_before_people_see_it() {
    let place = Place::new();
    let plan = tool("finish", &json!({ "summary": "1. Look.\n2. Write two." }));
    let model = Model::play(
        &place,
        &json!({ "conversations": [
            { "match": "What is wanted:", "replies": [{ "text": "Step 2 forgets the tests." }] },
            { "replies": [plan, write("two\n"), finish()] },
        ] }),
    );
    let ran = model.run(&place, &["--check", "true", "--plan", "--critic", "anthropic/scripted", "--wait"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let shown = place.on(&["plan", "1"]).ok();
    assert!(shown.contains("2. Write two.") && shown.contains("Step 2 forgets the tests."), "{shown}");
    assert!(shown.contains("Criticism by anthropic/scripted"), "{shown}");
}
