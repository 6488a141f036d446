//! Checks and what they say: the judging commands, their results, and the verdict made of them.

use serde::{Deserialize, Serialize};

/// A judging command, run by Overnight on an exact commit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CheckSpec {
    /// Short and unique within a brief; made from the command where nobody gave one.
    pub name: String,
    /// A line for `sh -c`, run in the root of the checkout.
    pub command: String,
    /// `None`: the default of the installation (30 minutes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_s: Option<u64>,
    /// A slow one runs only where every fast one was green.
    #[serde(default, skip_serializing_if = "Tier::is_fast")]
    pub tier: Tier,
}

/// When a check runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    #[default]
    Fast,
    Slow,
}

impl Tier {
    fn is_fast(&self) -> bool {
        *self == Self::Fast
    }
}

impl CheckSpec {
    pub fn from_command(command: impl Into<String>) -> Self {
        let command = command.into();
        Self { name: command.clone(), command, timeout_s: None, tier: Tier::Fast }
    }
}

/// What the checks, minus the base's own failures, say of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Green,
    Red,
    /// Neither can be shown: no check, or a failure that cannot be told from the base's. A person decides, told so.
    Inconclusive,
}

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Red => "red",
            Self::Inconclusive => "inconclusive",
        }
    }
}

/// How one test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TestStatus {
    Passed,
    Failed,
    Skipped,
}

/// How one execution of a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckEnd {
    Exited(i32),
    Signaled(i32),
    TimedOut,
    /// The command could not be started: not found (127) or not executable (126).
    NotStarted,
    /// Killed because the sandbox's disk quota was used up.
    OverQuota,
    /// It was not its turn: a slow one beside a fast one that is not green.
    NotRun,
}

/// What one check says of a head, its base's own result taken into account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRun {
    pub check: CheckSpec,
    pub verdict: Verdict,
    pub end: CheckEnd,
    pub base_end: CheckEnd,
    pub duration_ms: u64,
    /// Tests that ran, by result; totals only, the names are in the lists below.
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
    /// Failed on the base, pass now. At most 50 names each; the full lists are in the log blob.
    pub fixed: Vec<String>,
    /// Pass or absent on the base, fail now.
    pub new_failures: Vec<String>,
    /// Fail on the base too.
    pub known_failures: Vec<String>,
    /// Ran on the base and do not now.
    pub missing: Vec<String>,
    /// One sentence: why this verdict.
    pub reason: String,
    /// Hosts that the check wanted to reach and was not let: `pypi.org:443`. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<String>,
    /// The whole output, as a blob.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<BlobId>,
}

/// Something about a change, besides its checks, that its reader must know before deciding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// The checks did not come out green.
    NotGreen,
    /// The change edits files that checks take from the base.
    ProtectedPaths,
    /// Tests that ran on the base are gone.
    MissingTests,
}

impl Risk {
    /// The word a person types to accept it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NotGreen => "not-green",
            Self::ProtectedPaths => "protected-paths",
            Self::MissingTests => "missing-tests",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        [Self::NotGreen, Self::ProtectedPaths, Self::MissingTests].into_iter().find(|risk| risk.word() == word)
    }
}

/// Everything the checks say of one head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub runs: Vec<CheckRun>,
    /// Changed paths outside the allowed ones: a breach of the contract, makes the verdict red. At most 50.
    pub outside_allowed: Vec<String>,
    /// Changed paths that are protected. At most 50.
    pub protected_touched: Vec<String>,
    /// What the agent is told, at most 4 KB.
    pub digest: String,
    /// Equal for two judgements that failed in the same way; empty when green.
    pub fingerprint: String,
}

impl Judgement {
    /// The risks a person must accept by name before this head can land, in a fixed order.
    pub fn risks(&self) -> Vec<Risk> {
        let mut risks = Vec::new();
        if self.verdict != Verdict::Green {
            risks.push(Risk::NotGreen);
        }
        if !self.protected_touched.is_empty() {
            risks.push(Risk::ProtectedPaths);
        }
        if self.runs.iter().any(|run| !run.missing.is_empty()) {
            risks.push(Risk::MissingTests);
        }
        risks
    }
}

/// A text or file kept outside the journal, by the SHA-256 of its content in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlobId(pub String);

/// The part of a [`Judgement`] that decides what happens next; the whole is kept as the blob `detail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    pub verdict: Verdict,
    pub risks: Vec<Risk>,
    pub fingerprint: String,
    /// At most 4 KB.
    pub digest: String,
    /// The [`Judgement`] as JSON.
    pub detail: BlobId,
}
