//! What people get wrong and what is wrong with their machines: an error that says what, where and what to do, and nothing lost.

use std::fs;

use crate::harness::{Place, Ran};

/// The program, refusing with each of these words.
#[track_caller]
fn refuses(ran: Ran, words: &[&str]) {
    let said = ran.refused();
    for word in words {
        assert!(said.contains(word), "`{word}` is missing in: {said}");
    }
    assert!(said.contains("hint: "), "it does not say what to do: {said}");
}

#[test]
fn of_the_repository() {
    let place = Place::new();
    let elsewhere = place.directory.path().join("user");
    let shell = ["run", "x", "--", "true"];
    refuses(place.on_in(&elsewhere, &shell), &["user", "not in a git repository", "git init"]);

    let empty = place.directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    place.git_in(&empty, &["init", "-q"]);
    refuses(place.on_in(&empty, &shell), &["commit"]);

    refuses(place.on(&["run", "x", "--base", "nowhere", "--", "true"]), &["nowhere"]);
    refuses(place.on(&["run", "x", "--into", "no-branch", "--", "true"]), &["no-branch"]);
    assert_eq!(place.on(&["list", "--json"]).json()["tasks"].as_array().unwrap().len(), 0, "nothing was started");
}

#[test]
fn of_the_brief() {
    let place = Place::new();
    refuses(place.on(&["run", "x", "--agent", "nobody"]), &["nobody", "builtin"]);
    refuses(place.on(&["run", "x", "--agent", "command"]), &["--"]);
    refuses(place.on(&["run", "x", "--profile", "painter", "--", "true"]), &["painter", "profiles here"]);
    refuses(place.on(&["run", "x", "--fallback", ":", "--", "true"]), &["neither an agent nor a model", "agent:model"]);
    refuses(place.on(&["run", "x", "--fallback", "nobody", "--", "true"]), &["nobody", "builtin"]);
    refuses(place.on(&["run", "x", "--critic", "big", "--", "true"]), &["critic", "--plan"]);
    refuses(place.on(&["run", " ", "--", "true"]), &["goal"]);
    refuses(place.on(&["run", "--brief", "missing.md"]), &["missing.md"]);

    refuses(place.on(&["run", "x", "--allow", "../src", "--", "true"]), &["../src", "leaves the repository"]);
    refuses(place.on(&["run", "x", "--protect", "[z-a]", "--", "true"]), &["[z-a]", "matches nothing"]);
    fs::write(place.repository.join("brief.md"), [0xff, 0xfe]).unwrap();
    refuses(place.on(&["run", "--brief", "brief.md", "--", "true"]), &["brief.md", "UTF-8"]);

    place.write("brief.md", "+++\nbudgte = \"2usd\"\n+++\n# Do it\n");
    refuses(place.on(&["run", "--brief", "brief.md", "--", "true"]), &["brief.md", "line 2", "budgte", "budget"]);
    refuses(
        place.on_with_input(&["run", "--brief", "-", "--", "true"], "+++\nattempts = \"many\"\n+++\n# x\n"),
        &["line 2"],
    );
}

#[test]
fn of_the_command_line() {
    let place = Place::new();
    let wrong: [&[&str]; 8] = [
        &["run"],
        &["run", "x", "--budget", "much"],
        &["run", "x", "--timeout", "soon"],
        &["run", "x", "--land", "somehow"],
        &["show", "T-0"],
        &["show", "twelve"],
        &["approve", "1", "--accept", "everything"],
        &["logs", "1", "--filter", "("],
    ];
    for arguments in wrong {
        let ran = place.on(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains("error: "), "{ran:?}");
        let json: serde_json::Value =
            serde_json::from_str(&place.on(&[&["--json"], arguments].concat()).stderr).unwrap_or_default();
        assert_eq!(json["error"]["class"], "input", "{arguments:?}: {json}");
    }
    assert!(!place.home.exists(), "no daemon was bothered");
}

#[test]
fn of_the_task() {
    let place = Place::new();
    let about_nothing: [&[&str]; 8] = [
        &["show", "T-99"],
        &["logs", "99"],
        &["diff", "99"],
        &["pull", "99"],
        &["comment", "99", "hello"],
        &["approve", "99"],
        &["reject", "99"],
        &["export", "99"],
    ];
    for arguments in about_nothing {
        refuses(place.on(arguments), &["T-99", "overnight list"]);
    }
    let error = place.on(&["show", "99", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!(error["error"]["class"], "not_found");

    let id = place.run_shell("echo x >> file.txt", &["--check", "true"]);
    refuses(place.on(&["answer", &id, "yes"]), &["T-1 has no question open"]);
    refuses(place.on(&["restore", &id]), &["not ended"]);
    refuses(place.on(&["comment", &id, "  "]), &["empty"]);
    refuses(place.on(&["approve", &id, "--head", "0123456789"]), &["012345"]);
}

#[test]
fn of_a_report_that_is_taken_for_a_change() {
    let place = Place::new();
    place.on(&["run", "Say hello", "--report", "--wait", "--", "echo", "hello"]).ok();
    refuses(place.on(&["diff", "1"]), &["T-1 delivers a report"]);
    refuses(place.on(&["pull", "1"]), &["T-1 delivers a report"]);
    place.on(&["run", "Nothing", "--check", "true", "--wait", "--", "true"]).ok();
    refuses(place.on(&["diff", "2"]), &["T-2 has no change", "nothing to do"]);
}

#[test]
fn of_the_home() {
    let place = Place::new();
    fs::write(&place.home, "a file").unwrap();
    refuses(place.on(&["list"]), &["home"]);
    fs::remove_file(&place.home).unwrap();

    fs::create_dir(&place.home).unwrap();
    fs::write(place.home.join("something"), "").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&place.home, open).unwrap();
    refuses(place.on(&["list"]), &["other users", "chmod 700"]);
}
