//! Licences of everything the binary is built from, against a list, without a network.

use std::{path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Complaint;
use crate::house;

/// Licences that allow what we do: use in a binary under MIT or Apache-2.0.
const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
    "OpenSSL",
];

pub(super) fn check() -> Result<Vec<Complaint>> {
    let metadata = house::output(Command::new(env!("CARGO")).current_dir(house::root()).args([
        "metadata",
        "--format-version=1",
        "--offline",
        "--locked",
        "--filter-platform=x86_64-unknown-linux-gnu",
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let resolved =
        metadata.pointer("/resolve/nodes").and_then(Value::as_array).context("cargo metadata resolves nothing")?;
    let used: Vec<&str> = resolved.iter().filter_map(|node| node.get("id")?.as_str()).collect();
    let packages = metadata.get("packages").and_then(Value::as_array).context("cargo metadata names no packages")?;
    let mut complaints = Vec::new();
    for package in packages {
        let text = |key: &str| package.get(key).and_then(Value::as_str).unwrap_or_default();
        if used.contains(&text("id")) && !is_allowed(text("license")) {
            let what = format!(
                "{} {} is under `{}`: choose another package, or allow the licence in xtask/src/tidy/licences.rs",
                text("name"),
                text("version"),
                text("license")
            );
            complaints.push(Complaint::of_file(Path::new("Cargo.lock"), what));
        }
    }
    Ok(complaints)
}

/// Whether an SPDX expression can be met by allowed licences. `A/B` is the older spelling of `A OR B`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, rest) = any(&words);
    met && rest.is_empty()
}

fn any<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = all(words);
    while let ["OR", more @ ..] = rest {
        let (other, left) = all(more);
        (met, rest) = (met | other, left);
    }
    (met, rest)
}

fn all<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut met, mut rest) = one(words);
    while let ["AND", more @ ..] = rest {
        let (other, left) = one(more);
        (met, rest) = (met & other, left);
    }
    (met, rest)
}

fn one<'a>(words: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match words {
        ["(", inner @ ..] => match any(inner) {
            (met, [")", rest @ ..]) => (met, rest),
            _ => (false, words),
        },
        [licence, "WITH", exception, rest @ ..] => {
            (ALLOWED.contains(licence) || ALLOWED.contains(&format!("{licence} WITH {exception}").as_str()), rest)
        }
        [licence, rest @ ..] => (ALLOWED.contains(licence), rest),
        [] => (false, words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_as_spdx_means_them() {
        assert!(is_allowed("MIT"));
        assert!(is_allowed("MIT/Apache-2.0"));
        assert!(is_allowed("GPL-3.0 OR MIT"));
        assert!(is_allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(is_allowed("Apache-2.0 WITH LLVM-exception"));
        assert!(!is_allowed("MIT AND GPL-3.0"));
        assert!(!is_allowed("(MIT OR ISC) AND GPL-3.0"));
        assert!(!is_allowed(""));
        assert!(!is_allowed("(MIT"));
    }
}
