//! What is told, and how briefly.

use domain::check::CheckSpec;

use super::*;
use crate::parse::{
    parse,
    tests::{damage::FIXTURES, read},
};

const CARGO: &str = include_str!("../../tests/fixtures/cargo-no-fail-fast.txt");

fn run(name: &str, verdict: Verdict, report: &Report) -> CheckRun {
    let new_failures: Vec<String> = report.failed_names().map(str::to_owned).collect();
    CheckRun {
        check: CheckSpec::from_command(name),
        verdict,
        end: CheckEnd::Exited(1),
        base_end: CheckEnd::Exited(0),
        duration_ms: 1,
        passed: 0,
        failed: 0,
        skipped: 0,
        fixed: vec![],
        new_failures,
        known_failures: vec![],
        missing: vec![],
        reason: "it fails".to_owned(),
        blocked: vec![],
        log: None,
    }
}

#[test]
fn failing_tests_stand_with_their_place_and_words() {
    let report = parse(CARGO, &[]);
    let run = run("cargo test", Verdict::Red, &report);
    let text = digest(Verdict::Red, &[Told { run: &run, report: &report, text: CARGO }], &Touched::default());
    let expected = "The checks are red.\n\nCheck `cargo test` is red: it fails.\n- sample tests::adds_wrongly\n  \
        src/lib.rs:29: assertion `left == right` failed: two and two\n      left: 4\n     right: 5\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(!text.contains("Its output"), "{text}");
}

#[test]
fn many_red_checks_share_the_page() {
    let report = parse(CARGO, &[]);
    let runs: Vec<CheckRun> = (0..9).map(|nth| run(&format!("check number {nth}"), Verdict::Red, &report)).collect();
    let told: Vec<Told<'_>> = runs.iter().map(|run| Told { run, report: &report, text: CARGO }).collect();
    let text = digest(Verdict::Red, &told, &Touched::default());
    assert!(text.len() <= 4096, "{}", text.len());
    for run in &runs {
        assert!(text.contains(&format!("Check `{}` is red", run.check.name)), "{text}");
    }
}

#[test]
fn no_name_or_path_is_too_long_for_it() {
    let long = "ü".repeat(40_000);
    let touched = Touched { outside_allowed: vec![long.clone(); 50], protected: vec![long.clone(); 50] };
    let report = parse(&format!("TAP version 13\nnot ok 1 - {long}\n1..1\n"), &[]);
    let run = run(&long, Verdict::Red, &report);
    let text = digest(Verdict::Red, &[Told { run: &run, report: &report, text: &long }], &touched);
    assert!(text.len() <= 4096 && text.contains("is red"), "{}", text.len());
}

#[test]
fn the_first_errors_of_a_linter_stand_with_their_place() {
    let line = |nth: usize| format!("src/a.py:{nth}: error: Name \"x{nth}\" is not defined  [name-defined]\n");
    let output: String = (1..=40).map(line).collect();
    let report = parse(&output, &[]);
    let run = run("mypy", Verdict::Red, &report);
    let text = digest(Verdict::Red, &[Told { run: &run, report: &report, text: &output }], &Touched::default());
    assert!(text.contains("- src/a.py:1: error: Name \"x1\" is not defined"), "{text}");
    assert!(text.contains("\nand 28 more in its output.\n") && text.len() <= 4096, "{text}");
}

#[test]
fn what_does_not_compile_stands_before_the_tests_that_fail() {
    let output = include_str!("../../tests/fixtures/go-plain.txt");
    let report = parse(output, &[]);
    let run = run("go test ./...", Verdict::Red, &report);
    let text = digest(Verdict::Red, &[Told { run: &run, report: &report, text: output }], &Touched::default());
    let (build, test) = (text.find("declared and not used: x"), text.find("TestAddsWrongly"));
    assert!(build.is_some() && build < test, "{text}");
}

#[test]
fn tests_that_fail_in_the_same_way_share_their_words() {
    let block =
        |nth: usize| format!("not ok {nth} - test {nth}\n  ---\n  error: 'no database'\n  at: db.js:3:1\n  ...\n");
    let output = format!("TAP version 13\n{}1..30\n", (1..=30).map(block).collect::<String>());
    let report = parse(&output, &[]);
    let run = run("tap", Verdict::Red, &report);
    let text = digest(Verdict::Red, &[Told { run: &run, report: &report, text: &output }], &Touched::default());
    assert_eq!(text.matches("no database").count(), 1, "{text}");
    assert!(text.contains("in the same way: test 2, test 3") && text.len() < 500, "{text}");
}

/// Prints the sizes: `cargo test -p checks --lib digests_of -- --nocapture`.
#[test]
fn digests_of_all_fixtures_fit_and_hold_the_first_cause() {
    println!("{:<36} {:>8} {:>7}", "fixture", "output", "digest");
    for (name, output) in FIXTURES.iter() {
        let report = read(name);
        let run = run("check", Verdict::Red, &report);
        let text = digest(Verdict::Red, &[Told { run: &run, report: &report, text: output }], &Touched::default());
        println!("{name:<36} {:>8} {:>7}", output.len(), text.len());
        assert!(text.len() <= MOST, "{name}: {}", text.len());
        let cause = report.located.iter().find(|located| located.test.is_none()).or_else(|| report.located.first());
        if let Some(words) = cause.and_then(|located| located.message.lines().find(|line| !line.trim().is_empty())) {
            assert!(text.contains(cut(words, 500)), "{name}: {words} in {text}");
        }
    }
}
