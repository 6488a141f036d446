//! Recording: what an attempt's clients sent and got, without its secrets, for looking into it and for playing it again.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use domain::{
    ids::{AttemptKey, TurnNo},
    ports::{
        Clock,
        model::{Access, Credentials, Protocol},
        record::{Exchange, Records},
    },
    redact::Redactor,
};
use jiff::Timestamp;

use crate::start::start;

/// The most that is kept of one answer.
const ANSWER_BYTES: usize = 64 << 20;
/// The most that the calls of one turn hold in memory together: requests under way, and what has come of their answers.
const HELD_BYTES: usize = 160 << 20;
/// What a token is called where it was taken out.
const TOKEN: &str = "OVERNIGHT_TOKEN";
/// Bytes that are compared at a time.
const STRIDE: usize = 256;

/// Records the exchanges of one attempt's turn.
pub(crate) struct Recorder {
    /// `None`: nothing is kept.
    records: Option<Arc<dyn Records>>,
    clock: Arc<dyn Clock>,
    key: AttemptKey,
    turn: TurnNo,
    hidden: Hidden,
    /// The last request in which no secret was found: what the next one begins with alike needs no second look.
    clean: Mutex<Bytes>,
    held: AtomicUsize,
}

impl Recorder {
    /// `token`: the one that opens the gateway's door, which an agent may print as well as any secret.
    pub fn new(
        records: Option<Arc<dyn Records>>,
        clock: Arc<dyn Clock>,
        access: &Access,
        token: Option<&str>,
    ) -> Arc<Self> {
        Arc::new(Self {
            records,
            clock,
            key: access.key,
            turn: access.turn,
            hidden: Hidden::new(&access.redactor, &access.credentials, token),
            clean: Mutex::default(),
            held: AtomicUsize::new(0),
        })
    }

    /// Begins an exchange: `path` with its query, and the request as the client sent it, which `room` was made for.
    pub fn begin(self: &Arc<Self>, protocol: Protocol, path: String, (request, room): (Bytes, Room)) -> Tape {
        let at = self.clock.now();
        Tape { recorder: Arc::clone(self), at, protocol, path, room, request, answer: None, whole: false }
    }

    /// Room for what a call holds in memory.
    pub fn room(self: &Arc<Self>) -> Room {
        Room { of: Arc::clone(self), bytes: 0 }
    }

    fn keep(&self, exchange: Exchange) {
        let Some(records) = self.records.clone() else { return };
        let key = self.key;
        start("a record", async move {
            if let Err(fault) = records.append(key, exchange).await {
                tracing::warn!(attempt = %key, %fault, "an exchange with the model is not in the record");
            }
        });
    }

    fn redacted(&self, bytes: Bytes) -> Bytes {
        self.hidden.redact(bytes)
    }

    /// What a fault says: a provider may repeat what it was sent.
    pub fn redacted_text(&self, text: String) -> String {
        self.hidden.0.iter().fold(text, |text, redactor| redactor.redact_text(&text).unwrap_or(text))
    }

    fn redacted_request(&self, request: Bytes) -> Bytes {
        let mut clean = self.clean.lock().unwrap_or_else(PoisonError::into_inner);
        let strides = request.chunks_exact(STRIDE).zip(clean.chunks_exact(STRIDE));
        let same = strides.take_while(|(new, old)| new == old).count() * STRIDE;
        let is_clean = self.hidden.0.iter().all(|redactor| {
            // A secret may begin in what is the same and end in what is not.
            let from = same.saturating_sub(redactor.longest());
            redactor.found(&request[from..]).next().is_none()
        });
        if is_clean {
            *clean = request.clone();
            return request;
        }
        drop(clean);
        self.redacted(request)
    }
}

/// What an attempt's record must not hold.
pub(crate) struct Hidden(Vec<Arc<Redactor>>);

impl Hidden {
    pub fn new(redactor: &Arc<Redactor>, credentials: &Credentials, token: Option<&str>) -> Self {
        let credentials = credentials.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let keys = credentials.filter(|(name, value)| !value.contains("://") && !is_open(name));
        let own = Redactor::new(keys.chain(token.map(|token| (TOKEN, token))));
        Self([Arc::clone(redactor), Arc::new(own)].into_iter().filter(|one| !one.is_empty()).collect())
    }

    pub fn redact(&self, bytes: Bytes) -> Bytes {
        self.0.iter().fold(bytes, |bytes, redactor| redactor.redact(&bytes).map_or(bytes, Bytes::from))
    }
}

/// Whether a variable holds nothing that must be hidden: a place, or a version.
fn is_open(variable: &str) -> bool {
    let (name, _) = variable.split_once('@').unwrap_or((variable, ""));
    ["_ENDPOINT", "_HOST", "_REGION", "_URL", "_VERSION"].iter().any(|end| name.ends_with(end))
}

/// What one call holds in memory, of what all of its turn may hold.
pub(crate) struct Room {
    of: Arc<Recorder>,
    bytes: usize,
}

impl Room {
    /// Takes more. False: there is no more.
    pub fn take(&mut self, bytes: usize) -> bool {
        let held = self.of.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        held + bytes <= HELD_BYTES
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One exchange under way. Dropped, it goes into the record as far as it came; one that was not answered at all does not.
pub(crate) struct Tape {
    recorder: Arc<Recorder>,
    at: Timestamp,
    protocol: Protocol,
    path: String,
    room: Room,
    request: Bytes,
    answer: Option<Answer>,
    whole: bool,
}

struct Answer {
    status: u16,
    content_type: String,
    body: BytesMut,
    /// Whether all that came is in `body`.
    complete: bool,
}

impl Tape {
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// An answer begins.
    pub fn answered(&mut self, status: u16, content_type: &str) {
        self.answer =
            Some(Answer { status, content_type: content_type.to_owned(), body: BytesMut::new(), complete: true });
    }

    pub fn piece(&mut self, piece: &[u8]) {
        let Some(answer) = &mut self.answer else { return };
        answer.complete =
            answer.complete && answer.body.len() + piece.len() <= ANSWER_BYTES && self.room.take(piece.len());
        if answer.complete {
            answer.body.extend_from_slice(piece);
        }
    }

    /// What has come, if nothing of it was too much.
    pub fn body(&self) -> Option<&[u8]> {
        self.answer.as_ref().filter(|answer| answer.complete).map(|answer| &answer.body[..])
    }

    /// The answer has come to its end.
    pub fn end(&mut self) {
        self.whole = self.answer.as_ref().is_some_and(|answer| answer.complete);
    }

    /// An answer in one piece.
    pub fn all(mut self, status: u16, content_type: &str, body: &[u8]) {
        self.answered(status, content_type);
        self.piece(body);
        self.end();
    }

    /// Nothing of it was delivered: there was no exchange.
    pub fn erase(mut self) {
        self.answer = None;
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        let Some(Answer { status, content_type, body, .. }) = self.answer.take() else { return };
        if self.recorder.records.is_none() {
            return;
        }
        self.recorder.keep(Exchange {
            turn: self.recorder.turn,
            at: self.at,
            protocol: self.protocol,
            path: std::mem::take(&mut self.path),
            request: self.recorder.redacted_request(std::mem::take(&mut self.request)),
            status,
            content_type,
            response: self.recorder.redacted(body.freeze()),
            whole: self.whole,
        });
    }
}

#[cfg(test)]
mod tests {
    use domain::{
        budget::Budget,
        ids::{AttemptNo, TaskId},
        ports::model::{CallNews, CallWatch, Credentials},
    };

    use super::*;

    struct Nobody;

    impl CallWatch for Nobody {
        fn tell(&self, _: CallNews) {}
    }

    impl Clock for Nobody {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    fn recorder() -> Arc<Recorder> {
        let access = Access {
            key: AttemptKey { task: TaskId(1), attempt: AttemptNo(1) },
            turn: TurnNo(1),
            model: String::new(),
            credentials: Credentials([("A_KEY".to_owned(), "k3y-of-a-person".to_owned())].into()),
            budget: Budget::default(),
            purses: Vec::new(),
            redactor: Arc::default(),
            watch: Arc::new(Nobody),
        };
        Recorder::new(None, Arc::new(Nobody), &access, None)
    }

    #[test]
    fn the_calls_of_a_turn_share_their_room() {
        let recorder = recorder();
        let mut one = recorder.room();
        assert!(one.take(HELD_BYTES - 10));
        let mut other = recorder.room();
        assert!(other.take(10));
        assert!(!other.take(1));
        drop(other);
        let mut tape = recorder.begin(Protocol::Messages, String::new(), (Bytes::new(), recorder.room()));
        tape.answered(200, "text/event-stream");
        tape.piece(&[b'a'; 11]);
        assert_eq!(tape.body(), None, "an answer that is too much is passed on, and not kept");
        drop((one, tape));
        assert!(recorder.room().take(HELD_BYTES), "all is given back");
    }

    #[test]
    fn a_secret_is_found_wherever_a_request_parts_from_the_one_before() {
        let recorder = recorder();
        let text = format!("{}k3y-of-a-person{}", "a".repeat(600), "b".repeat(600));
        for end in 590..text.len() {
            let clean = Bytes::from(text[..end].replace("k3y-of-a-person", ""));
            recorder.redacted_request(clean.clone());
            let redacted = recorder.redacted_request(Bytes::copy_from_slice(text.as_bytes()));
            assert!(redacted.ends_with(b"b") && memchr::memmem::find(&redacted, b"[A_KEY redacted]").is_some());
        }
    }
}
