//! Small commands, and how answers look.

use crate::harness::Place;

#[test]
fn help_completions_and_manual_need_no_home() {
    let place = Place::new();
    for command in ["run", "inbox", "approve", "daemon"] {
        assert!(place.on(&[command, "--help"]).ok().contains("Examples:"));
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.on(&["completions", shell]).ok().contains("overnight"));
    }
    assert!(place.on(&["man"]).ok().contains(".TH overnight"));
    let pages = place.directory.path().join("man");
    place.on(&["man", "--dir", pages.to_str().unwrap()]).ok();
    assert!(pages.join("overnight-run.1").exists() && !pages.join("overnight-scripted-model.1").exists());
    assert!(!place.home.exists());
}

#[test]
fn every_answer_is_json_when_asked_for() {
    let place = Place::new();
    let id = place.run_shell("echo two >> file.txt", &["--check", "true"]);
    for arguments in [
        vec!["list"],
        vec!["inbox"],
        vec!["show", &id],
        vec!["diff", &id],
        vec!["blame", &id, "file.txt"],
        vec!["daemon", "status"],
        vec!["doctor"],
        vec!["key", "list"],
        vec!["agents"],
        vec!["models"],
        vec!["profiles"],
        vec!["budget"],
        vec!["comment", &id, "more"],
        vec!["cancel", &id],
    ] {
        place.on(&[arguments.as_slice(), &["--json"]].concat()).json();
    }
    let lines = |arguments: &[&str]| {
        let text = place.on(arguments).ok();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    assert!(lines(&["logs", &id, "--json"]).iter().all(|line| line["cursor"].is_string()));
    let export = lines(&["export", &id]);
    assert_eq!((&export[0]["kind"], &export.last().unwrap()["kind"]), (&"task".into(), &"end".into()));
}

#[test]
fn what_an_agent_prints_cannot_steer_a_terminal() {
    let place = Place::new();
    let id =
        place.run_shell(r"printf '\033[2J[RESULT] \033]0;mine\007done\n'; echo x >> file.txt", &["--check", "true"]);
    for command in ["show", "logs"] {
        let text = place.on(&[command, &id]).ok();
        assert!(!text.contains('\u{1b}') && !text.contains('\u{7}'), "{text:?}");
    }
}

#[test]
fn logs_are_filtered_and_followed_to_the_end() {
    let place = Place::new();
    let id = place.run_shell("echo x >> file.txt", &["--check", "true"]);
    let all = place.on(&["logs", &id]).ok();
    let some = place.on(&["logs", &id, "--filter", "^snapshot"]).ok();
    assert!(all.contains("checks: green") && !some.contains("checks: green") && some.contains("snapshot"), "{some}");
    place.on(&["approve", &id]).ok();
    assert!(place.on(&["logs", &id, "--follow"]).ok().contains("landed on main"));
}

#[test]
fn keys_are_kept_and_never_shown() {
    let place = Place::new();
    place.on_with_input(&["key", "set", "anthropic", "--base-url", "http://127.0.0.1:9"], "sk-very-secret\n").ok();
    let list = place.on(&["key", "list", "--json"]).ok();
    assert!(list.contains(r#""provider":"anthropic","api_key":"set","base_url":"set""#), "{list}");
    assert!(place.on(&["key", "list"]).ok().contains("nothing kept for openai"));
    assert!(!list.contains("very-secret"));
    assert!(place.on(&["key", "rm", "anthropic"]).ok().contains('–'));
    assert!(place.on(&["key", "set", "openai"]).refused().contains("no key"));
}
