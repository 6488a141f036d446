//! Reports of real runs (`tests/fixtures`), read.

use std::path::Path;

use super::*;

mod complaints;
pub(crate) mod damage;
mod golden;
mod javascript;

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let raw = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    readable(&raw, None, None)
}

pub(crate) fn read(name: &str) -> Report {
    let text = fixture(name);
    if name.ends_with(".txt") { parse(&text, &[]) } else { parse("", &[text]) }
}

fn failing(report: &Report) -> Vec<&str> {
    report.failed_names().collect()
}

/// `test @ path:line: first line of the message`, in order.
fn located(report: &Report) -> Vec<String> {
    let line = |located: &Located| {
        let place = located.path.as_deref().unwrap_or("?");
        let at = located.line.map_or("?".to_owned(), |line| line.to_string());
        let said = located.message.lines().next().unwrap_or("");
        format!("{} @ {place}:{at}: {said}", located.test.as_deref().unwrap_or("-"))
    };
    report.located.iter().map(line).collect()
}

fn names(report: &Report) -> Vec<&str> {
    report.tests.keys().map(String::as_str).collect()
}

#[test]
fn totals_are_those_that_the_tools_print() {
    let totals = [
        ("cargo-green.txt", [2, 0, 0]),
        ("cargo-fail-fast.txt", [2, 4, 1]),
        ("cargo-no-fail-fast.txt", [6, 6, 1]),
        ("cargo-quiet.txt", [6, 6, 1]),
        ("cargo-abort.txt", [0, 0, 0]),
        ("cargo-compile-error.txt", [0, 0, 0]),
        ("pytest-green.txt", [1, 0, 0]),
        ("pytest-quiet.txt", [4, 6, 2]),
        ("pytest-plain.txt", [4, 6, 2]),
        ("pytest-verbose.txt", [4, 6, 2]),
        ("pytest-named.txt", [4, 6, 2]),
        ("pytest-xdist.txt", [4, 6, 2]),
        ("pytest-first.txt", [1, 1, 0]),
        ("pytest-collection-error.txt", [0, 1, 0]),
        ("unittest-plain.txt", [2, 5, 2]),
        ("unittest-verbose.txt", [2, 5, 2]),
        ("tap-node.txt", [5, 4, 2]),
        ("tap-tape.txt", [4, 2, 2]),
        ("node-spec.txt", [5, 4, 2]),
        ("node-spec-green.txt", [1, 0, 0]),
        ("go-verbose.txt", [2, 4, 1]),
        // Two packages that got through, and the failures by name.
        ("go-plain.txt", [2, 5, 0]),
        ("nextest-green.txt", [1, 0, 6]),
        ("nextest-red.txt", [2, 4, 1]),
        ("nextest-quiet.txt", [2, 4, 1]),
        ("nextest-first.txt", [1, 1, 1]),
        // The three of the summary, and the file that could not be run.
        ("jest-red.txt", [4, 4, 2]),
        ("jest-verbose.txt", [4, 4, 2]),
        ("jest-green.txt", [1, 0, 0]),
        ("jest-bail.txt", [3, 3, 2]),
        ("junit-jest.xml", [5, 3, 1]),
        ("vitest-red.txt", [4, 4, 2]),
        ("vitest-verbose.txt", [4, 4, 2]),
        ("vitest-green.txt", [1, 0, 0]),
        ("vitest-bail.txt", [1, 1, 2]),
        ("junit-vitest.xml", [4, 4, 2]),
        ("mocha-red.txt", [3, 3, 2]),
        ("mocha-dot.txt", [3, 3, 2]),
        ("mocha-green.txt", [1, 0, 0]),
        ("mocha-bail.txt", [1, 1, 0]),
        ("junit-ruff.xml", [0, 6, 0]),
        ("junit-nextest.xml", [4, 5, 0]),
        ("junit-pytest.xml", [4, 6, 2]),
        ("junit-node.xml", [5, 3, 2]),
    ];
    for (name, [passed, failed, skipped]) in totals {
        assert_eq!(read(name).total(), Tally { passed, failed, skipped }, "{name}");
    }
}

#[test]
fn cargo_names_tests_by_their_binary() {
    let report = read("cargo-no-fail-fast.txt");
    assert_eq!(
        failing(&report),
        [
            "doc sample src/lib.rs - add",
            "it fails_far_away",
            "sample tests::adds_wrongly",
            "sample tests::overflows",
            "sample tests::panics_not",
            "sample tests::returns_an_error",
        ]
    );
    assert!(report.tests.contains_key("bin/sample tests::adds"));
    assert_eq!(
        located(&report),
        [
            "sample tests::adds_wrongly @ src/lib.rs:29: assertion `left == right` failed: two and two",
            "sample tests::overflows @ src/lib.rs:14: attempt to add with overflow",
            "sample tests::panics_not @ src/lib.rs:43: note: test did not panic as expected at src/lib.rs:43:8",
            "sample tests::returns_an_error @ ?:?: Error: \"no luck\"",
            "it fails_far_away @ tests/it.rs:4: nothing in []",
            "doc sample src/lib.rs - add @ src/lib.rs:5: assertion `left == right` failed",
        ]
    );
    assert!(report.loose.is_empty() && !report.cut_short && !report.broken, "{report:?}");
}

#[test]
fn cargo_that_stops_at_the_first_binary_is_cut_short() {
    let report = read("cargo-fail-fast.txt");
    assert!(report.cut_short && !report.broken);
    assert_eq!(report.passes, Passes::Named);
}

#[test]
fn cargo_quiet_counts_passes_without_names() {
    let report = read("cargo-quiet.txt");
    assert_eq!((report.passes, report.unnamed.passed, report.unnamed.failed), (Passes::Counted, 6, 0));
    assert!(failing(&report).contains(&"tests::overflows"));
}

#[test]
fn nextest_names_tests_as_its_junit_does() {
    let report = read("nextest-red.txt");
    let failures = [
        "sample tests::aborts",
        "sample tests::adds_wrongly",
        "sample tests::returns_an_error",
        "sample::it fails_far_away",
    ];
    assert_eq!(failing(&report), failures);
    let places = [
        "sample tests::aborts @ ?:?: (test aborted with signal 6: SIGABRT)",
        "sample tests::returns_an_error @ ?:?: Error: \"no luck\"",
        "sample::it fails_far_away @ tests/it.rs:4: nothing in []",
        "sample tests::adds_wrongly @ src/lib.rs:8: assertion `left == right` failed: two and two",
    ];
    assert_eq!(located(&report), places);
    assert!(report.loose.is_empty() && !report.broken && !report.cut_short, "{report:?}");
    let quiet = read("nextest-quiet.txt");
    assert_eq!((failing(&quiet), quiet.passes), (failures.to_vec(), Passes::Counted));
    assert!(read("nextest-first.txt").cut_short);
    let whole = fixture("nextest-red.txt");
    let (killed, _) = whole.split_once("     Summary").unwrap();
    assert!(parse(killed, &[]).broken);
}

#[test]
fn a_nextest_test_that_passes_when_tried_again_has_passed() {
    let text = "    Starting 1 test across 1 binary\n  TRY 1 FAIL [   0.008s] a b\n\n--- STDERR:  a b ---\nthread 'b' \
        panicked at src/a.rs:1:2:\nno\n\n  TRY 2 PASS [   0.009s] a b\n------------\n     Summary [   0.1s] 1 test \
        run: 1 passed (1 flaky), 0 skipped\n   FLAKY 2/2 [   0.007s] a b\n";
    let report = parse(text, &[]);
    assert_eq!((report.total(), located(&report).len()), (Tally { passed: 1, failed: 0, skipped: 0 }, 0));
}

#[test]
fn a_test_binary_that_crashes_is_broken() {
    let report = read("cargo-abort.txt");
    assert!(report.broken && report.cut_short && report.tests.is_empty());
}

#[test]
fn a_build_error_names_no_test_and_says_where() {
    let report = read("cargo-compile-error.txt");
    assert!(report.tests.is_empty());
    assert!(report.loose.iter().any(|line| line.starts_with("error: could not compile")), "{:?}", report.loose);
    assert_eq!(located(&report)[0], "- @ src/lib.rs:14: cannot find value `nothing` in this scope");
}

#[test]
fn pytest_names_node_ids_however_loud() {
    let expected = [
        "tests/test_calc.py::TestMore::test_in_class",
        "tests/test_calc.py::test_adds_wrongly",
        "tests/test_calc.py::test_divides",
        "tests/test_calc.py::test_same[2-3]",
        "tests/test_calc.py::test_same[a - b-x y]",
        "tests/test_calc.py::test_uses_broken",
    ];
    for name in ["pytest-quiet.txt", "pytest-plain.txt", "pytest-verbose.txt", "pytest-named.txt", "pytest-xdist.txt"] {
        let report = read(name);
        assert_eq!(failing(&report), expected, "{name}");
        let places = located(&report);
        for place in [
            "tests/test_calc.py::test_adds_wrongly @ tests/test_calc.py:16: AssertionError: one and two",
            "tests/test_calc.py::test_divides @ calc.py:6: ZeroDivisionError: division by zero",
            "tests/test_calc.py::test_uses_broken @ tests/test_calc.py:7: RuntimeError: fixture is broken",
            "tests/test_calc.py::TestMore::test_in_class @ tests/test_calc.py:44: AssertionError: assert {'a': 1} == {'a': 2}",
        ] {
            assert!(places.iter().any(|one| one == place), "{name}: {place} in {places:#?}");
        }
        assert!(report.loose.is_empty(), "{name}: {:?}", report.loose);
    }
    assert_eq!(read("pytest-named.txt").passes, Passes::Named);
    assert_eq!(read("pytest-quiet.txt").passes, Passes::Counted);
}

#[test]
fn pytest_that_stops_early_is_cut_short() {
    assert!(read("pytest-first.txt").cut_short);
    let report = read("pytest-collection-error.txt");
    assert!(report.cut_short);
    let expected =
        "tests/test_zbad.py @ tests/test_zbad.py:1: ModuleNotFoundError: No module named 'nothing_like_this'";
    assert_eq!(located(&report), [expected]);
}

#[test]
fn a_pytest_session_that_never_sums_up_is_broken() {
    let whole = fixture("pytest-plain.txt");
    let (killed, _) = whole.split_once("short test summary").unwrap();
    assert!(parse(killed, &[]).broken);
}

#[test]
fn unittest_names_dotted_paths_and_subtests() {
    let failures = [
        "tests.test_bad",
        "tests.test_calc.Broken.setUpClass",
        "tests.test_calc.Calc.test_adds_wrongly",
        "tests.test_calc.Calc.test_described_failure",
        "tests.test_calc.Calc.test_parts (i=1)",
    ];
    for name in ["unittest-plain.txt", "unittest-verbose.txt"] {
        let report = read(name);
        assert_eq!(failing(&report), failures, "{name}");
        let expected =
            "tests.test_calc.Calc.test_adds_wrongly @ tests/test_calc.py:10: AssertionError: 3 != 4 : one and two";
        assert!(located(&report).iter().any(|one| one == expected), "{name}: {:#?}", located(&report));
        assert!(report.loose.is_empty(), "{name}: {:?}", report.loose);
    }
    assert_eq!(read("unittest-verbose.txt").passes, Passes::Named);
    assert_eq!(read("unittest-plain.txt").unnamed.passed, 2);
}

#[test]
fn unittest_of_older_pythons_names_the_class_only() {
    let text = "F.\n======================================================================\nFAIL: test_a (pkg.tests.Calc)\n\
        ----------------------------------------------------------------------\nTraceback (most recent call last):\n  \
        File \"pkg/tests.py\", line 5, in test_a\n    self.fail()\nAssertionError: None\n\n\
        ----------------------------------------------------------------------\nRan 2 tests in 0.001s\n\nFAILED (failures=1)\n";
    let report = parse(text, &[]);
    assert_eq!(failing(&report), ["pkg.tests.Calc.test_a"]);
    assert_eq!(report.total(), Tally { passed: 1, failed: 1, skipped: 0 });
}

#[test]
fn tap_names_the_way_down_and_leaves_suites_out() {
    let report = read("tap-node.txt");
    let all = [
        "adds",
        "adds wrongly",
        "fine",
        "later",
        "parent",
        "parent > child # bad",
        "parent > child fine",
        "suite > fails in suite",
        "suite > in suite",
        "suite > nested > deep",
        "to do",
    ];
    assert_eq!(names(&report), all);
    let places = [
        "adds wrongly @ a.test.js:4: Expected values to be strictly equal:",
        "parent > child # bad @ a.test.js:7: no luck",
        "suite > fails in suite @ a.test.js:11: Expected values to be strictly deep-equal:",
    ];
    assert_eq!(located(&report), places);
}

#[test]
fn the_spec_reporter_agrees_with_tap() {
    let (spec, tap) = (read("node-spec.txt"), read("tap-node.txt"));
    assert_eq!(spec.tests, tap.tests);
    assert!(located(&spec).contains(&"parent > child # bad @ a.test.js:7: Error: no luck".to_owned()));
}

#[test]
fn tape_names_assertions_by_their_test() {
    let report = read("tap-tape.txt");
    // The same words twice, once well and once not.
    let twice = Tally { passed: 1, failed: 1, skipped: 0 };
    assert_eq!(report.tests["parse args > should be strictly equal"], twice);
    assert_eq!(failing(&report), ["parse args > should be strictly equal", "throws > not fine"]);
    assert_eq!(located(&report)[0], "parse args > should be strictly equal @ a.js:4: operator: equal");
}

#[test]
fn a_tap_plan_that_is_not_kept_is_broken() {
    assert!(parse("TAP version 13\n1..3\nok 1 a\nok 2 b\n", &[]).broken);
    assert!(parse("TAP version 13\nok 1 a\nBail out! no disk\n", &[]).broken);
    assert!(parse("TAP version 13\nok 1 a\n", &[]).broken);
    let kept = parse("1..2\nok 1 - a\nnot ok 2 - b # TODO later\n", &[]);
    assert_eq!((kept.broken, kept.total()), (false, Tally { passed: 1, failed: 0, skipped: 1 }));
}

#[test]
fn go_names_tests_by_their_package() {
    let report = read("go-verbose.txt");
    assert_eq!(report.tests["example.com/sample TestTable/one"].passed, 1);
    let places = [
        "example.com/sample TestAddsWrongly @ calc_test.go:14: calc_test.go:12: about to add",
        "example.com/sample TestTable/two_words @ calc_test.go:22: calc_test.go:22: not one",
        "example.com/sample/inner TestPanics @ inner/inner_test.go:7: panic: assignment to entry in nil map [recovered, repanicked]",
    ];
    assert_eq!(located(&report), places);
}

#[test]
fn go_counts_a_package_that_does_not_build_as_failed() {
    let report = read("go-plain.txt");
    assert_eq!(report.passes, Passes::Untold);
    assert!(failing(&report).contains(&"example.com/sample/bad"));
    assert!(report.cut_short);
    assert!(located(&report).contains(&"- @ bad/bad_test.go:5: declared and not used: x".to_owned()));
}

#[test]
fn junit_says_what_the_terminal_says() {
    let report = read("junit-nextest.xml");
    assert!(failing(&report).contains(&"sample::it fails_far_away"));
    let expected = "sample tests::overflows @ src/lib.rs:14: thread 'tests::overflows'";
    assert!(located(&report).iter().any(|one| one.starts_with(expected)), "{:#?}", located(&report));
    assert!(failing(&read("junit-node.xml")).contains(&"suite > fails in suite"));
    let report = read("junit-pytest.xml");
    assert!(failing(&report).contains(&"tests.test_calc.TestMore test_in_class"));
}

#[test]
fn a_broken_junit_file_says_nothing() {
    let whole = fixture("junit-pytest.xml");
    let cut = &whole[..whole.floor_char_boundary(whole.len() / 2)];
    assert_eq!(parse("", &[cut.to_owned()]), Report::default());
    assert_eq!(parse("", &["<a><b></a></b>".to_owned(), String::new()]), Report::default());
    let deep = "<testsuite>".repeat(10_000);
    assert_eq!(parse("", &[deep]), Report::default());
}

#[test]
fn a_junit_file_that_counts_more_failures_than_it_shows_is_held_to_its_count() {
    let file = r#"<testsuites><testsuite failures="1" errors="1"><testcase name="a"/><testcase name="b"><error/></testcase>
        <testsuite failures="9"/></testsuite></testsuites>"#;
    let report = parse("", &[file.to_owned()]);
    assert_eq!((report.unnamed.failed, report.total()), (1, Tally { passed: 1, failed: 2, skipped: 0 }));
}

#[test]
fn a_file_names_what_the_terminal_counts_but_hides_nothing() {
    let (terminal, file) = (fixture("pytest-quiet.txt"), fixture("junit-pytest.xml"));
    let both = parse(&terminal, std::slice::from_ref(&file));
    assert_eq!((both.total(), both.passes), (Tally { passed: 4, failed: 6, skipped: 2 }, Passes::Named));
    let rosy = r#"<testsuite><testcase classname="a" name="b"/></testsuite>"#.to_owned();
    let both = parse(&terminal, &[rosy]);
    assert_eq!(both.total().failed, 6);
    assert!(failing(&both).contains(&"tests/test_calc.py::test_divides"));
}

#[test]
fn several_reports_in_one_output_add_up() {
    let text =
        ["cargo-no-fail-fast.txt", "pytest-quiet.txt", "tap-tape.txt", "unittest-plain.txt"].map(fixture).join("\n");
    let report = parse(&text, &[]);
    assert_eq!(report.total(), Tally { passed: 16, failed: 19, skipped: 7 });
}

#[test]
fn an_address_in_a_name_does_not_tell_tests_apart() {
    let line = |address: &str| format!("TAP version 13\nok 1 - handles <object at {address}>\n1..1\n");
    assert_eq!(parse(&line("0x7f3a"), &[]).tests, parse(&line("0x99"), &[]).tests);
}
