//! Reports of JavaScript's test runners.

use super::*;

#[test]
fn jest_names_the_way_down_however_loud() {
    let failures = [
        "broken.test.js",
        "calc.test.js › adds wrongly",
        "calc.test.js › divide › by zero › throws › loudly",
        "calc.test.js › same 2 3",
    ];
    let places = [
        "calc.test.js › adds wrongly @ calc.test.js:3: expect(received).toBe(expected) // Object.is equality",
        "calc.test.js › divide › by zero › throws › loudly @ calc.js:2: RangeError: no division",
        "calc.test.js › same 2 3 @ calc.test.js:12: expect(received).toEqual(expected) // deep equality",
        "broken.test.js @ broken.test.js:1: Cannot find module './nothing-like-this' from 'broken.test.js'",
    ];
    for name in ["jest-red.txt", "jest-verbose.txt"] {
        let report = read(name);
        assert_eq!(
            (failing(&report), located(&report)),
            (failures.to_vec(), places.map(str::to_owned).to_vec()),
            "{name}"
        );
        assert!(report.loose.is_empty() && report.cut_short && !report.broken, "{report:?}");
    }
    assert_eq!(read("jest-red.txt").passes, Passes::Counted);
    let loud = read("jest-verbose.txt");
    assert_eq!(loud.passes, Passes::Named);
    assert_eq!(loud.tests["calc.test.js › divide › halves"].passed, 1);
    assert_eq!(loud.tests["calc.test.js › divide › some day"].skipped, 1);
}

#[test]
fn jest_names_no_passing_test_where_it_is_loud_by_itself() {
    let report = read("jest-green.txt");
    assert_eq!((report.passes, report.tests.len()), (Passes::Counted, 0));
}

#[test]
fn jest_that_bails_out_sums_up_twice_and_is_cut_short() {
    let report = read("jest-bail.txt");
    assert!(report.cut_short && !report.broken && report.unnamed.failed == 0, "{report:?}");
}

#[test]
fn a_jest_run_that_never_sums_up_is_broken() {
    let whole = fixture("jest-red.txt");
    let (killed, _) = whole.split_once("Test Suites:").unwrap();
    assert!(parse(killed, &[]).broken);
}

#[test]
fn vitest_names_the_way_down_however_loud() {
    let failures = [
        "broken.test.ts",
        "calc.test.ts > adds wrongly",
        "calc.test.ts > divide > by zero > throws > loudly",
        "calc.test.ts > same 2 3",
    ];
    let places = [
        "broken.test.ts @ broken.test.ts:1: Error: Cannot find module './nothing-like-this' imported from broken.test.ts",
        "calc.test.ts > adds wrongly @ calc.test.ts:4: AssertionError: expected 4 to be 5 // Object.is equality",
        "calc.test.ts > divide > by zero > throws > loudly @ calc.ts:2: RangeError: no division",
        "calc.test.ts > same 2 3 @ calc.test.ts:13: AssertionError: expected { v: 2 } to deeply equal { v: 3 }",
    ];
    for (name, passes) in [("vitest-red.txt", Passes::Counted), ("vitest-verbose.txt", Passes::Named)] {
        let report = read(name);
        assert_eq!(
            (failing(&report), located(&report)),
            (failures.to_vec(), places.map(str::to_owned).to_vec()),
            "{name}"
        );
        assert_eq!(report.passes, passes, "{name}");
        assert!(report.loose.is_empty() && report.cut_short && !report.broken, "{report:?}");
    }
    assert_eq!(read("vitest-verbose.txt").tests["calc.test.ts > divide > halves"].passed, 1);
}

#[test]
fn vitest_that_bails_out_or_never_sums_up_is_cut_short() {
    let bailed = read("vitest-bail.txt");
    assert!(bailed.cut_short && !bailed.broken, "{bailed:?}");
    let whole = fixture("vitest-red.txt");
    let (killed, _) = whole.split_once(" Test Files").unwrap();
    assert!(parse(killed, &[]).broken);
}

#[test]
fn an_error_that_belongs_to_no_vitest_test_breaks_the_run() {
    let text = " RUN  v4.1.0 /x\n\n ✓ a.test.ts (1 test) 2ms\n\n Test Files  1 passed (1)\n      Tests  1 passed (1)\n     \
        Errors  1 error\n   Start at  02:38:58\n";
    assert!(parse(text, &[]).broken);
}

#[test]
fn mocha_names_the_way_down() {
    let failures =
        ["adds wrongly", "divide > by zero > throws loudly", "hooks > \"before all\" hook: prepare for \"unreached\""];
    let places = [
        "adds wrongly @ mt/a.test.js:4: AssertionError [ERR_ASSERTION]: Expected values to be strictly equal:",
        "divide > by zero > throws loudly @ jt/calc.js:2: RangeError: no division",
        "hooks > \"before all\" hook: prepare for \"unreached\" @ mt/a.test.js:14: Error: no set-up",
    ];
    for (name, passes) in [("mocha-red.txt", Passes::Named), ("mocha-dot.txt", Passes::Counted)] {
        let report = read(name);
        assert_eq!(
            (failing(&report), located(&report)),
            (failures.to_vec(), places.map(str::to_owned).to_vec()),
            "{name}"
        );
        assert_eq!(report.passes, passes, "{name}");
        assert!(report.loose.is_empty() && report.cut_short && !report.broken, "{report:?}");
    }
    assert_eq!(read("mocha-red.txt").tests["divide > some day"].skipped, 1);
}

#[test]
fn a_failure_that_vitest_names_very_often_is_read_at_once() {
    let text = " RUN  v4.1.0 /x\n".to_owned() + &" FAIL  a.test.ts > x\n".repeat(100_000);
    let report = parse(&text, &[]);
    assert_eq!((failing(&report), report.broken), (vec!["a.test.ts > x"], true));
}
