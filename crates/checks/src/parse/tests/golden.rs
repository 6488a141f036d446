//! Every fixture against what is expected of it (`tests/expected`). `OVERNIGHT_WRITE_GOLDEN=1` writes what is read: then see that
//! the totals are those that the tool itself prints.

use std::fmt::Write as _;

use super::{damage::FIXTURES, *};

/// What is expected of a report, a fact a line.
fn told(report: &Report) -> String {
    let Tally { passed, failed, skipped } = report.total();
    let mut text = format!("{passed} passed, {failed} failed, {skipped} skipped\n");
    match report.passes {
        Passes::Named => {}
        Passes::Counted => text.push_str("passes are counted\n"),
        Passes::Untold => text.push_str("passes are not told\n"),
    }
    for (fact, mark) in [(report.broken, "broken"), (report.cut_short, "cut short")] {
        if fact {
            let _ = writeln!(text, "{mark}");
        }
    }
    for name in report.failed_names() {
        let _ = writeln!(text, "failed: {name}");
    }
    if report.unnamed.failed > 0 {
        let _ = writeln!(text, "failed, unnamed: {}", report.unnamed.failed);
    }
    for line in located(report) {
        let _ = writeln!(text, "at {line}");
    }
    for line in report.loose.iter().take(20) {
        let _ = writeln!(text, "loose: {line}");
    }
    text
}

#[test]
fn every_fixture_is_read_as_expected() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected");
    let is_written = std::env::var_os("OVERNIGHT_WRITE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for (name, _) in FIXTURES.iter() {
        let path = directory.join(format!("{name}.expected"));
        let found = told(&read(name));
        if is_written {
            std::fs::write(&path, &found).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != found {
            wrong.push(format!("==== {name}\n{found}"));
        }
    }
    assert!(wrong.is_empty(), "read otherwise than expected:\n{}", wrong.concat());
    let expected = directory.read_dir().unwrap().count();
    assert_eq!(expected, FIXTURES.len(), "an expectation without its fixture");
}
