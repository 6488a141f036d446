//! A model provider that plays a script: the boring second implementation of a provider, in all protocols, streamed and not.
//!
//! It keeps no conversation (but which one a response belongs to, as `OpenAI` does): which reply comes next is told by the number of the model's messages in the request. A run that
//! is cut off and goes on gets the replies it would have had.

mod ask;
mod gemini;
mod log;
mod responses;
mod serve;
mod shell;
mod wire;

use std::{convert::Infallible, io::Write, net::Ipv4Addr, path::PathBuf};

use domain::Fault;
use serde::Deserialize;
use tokio::net::TcpListener;

pub use log::{End, Log, Record};
pub use serve::serve;

/// What is said to whom.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Before each reply, in milliseconds.
    #[serde(default)]
    pub latency_ms: u64,
    /// The first one that matches is played.
    pub conversations: Vec<Conversation>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conversation {
    /// Must be in what the user says before the model's first reply. Empty matches all.
    #[serde(default, rename = "match")]
    pub matches: String,
    pub replies: Vec<Reply>,
    /// Said after the last reply; without it, asking on is an error.
    #[serde(default)]
    pub default: Option<Reply>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reply {
    pub text: String,
    /// Reasoning before the text, which the client must give back unchanged where its dialect signs it.
    pub thinking: String,
    pub tools: Vec<Tool>,
    /// A command, run by a call of whatever tool for that the request offers, with whatever else its schema requires. In a
    /// conversation with such a reply, a request without any such tool is one that agents make aside (for a title, for a
    /// guess at what is meant): it is answered with a word, and no reply is used up.
    pub shell: Option<String>,
    /// Absent: the output cap was reached in none of the replies.
    pub stop: Option<ReplyStop>,
    /// Absent: made up from the sizes of request and reply.
    pub usage: Option<ReplyUsage>,
    /// Must be in what came after the model's last message; otherwise the answer is an error that says so.
    pub when: Option<String>,
    pub fault: Option<ReplyFault>,
    /// How often the fault comes before the reply does. Absent: always.
    pub fault_times: Option<u32>,
    /// Counts the fault over all conversations, and not in each anew: for clients that begin another one after it.
    pub fault_is_shared: bool,
    /// Of a cut stream: after so many bytes instead of half its events.
    pub cut_at: Option<usize>,
    /// Sent with a status fault, in seconds.
    pub retry_after: Option<f64>,
    /// Instead of the script's.
    pub latency_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    pub arguments: serde_json::Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyStop {
    Length,
    Refused,
}

/// Tokens, as in [`domain::budget::Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReplyUsage {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
}

/// What goes wrong instead of, or in, a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ReplyFault {
    /// `cut`: the connection ends in the middle of the stream.
    Cut,
    /// `stall`: the stream begins and nothing more comes.
    Stall,
    /// `silent`: nothing ever comes.
    Silent,
    /// `drop`: the connection ends before the stream begins.
    Drop,
    /// `error_event`: the stream breaks off with an error of the provider's.
    ErrorEvent,
    /// `garbage`: events that are no JSON.
    Garbage,
    /// `empty`: success, without a body.
    Empty,
    /// `html`: success, with a web page.
    Html,
    /// `json_error`: success, with a JSON error.
    JsonError,
    /// `no_usage`: the reply, without its usage.
    NoUsage,
    /// `invalid_json_arguments`: the reply, with tool arguments that are no JSON.
    InvalidJsonArguments,
    /// `quota`: 429, and no waiting helps.
    Quota,
    /// `429` and the like: this status, with an error that fits it.
    Status(u16),
}

impl TryFrom<String> for ReplyFault {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Ok(match name.as_str() {
            "cut" => Self::Cut,
            "stall" => Self::Stall,
            "silent" => Self::Silent,
            "drop" => Self::Drop,
            "error_event" => Self::ErrorEvent,
            "garbage" => Self::Garbage,
            "empty" => Self::Empty,
            "html" => Self::Html,
            "json_error" => Self::JsonError,
            "no_usage" => Self::NoUsage,
            "invalid_json_arguments" => Self::InvalidJsonArguments,
            "quota" => Self::Quota,
            status => match status.parse() {
                Ok(status @ 300..=599) => Self::Status(status),
                _ => return Err(format!("`{name}` is no fault that the scripted provider knows")),
            },
        })
    }
}

impl Script {
    /// Reads a script. `Input`: it cannot be read; says where.
    pub fn parse(json: &str) -> Result<Self, Fault> {
        serde_json::from_str(json).map_err(|err| Fault::input(format!("the script cannot be read: {err}")))
    }
}

const USAGE: &str = "scripted-model --script FILE --log FILE [--port N]";

/// Runs a scripted provider as a process of its own: `--script FILE --log FILE [--port N]`. Prints `listening on
/// http://127.0.0.1:PORT` once it does, and never returns unless it cannot.
pub fn main_args(args: impl IntoIterator<Item = String>) -> Result<Infallible, Fault> {
    let (mut script, mut log, mut port) = (None, None, 0);
    let mut args = args.into_iter();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| Fault::input(format!("`{name}` wants a value")).hint(USAGE))?;
        match name.as_str() {
            "--script" => script = Some(PathBuf::from(value)),
            "--log" => log = Some(PathBuf::from(value)),
            "--port" => {
                port = value.parse().map_err(|_| Fault::input(format!("`{value}` is no port")).hint(USAGE))?;
            }
            _ => return Err(Fault::input(format!("`{name}` is unknown")).hint(USAGE)),
        }
    }
    let (Some(script), Some(log)) = (script, log) else {
        return Err(Fault::input("a script and a log are needed").hint(USAGE));
    };
    let text = std::fs::read_to_string(&script)
        .map_err(|err| Fault::input(format!("the script {} cannot be read: {err}", script.display())))?;
    let script = Script::parse(&text).map_err(|fault| fault.at(script.display()))?;
    let log = Log::to_file(&log)
        .map_err(|err| Fault::environment(format!("the log {} cannot be written: {err}", log.display())))?;
    let no_start = |err| Fault::environment(format!("the scripted provider cannot start on port {port}: {err}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(no_start)?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(no_start)?;
        let address = listener.local_addr().map_err(no_start)?;
        let mut out = std::io::stdout();
        writeln!(out, "listening on http://{address}").and_then(|()| out.flush()).map_err(no_start)?;
        Ok(serve(listener, script, log).await)
    })
}
