//! The rules on outcomes that are hard to come by, and what must hold for all.

use proptest::prelude::*;

use super::*;
use crate::parse::parse;

fn outcome(end: CheckEnd, text: &str) -> Outcome {
    Outcome { end, report: parse(text, &[]), absent: None, complaint: String::new(), unready: vec![] }
}

const CARGO: &str = include_str!("../../tests/fixtures/cargo-no-fail-fast.txt");
const STOPPED: &str = include_str!("../../tests/fixtures/cargo-fail-fast.txt");
const BUILD: &str = include_str!("../../tests/fixtures/cargo-compile-error.txt");
const CRASH: &str = include_str!("../../tests/fixtures/cargo-abort.txt");

#[test]
fn the_same_report_on_both_is_green() {
    for text in [CARGO, STOPPED] {
        let compared = compare(&outcome(CheckEnd::Exited(101), text), &outcome(CheckEnd::Exited(101), text));
        assert_eq!((compared.verdict, compared.missing.len()), (Verdict::Green, 0), "{}", compared.reason);
    }
}

#[test]
fn a_build_error_is_not_a_heap_of_missing_tests() {
    let base = outcome(CheckEnd::Exited(0), include_str!("../../tests/fixtures/cargo-green.txt"));
    let compared = compare(&outcome(CheckEnd::Exited(101), BUILD), &base);
    assert_eq!((compared.verdict, compared.missing), (Verdict::Red, vec![]));
    assert_eq!(compared.reason, "exit code 101; the base passes");
}

#[test]
fn a_run_that_stopped_at_a_new_failure_misses_nothing() {
    let green =
        CARGO.replace("adds_wrongly ... FAILED", "adds_wrongly ... ok").replace("    tests::adds_wrongly\n", "");
    let base = outcome(CheckEnd::Exited(101), &green.replacen("2 passed; 4 failed", "3 passed; 3 failed", 1));
    let compared = compare(&outcome(CheckEnd::Exited(101), STOPPED), &base);
    assert_eq!((compared.new_failures, compared.missing), (vec!["sample tests::adds_wrongly".to_owned()], vec![]));
    assert_eq!(compared.reason, "1 failure that the base does not have");
}

#[test]
fn a_crash_explains_nothing() {
    let known = outcome(CheckEnd::Exited(101), CARGO);
    for text in [CRASH.to_owned(), format!("{STOPPED}\n{CRASH}"), format!("{CARGO}\n{BUILD}")] {
        let compared = compare(&outcome(CheckEnd::Exited(101), &text), &known);
        assert_ne!(compared.verdict, Verdict::Green, "{}", compared.reason);
    }
}

#[test]
fn a_new_failure_of_a_name_that_fails_already_is_seen() {
    let tests = |bad: usize| {
        format!("TAP version 13\n{}1..2\n", ["ok 1 - a\n", "ok 2 - a\n"].concat().replacen("ok", "not ok", bad))
    };
    let compared = compare(&outcome(CheckEnd::Exited(1), &tests(2)), &outcome(CheckEnd::Exited(1), &tests(1)));
    assert_eq!((compared.verdict, compared.new_failures), (Verdict::Red, vec!["a".to_owned()]));
}

#[test]
fn failures_that_are_only_counted_are_not_known() {
    let counts = "3 failed, 2 passed in 0.10s\n";
    let compared = compare(&outcome(CheckEnd::Exited(1), counts), &outcome(CheckEnd::Exited(1), counts));
    assert_eq!(compared.verdict, Verdict::Inconclusive);
    let lies = compare(&outcome(CheckEnd::Exited(0), counts), &outcome(CheckEnd::Exited(0), "5 passed in 0.10s\n"));
    assert_eq!(lies.verdict, Verdict::Red);
}

#[test]
fn what_a_stopped_base_did_not_reach_is_told_as_doubtful() {
    let compared = compare(&outcome(CheckEnd::Exited(101), CARGO), &outcome(CheckEnd::Exited(101), STOPPED));
    assert_eq!(compared.verdict, Verdict::Red);
    assert!(compared.reason.contains("the base stopped early"), "{}", compared.reason);
}

#[test]
fn go_names_what_is_fixed_though_it_names_no_pass() {
    let failing = "--- FAIL: TestA (0.00s)\n    a_test.go:3: no\nFAIL\nFAIL\texample.com/a\t0.003s\nFAIL\n";
    let passing = "ok  \texample.com/a\t0.003s\n";
    let compared = compare(&outcome(CheckEnd::Exited(0), passing), &outcome(CheckEnd::Exited(1), failing));
    assert_eq!((compared.verdict, compared.fixed), (Verdict::Green, vec!["example.com/a TestA".to_owned()]));
    let gone = compare(&outcome(CheckEnd::Exited(0), ""), &outcome(CheckEnd::Exited(0), passing));
    assert_eq!((gone.verdict, gone.missing), (Verdict::Red, vec!["example.com/a".to_owned()]));
}

fn any_end() -> impl Strategy<Value = CheckEnd> {
    prop_oneof![
        (0..4).prop_map(CheckEnd::Exited),
        Just(CheckEnd::Signaled(9)),
        Just(CheckEnd::TimedOut),
        Just(CheckEnd::NotStarted),
    ]
}

/// Lines that reports are made of, and others.
fn any_output() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just("TAP version 13".to_owned()),
        (1..4_u8, any::<bool>(), 0..3_u8)
            .prop_map(|(n, bad, name)| format!("{}ok {n} - t{name}", if bad { "not " } else { "" })),
        (1..4_u8).prop_map(|n| format!("1..{n}")),
        Just("running 2 tests".to_owned()),
        Just("test a ... FAILED".to_owned()),
        Just("test b ... ok".to_owned()),
        Just(
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.06s"
                .to_owned()
        ),
        Just("FAILED x.py::a - no".to_owned()),
        Just("=== short test summary info ===".to_owned()),
        Just("1 failed, 2 passed in 0.10s".to_owned()),
        Just("error: something broke".to_owned()),
        "[ -~]{0,20}",
    ];
    proptest::collection::vec(line, 0..14).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever was printed: a red exit is green only beside a base that exits the same way and names every failing test.
    #[test]
    fn no_output_turns_red_into_green(head_end in any_end(), base_end in any_end(), head in any_output(), base in any_output()) {
        let (head, base) = (outcome(head_end, &head), outcome(base_end, &base));
        let compared = compare(&head, &base);
        if compared.verdict == Verdict::Green && head_end != CheckEnd::Exited(0) {
            prop_assert_eq!(head_end, base_end);
            prop_assert!(matches!(head_end, CheckEnd::Exited(_)));
            prop_assert!(!compared.known_failures.is_empty());
            for name in head.report.failed_names() {
                prop_assert!(base.report.tests[name].failed >= head.report.tests[name].failed);
            }
        }
        if compared.verdict == Verdict::Green {
            prop_assert!(compared.new_failures.is_empty() && compared.missing.is_empty());
        }
        prop_assert!(!compared.reason.is_empty());
    }
}
