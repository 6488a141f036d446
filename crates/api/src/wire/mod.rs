//! What goes over the wire: JSON bodies of requests and answers, for the server and for every client alike.
//!
//! Requests refuse unknown fields; answers may gain fields, so clients ignore what they do not know. Times are RFC 3339 in
//! UTC, task ids are written `T-12`. The small values of `domain` (verdicts, risks, outcomes, messages) appear as they are;
//! everything that is composed for a reader has its own type here.

pub mod agents;
pub mod ask;
pub mod attach;
pub mod brief;
pub mod environment;
pub mod house;
pub mod log;
pub mod models;
pub mod problem;
pub mod task;

pub use agents::{Agent, Agents, Profiles, ProfilesQuery};
pub use ask::{
    Answer, Approve, Cancel, Comment, Empty, Fork, KeyQuery, ListQuery, Plan, Pull, Reject, Replay, Retry, Rewind,
    SetKey, StepComment, Submit,
};
pub use attach::{Attach, Preview};
pub use brief::Brief;
pub use environment::{
    BuildEnvironment, CheckEnvironment, Environment, EnvironmentQuery, Line, Secret, Secrets, SecretsQuery, SetSecret,
};
pub use house::{Doctor, Finding, Kept, Key, Keys, Status, Stopping, TaskCounts, Wall, Walls};
pub use log::{ExportLine, Hello, Log, LogBody, LogEntry, LogEvent, LogLine, TaskEvent};
pub use models::{AskModels, Model, Models, Purse, Purses, TryModel};
pub use problem::Problem;
pub use task::{Attempt, Blame, BlamedLine, Inbox, Pulled, Said, Spoken, Submitted, Summary, Task, Tasks};

/// Names the media type of an error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// The commit that a diff shows, and that an approval of it must name.
pub const HEAD_HEADER: &str = "x-overnight-head";
/// The commit that a diff starts from.
pub const BASE_HEADER: &str = "x-overnight-base";
/// The daemon's version; on every answer.
pub const VERSION_HEADER: &str = "x-overnight-version";
/// The same key on the same task is the same request and gets the same answer.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// A client whose `User-Agent` starts like this speaks for a person at a command line.
pub const COMMAND_LINE_AGENT: &str = "overnight-cli/";

/// A task id as `T-12`.
pub mod task_id {
    use domain::ids::TaskId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(id: &TaskId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TaskId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
