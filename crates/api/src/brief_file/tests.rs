//! Brief files as people write them, wrongly and rightly, and the round trip.

use domain::budget::{Budget as Limits, MicroUsd};
use proptest::prelude::*;

use super::*;
use crate::wire::brief::Budget;

const WHOLE: &str = r#"+++
checks = ["cargo test", { name = "lint", command = "cargo clippy", timeout = "10m" }]
budget = "2usd, 200ktok"
deadline = 2026-12-24T18:00:00Z
agent = "codex"
login = "own"
profile = "implementer"
fallbacks = ["builtin:ollama/qwen:7b", "claude", ":gpt-6.1-sol"]
critic = "claude-sonnet-5-5"
plan = true
land = "merge"
protected_paths = ["tests/**"]
labels = { team = "core" }
+++
# Handle the overflow in insert_many

A length hint near `usize::MAX` overflows:

```md
## Requirements
- this is only an example
```

## Non-goals
- Changing the public interface

## Requirements
- [ ] No new dependency,
  not even a small one
- Works on 32 bits
  - and on 16

1. Numbered

A paragraph

## Acceptance criteria:
* The new tests pass

## Protected paths
- `Cargo.lock`

## Background
See the advisory.

## Notes
Be quick.
"#;

#[test]
fn every_part_of_a_brief_file_finds_its_field() {
    let brief = parse(WHOLE).unwrap();
    assert!(brief.goal.starts_with("Handle the overflow in insert_many\n\nA length hint"), "{}", brief.goal);
    assert!(brief.goal.ends_with("- this is only an example\n```"), "{}", brief.goal);
    assert_eq!(brief.non_goals, ["Changing the public interface"]);
    assert_eq!(
        brief.requirements,
        ["No new dependency,\nnot even a small one", "Works on 32 bits\n- and on 16", "Numbered", "A paragraph"]
    );
    assert_eq!(brief.acceptance, ["The new tests pass"]);
    assert_eq!(brief.protected_paths, ["tests/**", "Cargo.lock"]);
    assert_eq!(brief.notes, "## Background\nSee the advisory.\n\nBe quick.");
    assert_eq!(brief.deadline, Some("2026-12-24T18:00:00Z".parse().unwrap()));
    let contract = brief.accept().unwrap();
    assert_eq!(contract.title(), "Handle the overflow in insert_many");
    assert_eq!(contract.checks[1].timeout_s, Some(600));
    assert_eq!(contract.budget.cost, Some(MicroUsd(2_000_000)));
    assert_eq!((contract.agent.name.as_str(), contract.agent.login), ("codex", domain::brief::Login::Own));
    assert_eq!(
        (contract.profile.as_deref(), contract.critic.as_deref()),
        (Some("implementer"), Some("claude-sonnet-5-5"))
    );
    let fallback = |agent: Option<&str>, model: Option<&str>| domain::brief::Fallback {
        agent: agent.map(str::to_owned),
        model: model.map(str::to_owned),
    };
    let wanted = [
        fallback(Some("builtin"), Some("ollama/qwen:7b")),
        fallback(Some("claude"), None),
        fallback(None, Some("gpt-6.1-sol")),
    ];
    assert_eq!(contract.fallbacks, wanted);
    assert_eq!(contract.planning, domain::brief::Planning::ApproveFirst);
    assert_eq!(contract.landing, domain::brief::LandingMethod::Merge);
}

#[test]
fn a_sentence_is_a_brief() {
    let contract = parse("Handle the overflow\n").unwrap().accept().unwrap();
    assert_eq!(contract, domain::brief::Brief { goal: "Handle the overflow".to_owned(), ..Default::default() });
}

#[test]
fn fences_of_minus_signs_and_windows_line_ends_are_read() {
    let brief = parse("\u{feff}---\r\nbudget = { usd = 0.5, wall = \"2h\" }\r\n---\r\nFix it\r\n").unwrap();
    assert_eq!(brief.goal, "Fix it");
    let limits = Limits { cost: Some(MicroUsd(500_000)), wall_s: Some(7_200), ..Limits::default() };
    assert_eq!(brief.budget, Some(Budget(limits)));
}

/// What is wrong, the line it is on, and a piece of what the hint says.
#[test]
fn mistakes_are_told_with_line_and_suggestion() {
    for (text, what, hint) in [
        (
            "+++\nplan = true\nbugdet = \"2usd\"\n+++\nx",
            "line 3: unknown field `bugdet`: `bugdet = \"2usd\"`",
            "`budget`",
        ),
        ("\n\n+++\nchecks = 3\n+++\nx", "line 4: invalid type: integer `3`, expected a sequence: `checks = 3`", "TOML"),
        ("+++\nbudget = \"2eur\"\n+++\nx", "line 2: `2eur` is not a budget: `budget = \"2eur\"`", "2usd"),
        ("+++\nbudget = { usd = 2, token = 3 }\n+++\nx", "line 2: unknown field `token`", "`tokens`"),
        (
            "+++\n[budget]\nusd = 2\nwall = \"2usd\"\n+++\nx",
            "line 2: `wall` of a budget has the unit of something else",
            "",
        ),
        ("+++\nland = \"sqash\"\n+++\nx", "line 2: unknown variant `sqash`", "`squash`"),
        ("+++\ndeadline = \"soon\"\n+++\nx", "line 2: `soon` is not a time", ""),
        ("+++\ngoal: x\n+++\n", "line 2: ", "TOML"),
        ("+++\nchecks = [{ name = \"a\" }]\n+++\nx", "line 2: missing field `command`", ""),
        ("+++\nplan = true\n", "line 1: the front matter that starts with `+++` has no end", "close it"),
        ("+++\ngoal = \"a\"\n+++\n# b\n", "the goal is given twice", "Notes"),
    ] {
        let fault = parse(text).unwrap_err();
        assert!(fault.what.contains(what), "{text:?}: {fault}");
        assert!(fault.hint.as_deref().unwrap_or_default().contains(hint), "{text:?}: {fault}");
    }
}

#[test]
fn a_contract_that_cannot_be_kept_is_refused() {
    for (text, what) in [
        ("", "no goal"),
        ("+++\nattempts = 0\n+++\nx", "`attempts` is 0"),
        ("+++\nattempts = 17\n+++\nx", "`attempts` is 17"),
        ("+++\nagent = \"command\"\n+++\nx", "needs the command"),
        ("+++\nagent = \"builtin\"\ncommand = [\"true\"]\n+++\nx", "runs none"),
        ("+++\nchecks = [\"true\", \"true\"]\n+++\nx", "two checks are named `true`"),
        ("+++\nchecks = [\" \"]\n+++\nx", "check 1"),
        ("+++\nallowed_paths = [\"\"]\n+++\nx", "`allowed_paths` has an empty item"),
    ] {
        let fault = parse(text).unwrap().accept().unwrap_err();
        assert!(fault.what.contains(what) && fault.hint.is_some(), "{text:?}: {fault}");
    }
    let long = Brief { goal: "x".repeat(70_000), ..Brief::default() };
    assert!(long.accept().unwrap_err().what.contains("more than 65536"));
}

#[test]
fn a_contract_survives_the_way_to_the_wire_and_back() {
    let contract = parse(WHOLE).unwrap().accept().unwrap();
    let json = serde_json::to_string(&Brief::from(&contract)).unwrap();
    assert_eq!(serde_json::from_str::<Brief>(&json).unwrap().accept().unwrap(), contract);
}

#[test]
fn a_fence_within_a_text_does_not_end_the_front_matter() {
    let commands = ["a\n+++\nb", "a\n+++ \nb", "a\n++++\u{2028}\nb"].map(str::to_owned);
    let brief = Brief { goal: "Fix it".to_owned(), command: commands.to_vec(), ..Brief::default() };
    assert_eq!(parse(&render(&brief).unwrap()).unwrap(), brief);
}

/// Texts made of the pieces that Markdown and TOML could stumble over.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        "word", " ", "\n", "\n\n", "# ", "## Notes", "## ", "- ", "* ", "[ ] ", "+++", "---", "```", "~~~~", "\"",
        "'''", "\"\"\"", "\\", "`", "1. ", "é", "\t", "goal = 1", "[x]", "=", "Goal", "\u{2028}", "#",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8).prop_map(|pieces| pieces.concat())
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..3)
}

prop_compose! {
    fn brief()(
        goal in text(), non_goals in texts(), requirements in texts(), allowed_paths in texts(), notes in text(),
        checks in texts(), timeout in prop::option::of(1_u64..100_000), command in texts(), plan: bool,
        cost in prop::option::of(1_u64..1_000_000_000_000_000), wall_s in prop::option::of(1_u64..10_000_000),
        tokens in prop::option::of(1_u64..i64::MAX as u64), seconds in 0_i64..4_000_000_000,
    ) -> Brief {
        let limits = Limits { cost: cost.map(MicroUsd), tokens, rounds: None, wall_s };
        Brief {
            goal, non_goals, requirements, allowed_paths, notes, command, plan,
            deadline: Some(jiff::Timestamp::from_second(seconds).unwrap()),
            labels: [("a key".to_owned(), "value".to_owned())].into(),
            checks: checks.into_iter().map(|command| {
                Check(domain::check::CheckSpec { timeout_s: timeout, ..domain::check::CheckSpec::from_command(command) })
            }).collect(),
            budget: (limits != Limits::default()).then_some(Budget(limits)),
            ..Brief::default()
        }
    }
}

proptest! {
    #[test]
    fn what_is_rendered_reads_back_the_same(brief in brief()) {
        // `render` itself checks that; here it must find a form for every brief.
        let text = render(&brief).unwrap();
        prop_assert_eq!(parse(&text).unwrap(), brief);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in text()) {
        let _ = parse(&text);
    }
}
