//! Environments as a person meets them: built, seen, used by tasks, and told of when something is wrong.

use crate::harness::Place;

const INSTALLS: &str = "\
[environment]
install = \"mkdir -p deps && echo $TOKEN | wc -c > deps/length && echo token $TOKEN\"

[environment.secrets]
TOKEN = \"install\"

[checks]
fast = [\"grep -q 12 deps/length\"]
";

fn place(definition: &str) -> Place {
    let place = Place::new();
    place.write("overnight.toml", definition);
    place.write(".gitignore", "deps/\n");
    place.commit("Environment");
    place
}

#[test]
fn a_layer_is_built_with_its_secret_and_tasks_stand_on_it() {
    let place = place(INSTALLS);
    let shown = place.on(&["env", "show"]).ok();
    assert!(shown.contains("overnight.toml") && shown.contains("`overnight secret set TOKEN`"), "{shown}");
    assert!(shown.contains("`overnight env build`"), "{shown}");

    let kept = place.on_with_input(&["secret", "set", "TOKEN"], "sesame-open\n").ok();
    assert!(kept.contains("TOKEN (staging) kept"), "{kept}");
    assert_eq!(place.on(&["secret", "list"]).ok(), "TOKEN\n");

    let built = place.on(&["env", "build"]).ok();
    assert!(built.contains("installing: ") && built.contains("healthy"), "{built}");
    let log = place.on(&["env", "log"]).ok();
    assert!(log.contains("token ") && !log.contains("sesame"), "{log}");
    let again = place.on(&["env", "refresh", "--fresh", "--quiet"]).ok();
    assert!(again.contains("healthy") && !again.contains("installing"), "{again}");
    assert!(place.on(&["env", "check"]).ok().contains("healthy"));
    assert_eq!(place.on(&["env", "show", "--json"]).json()["layers"][0]["health"]["kind"], "healthy");

    // The check that nobody named on the command line is the definition's; the secret is gone from where tasks run.
    let id = place.run_shell("cp deps/length file.txt; env >> file.txt", &[]);
    let task = place.show(&id);
    assert_eq!((&task["verdict"], &task["environment"]["health"]["kind"]), (&"green".into(), &"healthy".into()));
    assert!(place.on(&["show", &id]).ok().contains("· healthy"));
    let everything = [place.on(&["diff", &id]).ok(), place.on(&["export", &id]).ok(), place.on(&["logs", &id]).ok()];
    assert!(everything[0].contains("+12"), "{everything:?}");
    assert!(everything.iter().all(|text| !text.contains("sesame")), "{everything:?}");

    place.on(&["secret", "rm", "TOKEN"]).ok();
    assert!(place.on(&["secret", "rm", "TOKEN"]).refused().contains("no staging secret TOKEN"));
    assert!(place.on(&["secret", "list"]).ok().contains("No staging secrets"));
    assert!(place.on(&["secret", "set", "TOKEN", "--stage", "production"]).refused().contains("no value"));
}

/// The example of docs/how-to/environments.md is read, whole.
#[test]
fn the_documented_definition_is_read() {
    let page = include_str!("../../../../docs/how-to/environments.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let place = place(example);
    let shown = place.on(&["env", "show", "--json"]).json();
    let definition = &shown["definition"];
    assert_eq!(definition["install"].as_array().unwrap().len(), 2);
    assert_eq!(definition["secrets"].as_array().unwrap().len(), 3);
    assert_eq!(
        (&definition["services"][1]["port"], &definition["resources"]["processor_percent"]),
        (&3000.into(), &200.into())
    );
    assert_eq!((&shown["checks"][1]["name"], &shown["checks"][2]["tier"]), (&"unit".into(), &"slow".into()));
    let text = place.on(&["env", "show"]).ok();
    assert!(text.contains("put on requests to maps.example.com as X-Api-Key"), "{text}");
}

#[test]
fn a_host_that_is_not_allowed_is_named_with_the_line_to_add() {
    let place = place(
        "[environment]\ninstall = \"/usr/bin/python3 -c 'import urllib.request as u; u.urlopen(\\\"http://pypi.example\\\")'\"\n",
    );
    let ran = place.on(&["env", "build"]);
    let said = ran.refused();
    let (_, log) = said.split_once("`overnight env log ").unwrap();
    assert!(place.on(&["env", "log", &log[..64]]).ok().contains("HTTP Error 403"), "{said}");
    assert!(said.contains("pypi.example") && said.contains("install_network = [\"pypi.example\"]"), "{said}");

    place.write("overnight.toml", "[environment]\ninstall = []\nnetwork = [\"crates\"]\n");
    place.commit("Install nothing");
    assert!(place.on(&["env", "show"]).ok().contains("none is needed"));
    let get =
        "/usr/bin/python3 -c 'import urllib.request as u; u.urlopen(\"http://pypi.example\")'; echo x >> file.txt";
    let id = place.run_shell(get, &["--check", "true"]);
    let shown = place.on(&["show", &id]).ok();
    assert!(shown.contains("blocked: pypi.example by `"), "{shown}");
    assert!(shown.contains("[environment]: network = [\"crates\", \"pypi.example\"]"), "it keeps the list: {shown}");
    assert!(place.on(&["logs", &id]).ok().contains("blocked: pypi.example"));
}

#[test]
fn an_unhealthy_environment_is_told_wherever_its_task_is() {
    let place = place("[environment]\ninstall = \"true\"\n[checks]\nfast = [\"test -e missing.txt\"]\n");
    let ran = place.on(&["env", "build"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("unhealthy"), "{ran:?}");
    let id = place.run_shell("touch missing.txt", &[]);
    for told in [place.on(&["inbox"]).ok(), place.on(&["show", &id]).ok()] {
        assert!(told.contains("its environment is unhealthy"), "{told}");
    }
}

#[test]
fn a_base_owes_nothing_to_the_checks_of_one_task() {
    let place = place("[environment]\ninstall = \"true\"\n");
    let id = place.run_shell("touch new.txt", &["--check", "test -e new.txt"]);
    let task = place.show(&id);
    assert_eq!((&task["verdict"], &task["environment"]["health"]["kind"]), (&"green".into(), &"unknown".into()));
    assert!(task["progress"].is_null(), "that of the preparation is over: {task}");
}

#[test]
fn what_was_found_is_told_before_it_is_first_used() {
    let place = Place::new();
    let detect = "{\"name\": \"x\", \"version\": \"1.0.0\", \"scripts\": {\"test\": \"true\"}}\n";
    place.write("package.json", detect);
    place.write("package-lock.json", "{\"name\": \"x\", \"lockfileVersion\": 3, \"packages\": {}}\n");
    place.commit("Packages");
    let ran = place.on(&["run", "x", "--check", "true", "--", "true"]);
    assert!(ran.stderr.contains("found package-lock.json") && ran.stderr.contains("overnight env build"), "{ran:?}");
    place.on(&["cancel", "1"]);

    place.write("overnight.toml", "[environment]\nnetwrok = []\n");
    place.commit("A slip");
    let shown = place.on(&["env", "show"]).refused();
    assert!(shown.contains("overnight.toml") && shown.contains("netwrok"), "{shown}");
}
