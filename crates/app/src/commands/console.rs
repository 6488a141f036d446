//! How tasks look in words: states, ages, amounts. Shared by the commands that print them.

use api::{telling, wire::Summary};
use domain::{
    budget::{Budget, Spend},
    check::Verdict,
    summary::{DefaultAnswer, Need, Phase, Wanted},
    task::Outcome,
};
use jiff::Timestamp;

use crate::terminal::{Paint, Screen, clean};

/// Where a task is, in a few words, and in which colour.
pub fn state(task: &Summary) -> (Paint, String) {
    match task.phase {
        Phase::NeedsYou => match task.needs.first().map(|need| &need.wanted) {
            Some(Wanted::Answer { .. }) => (Paint::Yellow, "asks you".to_owned()),
            Some(Wanted::Plan { .. }) => (Paint::Yellow, "plan to approve".to_owned()),
            Some(Wanted::Review { verdict, problem, .. }) => {
                let paint =
                    if problem.is_none() && *verdict == Some(Verdict::Green) { Paint::Green } else { Paint::Yellow };
                (paint, format!("review · {}", verdict.map_or("unchecked", Verdict::word)))
            }
            Some(Wanted::Help { .. }) | None => (Paint::Red, "needs help".to_owned()),
        },
        Phase::Working | Phase::Landing | Phase::Closing => {
            let word = match task.detail.as_str() {
                "turning" => "agent at work",
                "snapshotting" => "taking a snapshot",
                "awaiting_answer" => "asks you",
                "resting" => "waits to try again",
                "nothing_to_do" => "nothing to do",
                word => word,
            };
            let percent = task.percent.filter(|_| task.detail == "turning").map(|percent| format!(" · {percent} %"));
            (Paint::Cyan, format!("{word}{}", percent.unwrap_or_default()))
        }
        Phase::Ended => match &task.outcome {
            Some(Outcome::Landed { .. } | Outcome::Reported { .. }) => (Paint::Green, task.detail.clone()),
            Some(Outcome::Failed { .. }) => (Paint::Red, task.detail.clone()),
            Some(Outcome::NothingToDo { .. }) => (Paint::Dim, "nothing to do".to_owned()),
            Some(Outcome::Rejected { .. } | Outcome::Canceled { .. }) | None => (Paint::Dim, task.detail.clone()),
        },
    }
}

/// What a decision is about, in lines, and the command that makes it.
pub fn wanted(task: &Summary, need: &Need) -> (Vec<String>, String) {
    let id = task.id;
    match &need.wanted {
        Wanted::Answer { question, choices, default } => {
            let mut lines = vec![question.clone()];
            lines.extend(choices.iter().map(|choice| format!("- {choice}")));
            let silence = |default: &DefaultAnswer| {
                format!("without an answer by {}: {}", telling::clock(default.at), default.answer)
            };
            lines.extend(default.as_ref().map(silence));
            (lines, format!("overnight answer {id} \"…\""))
        }
        Wanted::Plan { plan } => {
            (vec![plan.clone()], format!("overnight approve {id}   (or: overnight plan {id} --comment 3 \"…\")"))
        }
        Wanted::Review { head, problem, risks, .. } => {
            let mut lines = vec![format!("the change is {}", head.short())];
            lines.extend(problem.clone());
            let accept: String = risks.iter().map(|risk| format!(" --accept {}", risk.word())).collect();
            (lines, format!("overnight diff {id}   then: overnight approve {id}{accept}"))
        }
        Wanted::Help { problem } => (
            vec![problem.clone()],
            format!("overnight retry {id}   (or: overnight comment {id} \"…\", overnight reject {id})"),
        ),
    }
}

/// How a task ended, in a sentence; empty while it has not.
pub fn outcome(task: &Summary) -> Vec<String> {
    match &task.outcome {
        None => Vec::new(),
        Some(Outcome::Landed { on, commit, by, hint }) => {
            let mut lines = vec![format!("landed on {on} as {}, approved by {by}", commit.short())];
            lines.extend(hint.clone());
            lines
        }
        Some(Outcome::Reported { .. }) => vec![format!("the report is in `overnight show {}`", task.id)],
        Some(Outcome::Rejected { by, why }) => vec![because(format!("rejected by {by}"), why.as_deref())],
        Some(Outcome::Canceled { by, why }) => vec![because(format!("canceled by {by}"), why.as_deref())],
        Some(Outcome::Failed { why }) => vec![format!("failed: {why}")],
        Some(Outcome::NothingToDo { summary }) if summary.trim().is_empty() => vec!["nothing was changed".to_owned()],
        Some(Outcome::NothingToDo { summary }) => vec![format!("nothing was changed: {summary}")],
    }
}

fn because(what: String, why: Option<&str>) -> String {
    match why {
        Some(why) => format!("{what}: {why}"),
        None => what,
    }
}

/// Time since, in its largest unit: `12s`, `3m`, `5h`, `2d`.
pub fn age(since: Timestamp) -> String {
    let seconds = Timestamp::now().as_second().saturating_sub(since.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A length of time: `12s`, `3m05s`, `1h20m`.
pub fn length(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

pub fn spend(spend: &Spend) -> String {
    if spend.calls == 0 {
        return "nothing yet".to_owned();
    }
    let cost = match (spend.unpriced_calls, spend.cost.0) {
        (0, _) => spend.cost.to_string(),
        (_, 0) => "price unknown".to_owned(),
        (_, _) => format!("{} or more", spend.cost),
    };
    format!("{cost} · {} tokens · {} model calls", grouped(spend.usage.total()), spend.calls)
}

pub fn budget(budget: &Budget) -> String {
    let mut limits = Vec::new();
    limits.extend(budget.cost.map(|cost| cost.to_string()));
    limits.extend(budget.tokens.map(|tokens| format!("{} tokens", grouped(tokens))));
    limits.extend(budget.rounds.map(|rounds| format!("{rounds} rounds")));
    limits.extend(budget.wall_s.map(length));
    if limits.is_empty() { "no limit".to_owned() } else { limits.join(", ") }
}

/// A size on disk or in memory: `512 B`, `3.4 MB`, `12 GB`.
pub fn bytes(bytes: u64) -> String {
    let (scale, unit) = match bytes {
        0..1_000 => return format!("{bytes} B"),
        1_000..1_000_000 => (1e3, "kB"),
        1_000_000..1_000_000_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    let number = bytes as f64 / scale;
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

/// Adds a name and its value, whose further lines stand under the first. Nothing for an empty value.
pub fn row(screen: &Screen, text: &mut String, name: &str, value: &str) {
    if value.trim().is_empty() {
        return;
    }
    let mut lines = value.trim_end().lines();
    let first = lines.next().unwrap_or_default();
    text.push_str(&format!("  {}  {}\n", screen.paint(Paint::Dim, format!("{name:<10}")), clean(first)));
    for line in lines {
        text.push_str(&format!("  {:<10}  {}\n", "", clean(line)));
    }
}

/// Text in lines of at most `width` characters, broken at blanks; a longer word has a line of its own.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `1 turn`, `2 turns`.
pub fn counted(number: u32, what: &str) -> String {
    format!("{} {what}{}", grouped(number.into()), if number == 1 { "" } else { "s" })
}

/// Digits in groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([length(9), length(185), length(4800)], ["9s", "3m05s", "1h20m"]);
        assert_eq!(budget(&Budget::default()), "no limit");
        assert_eq!(wrapped("one two  three four", 9), ["one two", "three", "four"]);
        assert_eq!([bytes(512), bytes(3_400_000), bytes(12_345_678_901)], ["512 B", "3.4 MB", "12 GB"]);
    }
}
