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
