//! Reports that were cut, shuffled, mixed or hit by a stray byte: read without a panic, and never turned from red into green.

use std::sync::LazyLock;

use domain::check::{CheckEnd, Verdict};
use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{run::Outcome, verdict::compare};

/// Every fixture by its name.
pub(crate) static FIXTURES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let entries = directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), fixture(&name))).collect()
});

fn read_as(name: &str, text: String) -> Report {
    if name.ends_with(".txt") { parse(&text, &[]) } else { parse("", &[text]) }
}

fn outcome(end: CheckEnd, report: Report) -> Outcome {
    Outcome { end, report, absent: None, complaint: String::new(), unready: Vec::new() }
}

/// The bases on which this report is red: one on which all is well, and for each failing test one that fails the same but
/// for that test, which passes there.
fn bases(report: &Report) -> Vec<Outcome> {
    let failing: Vec<&str> = report.failed_names().collect();
    let well = |names: &[&str], end: CheckEnd| {
        let mut base = report.clone();
        for name in names {
            let pass = Tally { passed: 1, ..Tally::default() };
            match report.passes {
                Passes::Named => drop(base.tests.insert((*name).to_owned(), pass)),
                Passes::Counted | Passes::Untold => {
                    base.tests.remove(*name);
                    base.unnamed.add(pass);
                }
            }
        }
        outcome(end, base)
    };
    let all = well(&failing, CheckEnd::Exited(0));
    failing.iter().map(|name| well(&[name], CheckEnd::Exited(1))).chain([all]).collect()
}

/// Whatever became of a red report: while the command fails, nothing makes it green.
fn stays_red(name: &str, damaged: String, bases: &[Outcome]) {
    let head = outcome(CheckEnd::Exited(1), read_as(name, damaged.clone()));
    for base in bases {
        let found = compare(&head, base);
        assert_ne!(found.verdict, Verdict::Green, "{name} against {base:#?}: {found:?}\n{damaged}");
    }
}

/// The reports with failing tests, and the bases on which they are red.
static RED: LazyLock<Vec<(&str, &str, Vec<Outcome>)>> = LazyLock::new(|| {
    let read = FIXTURES.iter().map(|(name, text)| (name, text, read_as(name, text.clone())));
    // Plain `go test` does not even count what passes, so that a lost line cannot be missed there.
    let told = read.filter(|(_, _, report)| report.passes != Passes::Untold);
    let with_bases = told.map(|(name, text, report)| (name.as_str(), text.as_str(), bases(&report)));
    with_bases.filter(|(_, _, bases)| bases.len() > 1).collect()
});

/// What would take hours if each line looked at all others.
#[test]
fn an_output_of_very_many_equal_lines_is_read() {
    let lines = [
        "{",
        "[",
        "<testsuite>",
        "[ RUN      ] A.b",
        "[  FAILED  ] A.b (0 ms)",
        "Test project x",
        "=== RUN   TestA",
        "--- FAIL: TestA (0.00s)",
        "FAIL\ta\t0.1s",
        "not ok 1 - a",
        "FAIL ./a.test.js",
        "PHPUnit 9.6.7 by Sebastian Bergmann and contributors.",
        "1) A::b",
        r#"{"Action":"output","Package":"a","Output":"=== RUN   TestA\n"}"#,
        r#"{ "type": "test", "event": "failed", "name": "a" }"#,
        "[ERROR] Tests run: 1, Failures: 1, Errors: 0, Skipped: 0, Time elapsed: 1 s <<< FAILURE!",
        "a.t (Wstat: 0 Tests: 1 Failed: 1)",
        "1 examples, 1 failures",
        "thread 'a' panicked at a.rs:1:1:",
        "a.py:1: error: no",
        "ValueError: no",
    ];
    for line in lines {
        let text = format!("{line}\n").repeat(30_000);
        assert!(parse(&text, &[]).located.len() <= LOCATED, "{line}");
    }
}

#[test]
fn a_red_report_stays_red_wherever_it_is_cut() {
    for (name, text, bases) in &*RED {
        stays_red(name, (*text).to_owned(), bases);
        for end in (0..text.len()).step_by(text.len().div_ceil(60)) {
            let end = text.floor_char_boundary(end);
            stays_red(name, text[..end].to_owned(), bases);
            stays_red(name, text[end..].to_owned(), bases);
        }
    }
}

proptest! {
    // A failing case stands in the output; it becomes a test of its own, not a file.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn a_red_report_stays_red_without_some_lines_and_with_others_moved(
        file in any::<Index>(), gone in any::<(Index, u8)>(), moved in proptest::collection::vec(any::<(Index, Index)>(), 0..6),
    ) {
        let (name, text, bases) = file.get(&RED);
        let mut lines: Vec<&str> = text.lines().collect();
        for (one, two) in &moved {
            let (one, two) = (one.index(lines.len()), two.index(lines.len()));
            lines.swap(one, two);
        }
        let from = gone.0.index(lines.len());
        lines.drain(from..(from + usize::from(gone.1 % 32)).min(lines.len()));
        stays_red(name, lines.join("\n"), bases);
    }

    #[test]
    fn a_red_report_stays_red_with_some_bytes_changed(
        file in any::<Index>(), hits in proptest::collection::vec(any::<(Index, u8)>(), 1..12),
    ) {
        let (name, text, bases) = file.get(&RED);
        let mut bytes = text.as_bytes().to_vec();
        for (at, byte) in &hits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        stays_red(name, readable(&bytes, None, None), bases);
    }

    #[test]
    fn a_red_report_stays_red_up_to_any_byte_and_with_one_flipped(
        file in any::<Index>(), end in any::<Index>(), at in any::<Index>(), bit in 0_u8..8,
    ) {
        let (name, text, bases) = file.get(&RED);
        stays_red(name, text[..text.floor_char_boundary(end.index(text.len()))].to_owned(), bases);
        let mut bytes = text.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        stays_red(name, readable(&bytes, None, None), bases);
    }

    /// Two programs that write to one terminal at the same time, by lines.
    #[test]
    fn two_red_reports_at_once_stay_red(one in any::<Index>(), two in any::<Index>(), turns in any::<u64>()) {
        let ((first, one, _), (second, two, _)) = (one.get(&RED), two.get(&RED));
        if first.ends_with(".txt") && second.ends_with(".txt") {
            let whole = parse(&format!("{one}\n{two}"), &[]);
            prop_assume!(whole.passes != Passes::Untold);
            let bases = bases(&whole);
            let (mut lines, mut others) = (one.lines(), two.lines());
            let mut mixed = String::new();
            let mut turn = turns;
            loop {
                turn = turn.rotate_left(1);
                let (now, then) = if turn & 1 == 0 { (&mut lines, &mut others) } else { (&mut others, &mut lines) };
                let Some(line) = now.next().or_else(|| then.next()) else { break };
                mixed.push_str(line);
                mixed.push('\n');
            }
            stays_red(&format!("{first} with {second}"), mixed, &bases);
        }
    }

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..4000)) {
        let text = readable(&bytes, Some(Path::new("/w")), Some(Path::new("/h")));
        let _ = parse(&text, std::slice::from_ref(&text));
    }

    /// Lines of real reports, shuffled, doubled, cut: nothing panics, and no report tells of more than it holds.
    #[test]
    fn any_lines_are_read(picks in proptest::collection::vec(any::<(Index, Index)>(), 0..150)) {
        let pick = |(file, line): &(Index, Index)| {
            let lines: Vec<&str> = file.get(&FIXTURES).1.lines().collect();
            if lines.is_empty() { "" } else { lines[line.index(lines.len())] }
        };
        let text = picks.iter().map(pick).collect::<Vec<_>>().join("\n");
        let report = parse(&text, std::slice::from_ref(&text));
        prop_assert!(report.located.len() <= LOCATED);
        prop_assert!(report.loose.len() <= LOOSE);
    }

    #[test]
    fn any_cut_of_a_report_is_read(file in any::<Index>(), from in any::<Index>(), to in any::<Index>()) {
        let (_, text) = file.get(&FIXTURES);
        let (one, two) = (from.index(text.len() + 1), to.index(text.len() + 1));
        let cut = &text[text.floor_char_boundary(one.min(two))..text.floor_char_boundary(one.max(two))];
        let _ = parse(cut, &[cut.to_owned()]);
    }
}
