//! What one check says of a head, its base's own result taken into account. Pure: two outcomes in, a verdict with its reason
//! out.
//!
//! The rules, first match wins:
//!
//! 1. A command that cannot be started, or does not end, or fills the disk, on head and base alike is inconclusive; on the
//!    head only, red.
//! 2. A failure that the base does not have is red, whatever the exit code: a report that shows failures beats a zero.
//! 3. A test that ran on the base and does not now is red.
//! 4. Exit code zero is green.
//! 5. A red exit is red where the base exits with zero, or could not even be started.
//! 6. A red exit is green where the base exits the same way, every failure has a name that fails on the base too, and
//!    nothing else in the output looks like an error that the base does not print.
//! 7. Everything else is inconclusive: the base fails too, in a way that cannot be told apart.
//!
//! And above them all: where a service of the environment was not ready, on the head or on a base that failed, only a plain
//! success (rule 4) says anything; everything else is inconclusive.

use std::collections::BTreeSet;

use domain::check::{CheckEnd, Verdict};

use crate::{
    parse::{Passes, Report, Tally, cut},
    run::Outcome,
};

/// Bytes of a service's note in a reason.
const NOTE: usize = 300;

/// One check on head and base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Comparison {
    pub verdict: Verdict,
    /// One sentence.
    pub reason: String,
    pub fixed: Vec<String>,
    pub new_failures: Vec<String>,
    pub known_failures: Vec<String>,
    pub missing: Vec<String>,
}

pub(crate) fn compare(head: &Outcome, base: &Outcome) -> Comparison {
    let failures = |is_wanted: fn(Tally, Tally) -> bool| {
        let failing = head.report.tests.iter().filter(|(_, tally)| tally.failed > 0);
        let wanted = failing.filter(|(name, tally)| is_wanted(**tally, tally_of(&base.report, name)));
        wanted.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let new_failures = failures(|now, before| now.failed > before.failed);
    let known_failures = failures(|now, before| now.failed <= before.failed);
    let missing = missing(head, base, !new_failures.is_empty());
    let fixed = fixed(&head.report, &base.report, &missing);
    let mut comparison =
        Comparison { verdict: Verdict::Red, reason: String::new(), fixed, new_failures, known_failures, missing };
    (comparison.verdict, comparison.reason) = rule(head, base, &comparison);
    let is_success = comparison.verdict == Verdict::Green && head.end == CheckEnd::Exited(0);
    if let Some(unready) = unready(head, base)
        && !is_success
    {
        comparison.verdict = Verdict::Inconclusive;
        comparison.reason = format!("{}; but {unready}", comparison.reason);
    }
    comparison
}

/// The first service that was not ready where it may have made the check fail, in a clause: the first sentence of its note.
fn unready(head: &Outcome, base: &Outcome) -> Option<String> {
    let on_base = base.unready.first().filter(|_| base.end != CheckEnd::Exited(0));
    let (note, place) = match (head.unready.first(), on_base) {
        (Some(note), _) => (note, ""),
        (None, Some(note)) => (note, "on the base, "),
        (None, None) => return None,
    };
    let line = note.lines().find(|line| !line.trim().is_empty()).unwrap_or("a service was not ready").trim();
    let sentence = line.split_once(". ").map_or(line, |(sentence, _)| sentence).trim_end_matches('.');
    let mut letters = sentence.chars();
    let first = letters.next().map(char::to_lowercase).into_iter().flatten();
    Some(format!("{place}{}", cut(&first.chain(letters).collect::<String>(), NOTE)))
}

fn tally_of(report: &Report, name: &str) -> Tally {
    report.tests.get(name).copied().unwrap_or_default()
}

/// Tests that ran on the base and do not now. One that is skipped now does not run. One that is absent counts only where
/// the head's run got through: after a build error everything is absent, and that is not the point.
fn missing(head: &Outcome, base: &Outcome, has_new_failures: bool) -> Vec<String> {
    let report = &head.report;
    let broke_off = report.broken || (has_new_failures && report.cut_short);
    let got_through = match head.end {
        CheckEnd::Exited(0) => true,
        CheckEnd::Exited(_) => !report.tests.is_empty() && !broke_off && report.loose.is_subset(&base.report.loose),
        CheckEnd::Signaled(_) | CheckEnd::TimedOut | CheckEnd::NotStarted | CheckEnd::OverQuota | CheckEnd::NotRun => {
            false
        }
    };
    let mut missing = Vec::new();
    let mut lost = 0_u32;
    for (name, before) in &base.report.tests {
        let now = tally_of(report, name);
        let is_skipped = now.skipped > before.skipped;
        let would_be_named = before.passed > 0 || report.passes == Passes::Named;
        if before.ran() > now.ran() && (is_skipped || (got_through && would_be_named)) {
            lost += before.ran() - now.ran();
            missing.push(name.clone());
        }
    }
    if got_through && report.passes.max(base.report.passes) == Passes::Counted {
        let fewer = base.report.total().ran().saturating_sub(report.total().ran()).saturating_sub(lost);
        if fewer > 0 {
            missing.push(format!("{} that the report does not name", count(fewer as usize, "test")));
        }
    }
    missing
}

/// Failed on the base and pass now, by name, or by a report that names failures only and not this one.
fn fixed(head: &Report, base: &Report, missing: &[String]) -> Vec<String> {
    let missing: BTreeSet<&str> = missing.iter().map(String::as_str).collect();
    let is_fixed = |name: &str, before: Tally| {
        let now = tally_of(head, name);
        let passes = now.passed > before.passed || (head.passes != Passes::Named && now == Tally::default());
        before.failed > now.failed && passes && !missing.contains(name)
    };
    base.tests.iter().filter(|(name, tally)| is_fixed(name, **tally)).map(|(name, _)| name.clone()).collect()
}

fn rule(head: &Outcome, base: &Outcome, found: &Comparison) -> (Verdict, String) {
    if let Some(verdict) = never_ended(head, base) {
        return verdict;
    }
    let unnamed = head.report.unnamed.failed.saturating_sub(base.report.unnamed.failed);
    if !found.new_failures.is_empty() {
        let is_unseen = found.new_failures.iter().any(|name| !base.report.tests.contains_key(name));
        let is_doubtful = base.report.cut_short && is_unseen;
        let caveat = if is_doubtful { " (the base stopped early, so they may be its own)" } else { "" };
        let despite = if head.end == CheckEnd::Exited(0) { ", though the command says success" } else { "" };
        return red(format!(
            "{} that the base does not have{despite}{caveat}",
            count(found.new_failures.len(), "failure")
        ));
    }
    if !found.missing.is_empty() {
        let names = found.missing.iter().take(3).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let more = found.missing.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        return red(format!("tests that ran on the base do not run now: {names}{more}"));
    }
    match (head.end, base.end) {
        (CheckEnd::Exited(0), _) if unnamed > 0 => {
            red(format!("its report counts {} though the command says success", count(unnamed as usize, "failure")))
        }
        (CheckEnd::Exited(0), _) => (Verdict::Green, green_reason(found)),
        (end, CheckEnd::Exited(0)) => red(format!("{}; the base passes", told(end))),
        (end, CheckEnd::NotStarted) => red(format!("{}; on the base it cannot even be started", told(end))),
        (end, before) if end == before && is_explained(head, base) => {
            let known = count(found.known_failures.len(), "failure");
            (Verdict::Green, format!("{known}, and the base has the same"))
        }
        (end, before) => {
            let complaint = if head.complaint.is_empty() { String::new() } else { format!(" (`{}`)", head.complaint) };
            inconclusive(format!(
                "{}{complaint}; the base fails as well ({}), and nothing tells the two failures apart",
                told(end),
                told(before)
            ))
        }
    }
}

/// The verdict on a command that did not come to an end of its own.
fn never_ended(head: &Outcome, base: &Outcome) -> Option<(Verdict, String)> {
    let program = head.absent.as_deref().unwrap_or("sh");
    Some(match (head.end, base.end) {
        (CheckEnd::NotStarted, CheckEnd::NotStarted) => {
            inconclusive(format!("`{program}` was not found on this machine: install it or change the check"))
        }
        (CheckEnd::NotStarted, _) => {
            red(format!("`{program}` cannot be started; on the base the check gets past that"))
        }
        (CheckEnd::TimedOut, CheckEnd::TimedOut) => {
            inconclusive("it did not end in time, and neither does it on the base".to_owned())
        }
        (CheckEnd::TimedOut, _) => red("it did not end in time, as it does on the base".to_owned()),
        (CheckEnd::OverQuota, CheckEnd::OverQuota) => inconclusive(
            "it filled the disk up to its quota, and does so on the base: give it more in overnight.toml".to_owned(),
        ),
        (CheckEnd::OverQuota, _) => red("it filled the disk up to its quota; on the base it does not".to_owned()),
        (CheckEnd::NotRun, _) => inconclusive("not run".to_owned()),
        (CheckEnd::Exited(_) | CheckEnd::Signaled(_), _) => return None,
    })
}

/// Whether names account for the whole of a red exit.
fn is_explained(head: &Outcome, base: &Outcome) -> bool {
    matches!(head.end, CheckEnd::Exited(_))
        && !head.report.broken
        && head.report.unnamed.failed == 0
        && head.report.failed_names().next().is_some()
        && head.report.loose.is_subset(&base.report.loose)
}

fn green_reason(found: &Comparison) -> String {
    match (found.fixed.len(), found.known_failures.len()) {
        (0, 0) => "it passes".to_owned(),
        (fixed, 0) => format!("it passes; {} of the base fixed", count(fixed, "failure")),
        (_, known) => {
            format!("the command says success; its report shows {} that the base has too", count(known, "failure"))
        }
    }
}

fn red(reason: String) -> (Verdict, String) {
    (Verdict::Red, reason)
}

fn inconclusive(reason: String) -> (Verdict, String) {
    (Verdict::Inconclusive, reason)
}

/// An end in words.
pub(crate) fn told(end: CheckEnd) -> String {
    match end {
        CheckEnd::Exited(code) => format!("exit code {code}"),
        CheckEnd::Signaled(signal) => format!("killed by signal {signal}"),
        CheckEnd::TimedOut => "did not end in time".to_owned(),
        CheckEnd::NotStarted => "could not be started".to_owned(),
        CheckEnd::OverQuota => "killed, as the disk quota was used up".to_owned(),
        CheckEnd::NotRun => "not run".to_owned(),
    }
}

/// `1 failure`, `2 failures`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests;
