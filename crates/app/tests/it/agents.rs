//! Agents, profiles and logins, as a person chooses among them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use serde_json::json;

use crate::{
    harness::Place,
    model::{Model, tool},
};

const GOOSE: &str = r#"
[agents]
directories = ["programs"]

[agents.goose]
kind = "acp"
argv = ["goose", "acp"]
install = "apt-get install goose"
clients = [{ protocol = "chat_completions", env = { OPENAI_HOST = "{url}" } }]
login = { files = [".goose/auth.json"], hosts = ["models.test"] }
remarks = ["It says nothing."]
"#;

/// A program that says nothing and ends.
fn install(home: &Path) {
    let bin = home.join("programs/bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("goose"), "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(bin.join("goose"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn the_list_says_who_is_here_and_what_is_missing() {
    let place = Place::new();
    place.configure(GOOSE);
    let text = place.on(&["agents"]).ok();
    let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{text}"));
    assert!(line("builtin").starts_with("ok ") && line("builtin").contains("built in"), "{text}");
    assert!(line("codex ").starts_with("-- ") && text.contains("npm install"), "{text}");
    assert!(line("goose").starts_with("-- ") && text.contains("apt-get install goose"), "{text}");

    let refused = place.on(&["run", "x", "--agent", "goose", "--model", "openai/x"]).refused();
    assert!(refused.contains("not installed") && refused.contains("apt-get install goose"), "{refused}");
    let refused = place.on(&["agents", "test", "goose"]).refused();
    assert!(refused.contains("apt-get install goose"), "{refused}");
    let refused = place.on(&["agents", "test", "nobody"]).refused();
    assert!(refused.contains("nobody") && refused.contains("builtin, "), "{refused}");
    assert!(place.on(&["doctor"]).stdout.contains("agents not here"));

    // Found as soon as it is there: no daemon has to be started anew.
    install(&place.home);
    let agents = place.on(&["agents", "--json"]).json();
    let goose = agents["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "goose").unwrap().clone();
    assert_eq!((&goose["missing"], &goose["driven"]), (&json!(null), &json!("acp")));
    assert!(place.on(&["agents"]).ok().contains("It says nothing."));
}

#[test]
fn a_test_reads_what_works_off_the_workspace_and_the_account() {
    let place = Place::new();
    let ran = place.on(&["agents", "test", "builtin", "--json"]);
    let trial: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
    let facts = trial["facts"].as_array().unwrap();
    let names: Vec<_> = facts.iter().map(|fact| fact["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["works with its own tools", "hears a comment", "is metered", "holds no key"]);
    assert!(facts.iter().all(|fact| fact["ok"] == true), "{trial:#}");
    assert_eq!((&trial["ok"], &trial["kept"], ran.code), (&json!(true), &json!(null), Some(0)));
    assert!(!place.home.exists(), "it has a home of its own");

    place.configure(GOOSE);
    install(&place.home);
    let ran = place.on(&["agents", "test", "goose"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("!!  works with its own tools") && ran.stdout.contains("It is kept"), "{ran:?}");
    let kept = ran.stdout.split("OVERNIGHT_HOME=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    fs::remove_dir_all(Path::new(kept).parent().unwrap()).unwrap();
    let refused = place.on(&["agents", "test", "command"]).refused();
    assert!(refused.contains("calls no model"), "{refused}");
}

#[test]
fn a_login_is_lent_where_it_may_be_and_told_of() {
    let place = Place::new();
    place.configure(GOOSE);
    install(&place.home);
    let run = ["run", "Do it", "--agent", "goose", "--login", "own", "--check", "true"];
    let refused = place.on(&run).refused();
    assert!(refused.contains("~/.goose/auth.json") && refused.contains("log in"), "{refused}");

    let login = place.directory.path().join("user/.goose/auth.json");
    fs::create_dir(login.parent().unwrap()).unwrap();
    fs::write(&login, "{\"token\": \"sk-mine-8d2\"}").unwrap();
    let unmetered = place.on(&[&run[..], &["--budget", "2usd"]].concat()).refused();
    assert!(unmetered.contains("cannot be metered") && unmetered.contains("rounds"), "{unmetered}");
    place.on(&run).ok();
    assert!(place.on(&["list"]).ok().contains("[holds a key] Do it"));
    assert!(place.on(&["show", "1"]).ok().contains("holds a key"));
    for arguments in [&["show", "1", "--json"][..], &["logs", "1"], &["export", "1"]] {
        assert!(!place.on(arguments).ok().contains("sk-mine-8d2"));
    }
    place.on(&["cancel", "1"]).ok();
    assert!(place.on(&["retry", "1"]).ok().contains("T-2"), "a new task is lent it again");
    let nobodys = place.on(&["run", "x", "--login", "own"]).refused();
    assert!(nobodys.contains("whose login"), "{nobodys}");
    let none = place.on(&["run", "x", "--login", "own", "--agent", "builtin"]).refused();
    assert!(none.contains("no login of its own"), "{none}");

    place.on(&["daemon", "stop"]).ok();
    place.configure(&GOOSE.replace("[agents]\n", "[agents]\nown_logins = false\n"));
    let forbidden = place.on(&run).refused();
    assert!(forbidden.contains("lends no logins") && forbidden.contains("own_logins"), "{forbidden}");
}

#[test]
fn a_configuration_that_cannot_be_stops_the_daemon_with_its_line() {
    let place = Place::new();
    for (text, wanted) in [
        ("[agents.goose]\nkind = \"acpx\"\n", "`kind` must be"),
        ("[models.big]\nprovider = \"nowhere\"\n", "there is no provider `nowhere`"),
        ("[stalls]\nrepeats = 1\n", "`repeats` of [stalls] is 1"),
        ("[[budgets]]\nname = \"day\"\nlimit = \"30rounds\"\n", "money and tokens only"),
    ] {
        place.configure(text);
        let refused = place.on(&["list"]).refused();
        assert!(refused.contains(wanted) && refused.contains("config.toml"), "{text}: {refused}");
    }
}

#[test]
fn profiles_are_those_of_the_base_the_configuration_and_the_ready_made() {
    let place = Place::new();
    place.configure("[profiles.night-watch]\ndescription = \"Watches at night\"\nread_only = true\n");
    let own =
        |name: &str| format!("---\nname: {name}\ndescription: Speaks of it\n---\nYou are the speaker of files.\n");
    place.write(".claude/agents/speaker.md", &own("speaker"));
    place.commit("A profile");
    let text = place.on(&["profiles"]).ok();
    for wanted in ["speaker", ".claude/agents/speaker.md", "night-watch", "reads only", "code-reviewer", "ready-made"] {
        assert!(text.contains(wanted), "`{wanted}` is missing:\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");

    let model = Model::say(&place, &json!([tool("finish", &json!({ "summary": "It says one." }))]));
    model.run(&place, &["--profile", "speaker", "--report", "--wait"]).ok();
    assert!(place.on(&["show", "1"]).ok().contains("profile     speaker"));
    assert!(place.on(&["export", "1"]).ok().contains("speaker of files"), "what it said is kept with the task");

    place.write(".github/agents/speaker.md", &own("speaker"));
    place.commit("The same again");
    let twice = model.run(&place, &["--profile", "speaker"]).refused();
    assert!(twice.contains(".claude/agents/speaker.md") && twice.contains(".github/agents/speaker.md"), "{twice}");
}
