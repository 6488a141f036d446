//! Repositories, checks and homes that are not as one would like them.

use std::{fs, os::unix::ffi::OsStrExt};

use crate::harness::Place;

#[test]
fn a_detached_head_ends_on_a_branch_of_its_own() {
    let place = Place::new();
    place.git(&["checkout", "-q", "--detach"]);
    let id = place.run_shell("echo two >> file.txt", &["--check", "true"]);
    let task = place.show(&id);
    assert!(task["target"].is_null());
    assert!(task["notes"].to_string().contains("detached"), "{}", task["notes"]);
    assert!(place.on(&["approve", &id]).ok().contains("overnight/T-1"));
    assert_eq!(place.git(&["show", "overnight/T-1:file.txt"]), "one\ntwo");
    assert_eq!(place.read("file.txt"), "one\n");
}

#[test]
fn an_empty_change_is_nothing_to_do() {
    let place = Place::new();
    let ran = place.on(&["run", "Change nothing", "--check", "true", "--wait", "--", "true"]);
    assert!(ran.ok().contains("nothing to do"));
    assert_eq!(place.traces(), "");
}

#[test]
fn without_a_check_a_person_decides_and_is_told() {
    let place = Place::new();
    let ran = place.on(&["run", "Unjudged", "--wait", "--", "sh", "-c", "echo two >> file.txt"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("inconclusive") && ran.stdout.contains("--accept not-green"), "{ran:?}");
    assert!(ran.stdout.contains("nothing proves this change") && ran.stdout.contains("--check"), "{ran:?}");
}

#[test]
fn a_check_that_does_not_exist_is_named() {
    let place = Place::new();
    let check = "no-such-program --all";
    let ran = place.on(&["run", "x", "--check", check, "--wait", "--", "sh", "-c", "echo two >> file.txt"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let show = place.on(&["show", "1"]).ok();
    assert!(show.contains("no-such-program") && show.contains("was not found"), "{show}");
}

#[test]
fn a_target_that_moved_is_checked_again_before_it_lands() {
    let place = Place::new();
    let id = place.run_shell("echo two > two.txt", &["--check", "test ! -e three.txt || test -e two.txt"]);
    place.write("three.txt", "three\n");
    place.commit("Meanwhile");
    place.on(&["diff", &id]).ok();
    assert!(place.on(&["approve", &id]).ok().contains("landed on main"));
    assert_eq!((place.read("two.txt"), place.read("three.txt")), ("two\n".to_owned(), "three\n".to_owned()));
    assert_eq!(place.git(&["rev-list", "--count", "main"]), "3");
}

#[test]
fn a_conflict_comes_back_to_its_person() {
    let place = Place::new();
    let id = place.run_shell("echo two > file.txt", &["--check", "true"]);
    place.write("file.txt", "three\n");
    place.commit("Meanwhile");
    place.on(&["diff", &id]).ok();
    let ran = place.on(&["approve", &id]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("file.txt"), "the path is named: {ran:?}");
    assert_eq!(place.read("file.txt"), "three\n");
}

#[test]
fn a_program_that_fails_is_run_once_and_its_work_is_kept() {
    let place = Place::new();
    let id = place.run_shell("echo two >> file.txt; echo no luck >&2; exit 3", &["--check", "true"]);
    let show = place.on(&["show", &id]).ok();
    assert!(show.contains("ended with exit code 3: no luck") && show.contains("1 turn,"), "{show}");
    assert!(place.on(&["diff", &id]).ok().ends_with("+two\n"));
}

#[test]
fn uncommitted_work_is_handed_over_and_its_change_is_pulled() {
    let place = Place::new();
    place.write("file.txt", "one\nmine\n");
    let id = place.run_shell("echo two >> file.txt", &["--wip", "--check", "true"]);
    place.on(&["diff", &id]).ok();
    let ran = place.on(&["approve", &id]);
    assert_eq!(ran.code, Some(1), "the target has no such line: {ran:?}");
    assert!(ran.stdout.contains("file.txt") && ran.stdout.contains("overnight pull T-1"), "{ran:?}");
    assert!(place.on(&["pull", &id]).ok().contains("overnight/T-1"));
    assert_eq!(place.git(&["show", "overnight/T-1:file.txt"]), "one\nmine\ntwo");
    assert_eq!(place.read("file.txt"), "one\nmine\n");
    place.commit("Mine");
    place.on(&["diff", &id]).ok();
    assert!(place.on(&["approve", &id]).ok().contains("landed on main"));
    assert_eq!(place.read("file.txt"), "one\nmine\ntwo\n");
}

#[test]
fn submodules_and_filters_are_left_as_they_are_stored() {
    let place = Place::new();
    let library = place.directory.path().join("library");
    place.git(&["clone", "-q", place.repository.to_str().unwrap(), library.to_str().unwrap()]);
    let add = ["-c", "protocol.file.allow=always", "submodule", "add", "-q", library.to_str().unwrap(), "library"];
    place.git(&add);
    place.write(".gitattributes", "*.bin filter=lfs -text\n*.crlf text eol=crlf\n");
    place.write("big.bin", "version https://git-lfs.github.com/spec/v1\n");
    place.write("lines.crlf", "one\r\n");
    place.commit("Odd");

    let line = r"grep -q git-lfs big.bin && printf 'two\r\n' >> lines.crlf && echo two >> file.txt";
    let ran = place.on(&["run", "x", "--check", "grep -q two lines.crlf", "--wait", "--", "sh", "-c", line]);
    assert!(ran.stderr.contains("Submodules are left") && ran.stderr.contains("LFS"), "{ran:?}");
    assert!(ran.ok().contains("review · green"));
    place.on(&["diff", "1"]).ok();
    place.on(&["approve", "1"]).ok();
    assert_eq!(place.read("lines.crlf"), "one\r\ntwo\r\n");
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    assert_eq!(place.git(&["show", "--stat", "--format=", "--name-only"]), "file.txt\nlines.crlf");
}

#[test]
fn nothing_untrusted_reaches_the_terminal_as_it_is() {
    let place = Place::new();
    let line = r"printf '\033[2Jgone \342\200\256desrever\007\n'; echo x > $(printf '\033[31mred')";
    let goal = "A \u{1b}[31mred\u{202e} goal";
    let ran = place.on(&["run", goal, "--check", "true", "--wait", "--", "sh", "-c", line]);
    let mut told = vec![format!("{}{}", ran.stdout, ran.stderr)];
    for arguments in [&["list"][..], &["inbox"], &["show", "1"], &["logs", "1"], &["diff", "1"], &["approve", "1"]] {
        let ran = place.on(arguments);
        told.push(format!("{}{}", ran.stdout, ran.stderr));
    }
    for text in told {
        let hostile = |char: char| char != '\n' && char != '\t' && (char.is_control() || char == '\u{202e}');
        assert!(!text.contains(hostile), "{text:?}");
    }
}

#[test]
fn names_that_are_not_utf8_survive() {
    let place = Place::new();
    let id = place.run_shell(r#"echo odd > "$(printf 'odd\377name')""#, &["--check", "true"]);
    place.on(&["diff", &id]).ok();
    place.on(&["approve", &id]).ok();
    let names = fs::read_dir(&place.repository).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().any(|name| name.as_bytes() == b"odd\xffname"));
}

#[test]
fn a_shallow_clone_works_and_says_what_it_is() {
    let place = Place::new();
    place.write("file.txt", "one\nmore\n");
    place.commit("Second");
    let clone = place.directory.path().join("clone");
    let from = format!("file://{}", place.repository.display());
    place.git(&["clone", "-q", "--depth", "1", &from, clone.to_str().unwrap()]);
    let ran = place.on_in(&clone, &["run", "x", "--check", "true", "--wait", "--", "sh", "-c", "echo two >> file.txt"]);
    assert!(ran.stderr.contains("shallow"), "{ran:?}");
    assert!(ran.ok().contains("review · green"));
}

#[test]
fn a_flood_of_output_is_cut_and_an_endless_program_is_stopped() {
    let place = Place::new();
    let id = place.run_shell("yes flood | head -c 3000000; echo two >> file.txt", &["--check", "true"]);
    assert!(place.on(&["logs", &id]).ok().len() < 200_000);

    let endless = ["run", "x", "--check", "true", "--timeout", "1s", "--wait", "--", "sleep", "1000"];
    let ran = place.on(&endless);
    assert_eq!(ran.code, Some(1), "{ran:?}");
}

#[test]
fn a_home_of_a_newer_version_is_left_alone() {
    let place = Place::new();
    place.on(&["list"]).ok();
    place.on(&["daemon", "stop"]).ok();
    let file = place.home.join("overnight.db");
    // The place of `user_version` in a SQLite file: four bytes, big-endian, at 60.
    let mut database = fs::read(&file).unwrap();
    database[60..64].copy_from_slice(&9999_u32.to_be_bytes());
    fs::write(&file, &database).unwrap();
    let said = place.on(&["list"]).refused();
    assert!(said.contains("9999") && said.contains("newer") && said.contains("hint: "), "{said}");
    assert_eq!(fs::read(&file).unwrap(), database);
}

#[test]
fn a_damaged_home_is_told() {
    let place = Place::new();
    place.on(&["list"]).ok();
    place.on(&["daemon", "stop"]).ok();
    fs::write(place.home.join("overnight.db"), vec![7; 8192]).unwrap();
    let said = place.on(&["list"]).refused();
    assert!(said.contains("overnight.db") && said.contains("hint: "), "{said}");
}
