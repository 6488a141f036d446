//! What is told, and how briefly.

use domain::check::CheckSpec;

use super::*;
use crate::parse::parse;

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
