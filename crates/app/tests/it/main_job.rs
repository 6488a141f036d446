//! From a sentence to a landed change, and to none.

use std::fs;

use crate::harness::Place;

const APPEND: &str = "echo two >> file.txt";

#[test]
fn a_green_change_waits_and_lands_when_approved() {
    let place = Place::new();
    let base = place.git(&["rev-parse", "HEAD"]);
    let ran =
        place.on(&["run", "Add a second line", "--check", "grep -q two file.txt", "--wait", "--", "sh", "-c", APPEND]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("T-1\n"), "the id comes first: {}", ran.stdout);
    assert!(ran.stdout.contains("review · green"), "{}", ran.stdout);
    assert_eq!(place.git(&["rev-parse", "HEAD"]), base, "nothing lands by itself");

    assert!(place.on(&["inbox"]).ok().contains("overnight approve T-1"));
    assert!(place.on(&["diff", "1"]).ok().contains("\n+two\n"));
    let blame = place.on(&["blame", "1", "file.txt"]).ok();
    assert_eq!(blame, format!("{}  1  one\nT-1         2  two\n", &base[..10]));
    assert!(place.on(&["blame", "1", "none.txt"]).refused().contains("no regular file"));
    assert!(place.on(&["approve", "T-1"]).ok().contains("landed on main"));

    assert_eq!(place.read("file.txt"), "one\ntwo\n", "the clean work tree follows its branch");
    assert_eq!(place.git(&["rev-list", "--count", &format!("{base}..main")]), "1");
    assert_eq!(place.git(&["log", "-1", "--format=%s"]), "Add a second line");
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    assert_eq!(place.traces(), "");
    assert_eq!(place.show("T-1")["outcome"]["kind"], "landed");

    let again = place.on(&["approve", "T-1", "--head", &place.git(&["rev-parse", "main"])]);
    assert!(again.refused().contains("it has ended"));
    assert_eq!(place.git(&["rev-list", "--count", &format!("{base}..main")]), "1", "once is once");
}

#[test]
fn a_rejected_change_leaves_nothing_and_can_be_restored() {
    let place = Place::new();
    let id = place.run_shell(APPEND, &["--check", "true"]);
    place.on(&["pull", &id]).ok();
    place.git(&["switch", "-q", "main"]);
    assert!(place.traces().contains("overnight/T-1"));

    assert!(place.on(&["reject", &id, "--why", "wrong place"]).ok().contains("rejected by"));
    assert_eq!(place.traces(), "");
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    let task = place.show(&id);
    assert_eq!(task["outcome"]["why"], "wrong place");

    place.on(&["restore", &id]).ok();
    assert!(place.on(&["diff", &id]).ok().contains("+two"));
    assert!(place.on(&["approve", &id]).ok().contains("landed"));
}

#[test]
fn an_approval_is_for_what_was_seen() {
    let place = Place::new();
    let id = place.run_shell("date +%N >> file.txt", &["--check", "true"]);
    fs::remove_dir_all(place.home.join("seen")).unwrap();
    let unseen = place.on(&["approve", &id]).refused();
    assert!(unseen.contains("not seen") && unseen.contains("overnight diff"), "{unseen}");

    place.on(&["diff", &id]).ok();
}

#[test]
fn a_red_change_needs_its_risk_named() {
    let place = Place::new();
    let ran = place.on(&["run", "Break it", "--check", "! grep -q two file.txt", "--wait", "--", "sh", "-c", APPEND]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let refused = place.on(&["approve", "T-1"]).refused();
    assert!(refused.contains("--accept not-green"), "{refused}");
    assert!(place.on(&["approve", "T-1", "--accept", "not-green"]).ok().contains("landed on main"));
}

#[test]
fn the_work_tree_as_it_is_can_be_handed_over() {
    let place = Place::new();
    place.write("file.txt", "one\nmine\n");
    let id = place.run_shell(APPEND, &["--check", "grep -q mine file.txt", "--wip"]);
    assert!(place.on(&["diff", &id]).ok().contains(" mine\n+two\n"));
    assert_eq!(place.read("file.txt"), "one\nmine\n");
    assert_eq!(place.git(&["status", "--porcelain"]), " M file.txt");
}

#[test]
fn a_dirty_work_tree_is_left_alone() {
    let place = Place::new();
    let id = place.run_shell(APPEND, &["--check", "true"]);
    place.write("file.txt", "mine\n");
    let landed = place.on(&["approve", &id]).ok();
    assert!(landed.contains("git merge overnight/T-1"), "{landed}");
    assert_eq!(place.read("file.txt"), "mine\n");
}
