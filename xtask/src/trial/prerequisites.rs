//! What the tests need on the machine, and how to get it on Debian.

use std::process::Command;

use anyhow::{Result, bail};

struct Program {
    name: &'static str,
    ask: &'static [&'static str],
    at_least: (u32, u32),
    /// What to type where it lacks.
    mend: &'static str,
}

const APT: &str = "apt-get install";

const PROGRAMS: [Program; 8] = [
    Program {
        name: "rustc",
        ask: &["--version"],
        at_least: (1, 95),
        mend: "install rustup (https://rustup.rs), then `rustup toolchain install 1.95`",
    },
    Program { name: "cc", ask: &["-dumpfullversion"], at_least: (8, 0), mend: "gcc libc6-dev" },
    // `git merge-tree --write-tree` and its `--merge-base`.
    Program { name: "git", ask: &["--version"], at_least: (2, 39), mend: "git" },
    Program { name: "node", ask: &["--version"], at_least: (18, 0), mend: "nodejs" },
    Program { name: "npm", ask: &["--version"], at_least: (8, 0), mend: "npm" },
    Program { name: "python3", ask: &["--version"], at_least: (3, 9), mend: "python3" },
    Program { name: "python3", ask: &["-m", "pip", "--version"], at_least: (20, 0), mend: "python3-pip" },
    // What a virtual environment begins with.
    Program { name: "python3", ask: &["-m", "ensurepip", "--version"], at_least: (20, 0), mend: "python3-venv" },
];

/// All that lacks, with the mend for each, in one error.
pub(super) fn check() -> Result<()> {
    let mut lacks = Vec::new();
    for program in &PROGRAMS {
        let told = format!("{} {}", program.name, program.ask.join(" "));
        let found = Command::new(program.name).args(program.ask).output().ok().filter(|output| output.status.success());
        let version = found.as_ref().and_then(|output| version(&String::from_utf8_lossy(&output.stdout)));
        let (major, minor) = program.at_least;
        let mend = if program.mend.contains(' ') && program.mend.contains("rustup") {
            program.mend.to_owned()
        } else {
            format!("{APT} {}", program.mend)
        };
        match version {
            Some(version) if version >= program.at_least => {}
            Some((has, point)) => lacks.push(format!("`{told}` is {has}.{point}, needed is {major}.{minor}: {mend}")),
            None => lacks.push(format!("`{told}` does not run, needed is {major}.{minor}: {mend}")),
        }
    }
    if !lacks.is_empty() {
        bail!("this machine lacks what the tests need:\n  {}", lacks.join("\n  "));
    }
    Ok(())
}

/// The first `major.minor` in a text.
fn version(text: &str) -> Option<(u32, u32)> {
    text.split(|letter: char| !letter.is_ascii_digit() && letter != '.').find_map(|word| {
        let mut parts = word.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_print() {
        assert_eq!(version("rustc 1.95.0 (59807616e 2026-04-14)"), Some((1, 95)));
        assert_eq!(version("v20.20.2\n"), Some((20, 20)));
        assert_eq!(version("12.2.0\n"), Some((12, 2)));
        assert_eq!(version("Python 3.11.2"), Some((3, 11)));
        assert_eq!(version("pip 23.0.1 from x (python 3.11)"), Some((23, 0)));
        assert_eq!(version("none"), None);
    }
}
