//! Port of the record, implemented by `store`: every exchange with a model, so that a run can be looked into and run again without one.

use bytes::Bytes;
use jiff::Timestamp;

use super::{BoxFuture, model::Protocol};
use crate::{
    Fault,
    ids::{AttemptKey, TurnNo},
};

/// Exchanges of attempts, in order. Kept small (each request mostly repeats the one before it), and for a set time.
pub trait Records: Send + Sync {
    /// Written behind every earlier write of this process. Need not be awaited; nobody's work depends on it.
    fn append(&self, key: AttemptKey, exchange: Exchange) -> BoxFuture<'_, Result<(), Fault>>;

    /// All exchanges of an attempt, in the order in which they ended. `NotFound` when there are none: the attempt made no call, or its
    /// record has expired.
    fn exchanges(&self, key: AttemptKey) -> BoxFuture<'_, Result<Vec<Exchange>, Fault>>;

    /// Removes the records of attempts whose last exchange is older. Returns how many attempts.
    fn expire(&self, before: Timestamp) -> BoxFuture<'_, Result<u64, Fault>>;
}

/// One request and what came back, without keys and redacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    pub turn: TurnNo,
    /// When the request went out.
    pub at: Timestamp,
    pub protocol: Protocol,
    /// With its query, as the client asked for it.
    pub path: String,
    /// As the client sent it.
    pub request: Bytes,
    pub status: u16,
    pub content_type: String,
    /// As the client got it.
    pub response: Bytes,
    /// Whether the response came to its end.
    pub whole: bool,
}
