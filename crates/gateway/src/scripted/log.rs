//! What the scripted provider was asked, request by request.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ReplyUsage;

/// One request, written when its answer is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When the request was there in full.
    pub at: Timestamp,
    /// `anthropic`, `gemini` or `openai`.
    pub dialect: String,
    pub model: String,
    pub streamed: bool,
    /// The same for all requests that begin with the same user message.
    pub conversation: String,
    /// The script's conversation that was played; `None` when none matches.
    pub matched: Option<String>,
    /// The model's messages in the request: which reply was asked for.
    pub index: usize,
    /// Of the request's body.
    pub bytes: usize,
    /// Whether the conversation's request before this one is a prefix of it, but for the brackets that close it. `None`: it is the first.
    pub prefix_kept: Option<bool>,
    /// The same for all requests with the same system prompt and tools.
    pub head: String,
    /// The key that came with it.
    pub key: Option<String>,
    pub status: u16,
    /// Of a reply.
    pub usage: Option<ReplyUsage>,
    pub end: End,
}

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It was given to the last byte.
    Completed,
    /// The client left, or the script cut it off.
    Cut,
}

/// Where records go. Clones are the same log.
#[derive(Clone, Debug)]
pub struct Log(Arc<Mutex<Place>>);

#[derive(Debug)]
enum Place {
    Memory(Vec<Record>),
    File(File),
}

impl Log {
    pub fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(Place::Memory(Vec::new()))))
    }

    /// Appends to a file, a line of JSON for each record.
    pub fn to_file(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(Place::File(file)))))
    }

    /// The records of a log in memory; one in a file is read there.
    pub fn records(&self) -> Vec<Record> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::Memory(records) => records.clone(),
            Place::File(_) => Vec::new(),
        }
    }

    pub(super) fn write(&self, record: Record) {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Place::Memory(records) => records.push(record),
            Place::File(file) => {
                let line = serde_json::to_string(&record).map_err(io::Error::other);
                // In one piece, so that lines never mix.
                if let Err(error) = line.and_then(|line| file.write_all(format!("{line}\n").as_bytes())) {
                    tracing::error!(%error, "the scripted provider cannot write its log");
                }
            }
        }
    }
}
