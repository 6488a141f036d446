//! The demo, as a new user meets it, and the commands it prints.

use std::{fs, path::Path, process::Command};

use crate::harness::Place;

#[test]
fn the_demo_goes_from_a_wrong_fix_to_a_change_that_lands() {
    let place = Place::new();
    let tmp = place.directory.path().to_str().unwrap();
    let output = place.command(&["demo"]).env("TMPDIR", tmp).env_remove("OVERNIGHT_HOME").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let (red, green) = (said.find("checks: red").unwrap(), said.find("checks: green").unwrap());
    assert!(red < green && said.contains("a script"), "{said}");
    assert!(!place.home.exists(), "the demo has a home of its own");

    let commands: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("  OVERNIGHT_HOME=")).collect();
    let shell = |line: &str| {
        let output = Command::new("sh").arg("-c").arg(format!("OVERNIGHT_HOME={line}")).env_clear().output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let run = |word: &str| shell(commands.iter().find(|line| line.contains(word)).unwrap());
    assert!(run(" diff ").contains("-k 2,2n"));
    assert!(run(" show ").contains("sh test.sh"));
    assert!(run(" approve ").contains("landed on main"));
    let stage = Path::new(commands[0].split(' ').next().unwrap()).parent().unwrap();
    assert!(fs::read_to_string(stage.join("vercmp/vercmp")).unwrap().contains("-k 2,2n"));
    let records = fs::read_to_string(stage.join("model.jsonl")).unwrap();
    assert_eq!(records.lines().count(), 5, "one request per reply: {records}");
    run(" daemon stop ");
    assert!(!stage.exists());
}
