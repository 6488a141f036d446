//! Serde's words about a wrong body or front matter, made into a fault that a person can act on.

use std::fmt;

use domain::Fault;

/// Parts what happened from its hint in the one text that serde lets an error be.
const HINT: char = '\u{1f}';

/// A fault on its way through serde; [`explain`] gets both its parts back.
#[derive(Debug)]
pub struct Mistake(Fault);

impl From<Fault> for Mistake {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.hint {
            Some(hint) => write!(f, "{}{HINT}{hint}", self.0.what),
            None => f.write_str(&self.0.what),
        }
    }
}

/// The message of a serde error as one text, for where a fault of its own would lose the place.
pub fn in_words(message: &str) -> String {
    message.replace(HINT, ": ")
}

/// What is wrong, and what to do about it where that is known: the hint of a [`Mistake`], or the nearest known name.
pub(crate) fn explain(message: &str) -> Fault {
    if let Some((what, hint)) = message.rsplit_once(HINT) {
        return Fault::input(what).hint(hint);
    }
    // serde lists every name there is; a person wants the nearest one.
    let fault = Fault::input(message.split(", expected one of").next().unwrap_or(message));
    match suggestion(message) {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

/// For serde's "unknown field" and "unknown variant": the nearest name there is, or all of them.
fn suggestion(message: &str) -> Option<String> {
    let (unknown, known) = message.strip_prefix("unknown ").and_then(|rest| rest.split_once(", expected "))?;
    let unknown = unknown.split('`').nth(1)?;
    // The names stand between backticks: every second piece.
    let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let nearest = names.iter().map(|name| (distance(unknown, name), name)).min()?;
    if nearest.0 <= 1 + unknown.chars().count() / 3 {
        return Some(format!("did you mean `{}`?", nearest.1));
    }
    Some(format!("known here: {}", names.join(", ")))
}

/// How many letters must be changed, added, left out or swapped with their neighbour to make `b` of `a` (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_far_ones_are_listed() {
        let known = "unknown field `X`, expected one of `budget`, `checks`, `goal`";
        let ask = |name: &str| suggestion(&known.replace('X', name)).unwrap();
        assert_eq!(ask("bugdet"), "did you mean `budget`?");
        assert_eq!(ask("check"), "did you mean `checks`?");
        assert_eq!(ask("colour"), "known here: budget, checks, goal");
        assert_eq!(suggestion("unknown field `x`, expected `text`"), Some("known here: text".to_owned()));
        assert_eq!(suggestion("invalid type: integer"), None);
    }
}
