//! JSON-RPC, a message a line, with a program that is not trusted to keep to it.

use std::time::Duration;

use bytes::Bytes;
use domain::{
    Fault, FaultClass,
    ports::sandbox::{Conversation, Exit, Lines, Process},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::AbortHandle};

use crate::clip::{self, Room};

/// Lines that are no message, and their bytes, before the program is given up: some print warnings.
const MAX_GARBAGE: (u32, usize) = (200, 1 << 20);
/// Messages that the program has not read yet.
const MAX_UNREAD: usize = 256;
/// How long it may take to go when its input is closed, and to be gone when its output is.
const GRACE: Duration = Duration::from_secs(2);
const LAST_WORDS: Room = Room { head: 0, tail: 2 * 1024 };

/// What came.
#[derive(Debug)]
pub(super) enum Incoming {
    Response { id: u64, outcome: Result<Value, Refusal> },
    Request { id: Value, method: String, params: Value },
    Notification { method: String, params: Value },
}

/// An error that was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.message.is_empty() { "it gave no reason" } else { &self.message })?;
        let details = match &self.data {
            Value::Object(data) => data.get("details").or_else(|| data.get("message")).and_then(Value::as_str),
            Value::String(text) => Some(text.as_str()),
            _ => None,
        };
        details.filter(|details| !self.message.contains(details)).map_or(Ok(()), |details| write!(f, ": {details}"))
    }
}

/// Why there is nobody to talk with any more; for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// It ended, or stopped talking.
    Ended(String),
    /// What it says is not the protocol.
    Garbage(String),
}

#[derive(Deserialize)]
struct Envelope {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    result: Option<Value>,
    error: Option<Value>,
}

/// The other side.
pub(super) struct Peer {
    process: Box<dyn Process>,
    lines: Box<dyn Lines>,
    /// `None` once its input is closed.
    out: Option<mpsc::Sender<Bytes>>,
    writing: AbortHandle,
    asked: u64,
    garbage: (u32, usize),
    /// The last line that was no message.
    last_garbage: String,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

impl Peer {
    pub fn new(conversation: Conversation) -> Self {
        let Conversation { process, mut input, lines } = conversation;
        let (out, mut messages) = mpsc::channel::<Bytes>(MAX_UNREAD);
        // Beside the reading: a program that waits to be read may not read meanwhile.
        let writing = tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                if input.write(message).await.is_err() {
                    // Its end shows on its output.
                    return;
                }
            }
        });
        let writing = writing.abort_handle();
        Self { process, lines, out: Some(out), writing, asked: 0, garbage: (0, 0), last_garbage: String::new() }
    }

    /// The next line as it is, before the protocol begins.
    pub async fn line(&mut self) -> Result<String, Gone> {
        match self.lines.next().await {
            Ok(Some(line)) => Ok(String::from_utf8_lossy(&line).into_owned()),
            Ok(None) | Err(_) => Err(self.ended().await),
        }
    }

    /// The next message. Can be dropped and called again.
    pub async fn next(&mut self) -> Result<Incoming, Gone> {
        loop {
            let line = match self.lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Err(self.ended().await),
                Err(fault) if fault.class == FaultClass::Input => {
                    self.count_garbage(fault.to_string(), 0)?;
                    continue;
                }
                Err(_) => return Err(self.ended().await),
            };
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            match serde_json::from_slice::<Envelope>(&line).ok().and_then(read) {
                Some(message) => return Ok(message),
                None => {
                    let shown = &line[..line.len().min(200)];
                    self.count_garbage(String::from_utf8_lossy(shown).into_owned(), line.len())?;
                }
            }
        }
    }

    fn count_garbage(&mut self, line: String, bytes: usize) -> Result<(), Gone> {
        self.garbage = (self.garbage.0 + 1, self.garbage.1 + bytes);
        self.last_garbage = line;
        if self.garbage.0 > MAX_GARBAGE.0 || self.garbage.1 > MAX_GARBAGE.1 {
            return Err(Gone::Garbage(format!("it prints what is not the protocol: {}", self.last_garbage)));
        }
        Ok(())
    }

    /// Asks for something; the answer comes by [`Peer::next`], under the number returned.
    pub fn request(&mut self, method: &str, params: &Value) -> Result<u64, Gone> {
        self.asked += 1;
        self.send(&json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params}))?;
        Ok(self.asked)
    }

    pub fn notify(&mut self, method: &str, params: &Value) -> Result<(), Gone> {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}))
    }

    pub fn answer(&mut self, id: &Value, result: &Value) -> Result<(), Gone> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
    }

    pub fn refuse(&mut self, id: &Value, code: i64, message: &str) -> Result<(), Gone> {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}))
    }

    fn send(&mut self, message: &Value) -> Result<(), Gone> {
        match self.out.as_ref().map(|out| out.try_send(format!("{message}\n").into())) {
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                Err(Gone::Garbage(format!("it asks, and does not read the answers: {MAX_UNREAD} wait")))
            }
            // One that has ended is told of by its output.
            Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => Ok(()),
        }
    }

    /// What it came to, once its output has ended.
    async fn ended(&mut self) -> Gone {
        let how = match self.process.wait(GRACE).await {
            None => "it closed its output and goes on".to_owned(),
            Some(Exit::Code(code)) => format!("it ended with exit code {code}"),
            Some(Exit::Signal(signal)) => format!("it was killed by signal {signal}"),
            Some(Exit::TimedOut) => "it was killed because it ran for too long".to_owned(),
            Some(Exit::OverQuota { held, quota }) => {
                format!("it was killed: {}", crate::prompts::over_quota(held, quota))
            }
            Some(Exit::NotStarted) => "it cannot be started in the sandbox".to_owned(),
        };
        let words = clip::since(&self.process.output(), 0, LAST_WORDS).text;
        let words = [words.trim(), self.last_garbage.trim()].into_iter().find(|words| !words.is_empty());
        Gone::Ended(match words {
            Some(words) => format!("{how}: {words}"),
            None => format!("{how}, and said nothing"),
        })
    }

    /// Lets it end by itself, which gives it time to write down its session, and kills what remains.
    pub async fn end(mut self) {
        // The writer ends with the last message, and closes the input.
        self.out = None;
        let drained =
            async { while let Ok(Some(_)) | Err(Fault { class: FaultClass::Input, .. }) = self.lines.next().await {} };
        let _ = tokio::time::timeout(GRACE, drained).await;
        self.process.kill().await;
    }

    pub async fn kill(mut self) {
        self.process.kill().await;
    }
}

/// Fields that are missing or wrong make it no message.
fn read(envelope: Envelope) -> Option<Incoming> {
    let Envelope { id, method, params, result, error } = envelope;
    let id = id.filter(|id| !id.is_null());
    match (id, method, error) {
        (Some(id), Some(method), _) => Some(Incoming::Request { id, method, params }),
        (None, Some(method), _) => Some(Incoming::Notification { method, params }),
        (Some(id), None, Some(error)) if !error.is_null() => {
            let refusal = serde_json::from_value(error.clone())
                .unwrap_or_else(|_| Refusal { message: error.to_string(), ..Refusal::default() });
            Some(Incoming::Response { id: id.as_u64()?, outcome: Err(refusal) })
        }
        (Some(id), None, _) => Some(Incoming::Response { id: id.as_u64()?, outcome: Ok(result.unwrap_or_default()) }),
        (None, None, _) => None,
    }
}
