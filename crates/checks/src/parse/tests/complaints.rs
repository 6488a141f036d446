//! Located messages that belong to no test.

use super::*;

#[test]
fn compilers_and_interpreters_say_where() {
    let text = "src/main.c:3:5: error: expected ';' before 'return'\nsrc/main.c:9:1: warning: unused\n\
        app/x.ts(12,5): error TS2322: Type 'a' is not assignable\nTraceback (most recent call last):\n  \
        File \"tool.py\", line 7, in <module>\n    main()\nValueError: no\n";
    let places = [
        "- @ src/main.c:3: error: expected ';' before 'return'",
        "- @ app/x.ts:12: error TS2322: Type 'a' is not assignable",
        "- @ tool.py:7: ValueError: no",
    ];
    assert_eq!(located(&parse(text, &[])), places);
}

#[test]
fn each_tool_says_where_and_what_in_its_own_order() {
    let tools: [(&str, &[&str], &str); 18] = [
        (
            "tsc.txt",
            &["ts/a.ts:1", "ts/a.ts:2", "ts/a.ts:2", "ts/a.ts:3", "ts/a.ts:4", "ts/a.ts:4"],
            "error TS2322: Type 'string' is",
        ),
        (
            "tsc-pretty.txt",
            &["ts/a.ts:1", "ts/a.ts:2", "ts/a.ts:2", "ts/a.ts:3", "ts/a.ts:4", "ts/a.ts:4"],
            "error TS2322: Type 'string' is",
        ),
        (
            "eslint-stylish.txt",
            &["a.js:2", "a.js:2", "a.js:3", "b.js:1", "eslint.config.js:1", "eslint.config.js:1"],
            "'a' is not defined no-undef",
        ),
        (
            "eslint-unix.txt",
            &["a.js:2", "a.js:2", "a.js:3", "b.js:1", "eslint.config.js:1", "eslint.config.js:1"],
            "'a' is not defined. [Error/no-undef]",
        ),
        (
            "eslint-json.txt",
            &["a.js:2", "a.js:2", "a.js:3", "b.js:1", "eslint.config.js:1", "eslint.config.js:1"],
            "'a' is not defined. no-undef",
        ),
        (
            "ruff-full.txt",
            &["app/a.py:1", "app/a.py:1", "app/a.py:1", "app/a.py:5", "app/b.py:1", "app/b.py:1"],
            "I001 Import block is",
        ),
        (
            "ruff-concise.txt",
            &["app/a.py:1", "app/a.py:1", "app/a.py:1", "app/a.py:5", "app/b.py:1", "app/b.py:2"],
            "I001 Import block is",
        ),
        (
            "ruff-github.txt",
            &["app/a.py:1", "app/a.py:1", "app/a.py:1", "app/a.py:5", "app/b.py:1", "app/b.py:2"],
            "I001 Import block is",
        ),
        ("ruff.sarif", &["app/a.py:1", "app/a.py:5", "app/b.py:1"], "F401 `sys` imported but unused"),
        ("ruff-format.txt", &["app2/a.py:2"], "unformatted: File would be reformatted"),
        (
            "mypy.txt",
            &["app/a.py:3", "app/a.py:4", "app/a.py:5", "app/a.py:6"],
            "error: Incompatible return value type",
        ),
        ("mypy-syntax.txt", &["app/b.py:1", "app/b.py:2"], "error: Expected a parameter"),
        ("gcc.txt", &["b.c:3", "b.c:3", "b.c:4"], "error: ‘p’ is a pointer"),
        ("gcc-no-header.txt", &["a.c:1"], "fatal error: missing.h: No such file"),
        ("gcc-template.txt", &["t.cpp:4", "t.cpp:3"], "error: no matching function for call"),
        ("clippy.txt", &["src/lib.rs:1"], "cannot find value `nothing`"),
        (
            "rustfmt.txt",
            &["src/lib.rs:1", "src/lib.rs:5", "src/lib.rs:12", "tests/it.rs:1"],
            "is not formatted as rustfmt would",
        ),
        ("nextest-compile-error.txt", &["src/lib.rs:1"], "cannot find value `nothing`"),
    ];
    for (name, places, words) in tools {
        let report = read(name);
        let place = |located: &Located| format!("{}:{}", located.path.as_deref().unwrap(), located.line.unwrap());
        assert_eq!(report.located.iter().map(place).collect::<Vec<_>>(), places, "{name}");
        assert!(report.located[0].message.starts_with(words), "{name}: {:?}", report.located[0]);
        assert_eq!(report.total(), Tally::default(), "{name}");
    }
}

#[test]
fn warnings_explain_a_run_only_where_nothing_is_worse() {
    let warnings: String =
        fixture("gcc.txt").lines().filter(|line| !line.contains("error")).map(|line| format!("{line}\n")).collect();
    let first = "- @ b.c:3: warning: unused variable ‘unused’ [-Wunused-variable]";
    assert_eq!(located(&parse(&warnings, &[]))[0], first);
    let tested = format!("{warnings}{}", fixture("pytest-green.txt"));
    assert_eq!(located(&parse(&tested, &[])), Vec::<String>::new());
    assert_eq!(
        located(&parse("a.go\ncmd/b.go\n", &[])),
        ["- @ a.go:?: is not formatted", "- @ cmd/b.go:?: is not formatted"]
    );
}

#[test]
fn what_is_said_twice_is_told_once() {
    let twice = fixture("clippy.txt").repeat(3) + &fixture("mypy.txt").repeat(2);
    assert_eq!(parse(&twice, &[]).located.len(), 5);
}

#[test]
fn complaints_leave_every_line_to_the_verdict() {
    for name in ["gcc.txt", "mypy.txt", "eslint-stylish.txt", "ruff-github.txt", "tsc.txt"] {
        let text = fixture(name);
        let errors = text.lines().filter(|line| text::looks_like_error(line)).map(normal_line).collect::<BTreeSet<_>>();
        assert_eq!(read(name).loose, errors, "{name}");
    }
}

#[test]
fn an_annotation_is_read_as_it_was_before_it_was_escaped() {
    let text =
        "::error file=src/a%2Cb.rs,line=7,title=x::one%0Atwo 100%25\n  ::warning file=c.rs::mild\n::error::no place\n";
    let report = parse(text, &[]);
    assert_eq!(located(&report), ["- @ src/a,b.rs:7: one"]);
    assert_eq!(report.located[0].message, "one\ntwo 100%");
}

#[test]
fn a_broken_sarif_file_says_nothing() {
    let whole = fixture("ruff.sarif");
    let cut = whole[..whole.len() / 2].to_owned();
    assert_eq!(parse("", &[cut, "{".repeat(100_000), "{\"runs\":[{\"results\":7}]}".to_owned()]), Report::default());
}
