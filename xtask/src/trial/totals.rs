//! Totals of a test run, read from what the runners print.

use std::fmt;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Whose words are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runner {
    Cargo,
    Nextest,
}

impl Totals {
    /// Adds a line of `runner` if it is a summary; other lines change nothing.
    pub(super) fn read(&mut self, runner: Runner, line: &str) {
        let line = line.trim();
        let summary = match runner {
            Runner::Cargo => line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")),
            // It repeats what a failed test's own process printed, whose summary is no second failure.
            Runner::Nextest => line.strip_prefix("Summary ").and_then(|rest| rest.split_once(": ")),
        };
        let Some((_, summary)) = summary else { return };
        for count in summary.split([';', ',']) {
            let mut words = count.split_whitespace();
            let (Some(number), Some(what)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
            else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" | "timed" | "exec" => self.failed += number,
                "ignored" | "skipped" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_both_runners_add_up() {
        let mut totals = Totals::default();
        let mut cargo = |line| totals.read(Runner::Cargo, line);
        cargo("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.10s");
        cargo("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        cargo("test tests::failed ... FAILED");
        assert_eq!(totals, Totals { passed: 13, failed: 2, skipped: 1 });
        let mut nextest = |line| totals.read(Runner::Nextest, line);
        nextest(
            "    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.00s",
        );
        nextest("     Summary [   1.205s] 120 tests run: 118 passed (2 slow), 1 failed, 1 timed out, 4 skipped");
        assert_eq!(totals.to_string(), "131 passed, 4 failed, 5 skipped");
    }
}
