//! Watching an answer pass, to learn what it cost.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use domain::ports::model::CallNews;
use futures::{Stream, stream};
use hyper::body::Frame;
use reqwest::{
    Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};

use super::Seat;
use crate::{
    dialect::{Protocol, Wire, gemini, responses},
    payment::Payment,
    prices::Counted,
    record::Tape,
    sse::Events,
    upstream::Upstream,
};

/// How often it is told that an answer goes on.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long an answer is read on whose client has left. Many leave at the last word, and the usage comes after it; what a provider
/// makes in that time costs less than the reservation, at which a call is settled whose usage is not known.
const LINGER: Duration = Duration::from_secs(2);

/// An answer under way. Dropping it, at whatever point, settles the call.
pub(super) struct Meter {
    payment: Payment,
    tape: Tape,
    seat: Arc<Seat>,
    form: Form,
    /// When it was told last that the answer goes on.
    told: Option<Instant>,
    /// Whether a candidate of Gemini's has come to its end.
    finished: bool,
    /// Bytes that are still to come, where the answer says how many: with the last of them, nobody asks for more.
    left: Option<u64>,
}

enum Form {
    Events(Events),
    /// One JSON document, which is on the tape.
    Whole,
    /// Neither; there is nothing to learn from it.
    Unknown,
}

/// The body of a response as it comes, metered, with the piece that came first. A cut upstream is a cut downstream.
pub(super) fn metered(
    upstream: Arc<Upstream>,
    (first, response): (Option<Bytes>, Response),
    mut meter: Meter,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    let streamed = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/event-stream")));
    let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    meter.left = length.and_then(|length| length.parse().ok());
    if streamed {
        meter.form = Form::Events(Events::default());
    }
    let passage = Passage { upstream, first, under_way: Some((response, meter)) };
    stream::try_unfold(passage, |mut passage| async move {
        let piece = passage.next().await.map_err(io::Error::other)?;
        Ok(piece.map(|piece| (Frame::data(piece), passage)))
    })
}

/// An answer on its way from the provider to the client.
struct Passage {
    upstream: Arc<Upstream>,
    first: Option<Bytes>,
    /// `None`: it has come to an end, good or bad.
    under_way: Option<(Response, Meter)>,
}

impl Passage {
    /// The next piece; `None` at the end. `Err`: why there is no proper end.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        let Some((response, meter)) = &mut self.under_way else { return Ok(None) };
        let piece = match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => self.upstream.piece(response).await,
        };
        match &piece {
            Ok(Some(piece)) => meter.take(piece),
            Ok(None) => meter.over(),
            Err(_) => {}
        }
        if !matches!(piece, Ok(Some(_))) {
            self.under_way = None;
        }
        piece
    }
}

/// The client has left, maybe before the answer's end.
impl Drop for Passage {
    fn drop(&mut self) {
        let Some((mut response, mut meter)) = self.under_way.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if meter.payment.is_complete() {
            return;
        }
        meter.payment.left();
        let (upstream, first) = (Arc::clone(&self.upstream), self.first.take());
        runtime.spawn(async move {
            let rest = async {
                first.into_iter().for_each(|first| meter.read_on(&first));
                while !meter.payment.is_complete() {
                    match upstream.piece(&mut response).await {
                        Ok(Some(piece)) => meter.read_on(&piece),
                        Ok(None) => return meter.over(),
                        Err(_) => return,
                    }
                }
            };
            // What was not said by then is settled by estimate.
            let _ = tokio::time::timeout(LINGER, rest).await;
        });
    }
}

impl Meter {
    pub fn new(payment: Payment, tape: Tape, seat: Arc<Seat>) -> Self {
        Self { payment, tape, seat, form: Form::Whole, told: None, finished: false, left: None }
    }

    fn take(&mut self, piece: &[u8]) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            self.seat.payer.access.watch.tell(CallNews::Answering);
            self.told = Some(Instant::now());
        }
        self.read_on(piece);
    }

    /// Takes a piece, whether or not anybody waits for it.
    fn read_on(&mut self, piece: &[u8]) {
        self.tape.piece(piece);
        self.look(piece);
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if *left == 0 {
                self.end();
            }
        }
    }

    /// Looks at the events that a piece completes.
    fn look(&mut self, piece: &[u8]) {
        let Self { payment, tape, seat, form, finished, .. } = self;
        let Form::Events(events) = form else { return };
        let protocol = tape.protocol();
        let taken = events.take(piece, |data| {
            if memchr::memmem::find(data.as_bytes(), protocol.usage_mark()).is_some() {
                count(protocol, data, payment);
            }
            *finished |= protocol == Protocol::GenerateContent && gemini::ends(data);
            // The client may leave as soon as it has this, and all is said.
            if protocol.ends(data) {
                payment.complete();
                tape.end();
                keep(protocol, data, payment, seat);
            }
        });
        if taken.is_err() {
            *form = Form::Unknown;
        }
    }

    /// Nothing more comes.
    fn over(&mut self) {
        if self.left.is_none() {
            self.end();
        }
    }

    /// The body has come to its proper end.
    fn end(&mut self) {
        self.tape.end();
        let protocol = self.tape.protocol();
        match (&self.form, self.tape.body()) {
            (Form::Whole, Some(whole)) => {
                if let Ok(json) = str::from_utf8(whole) {
                    count(protocol, json, &mut self.payment);
                    keep(protocol, json, &self.payment, &self.seat);
                }
                self.payment.complete();
            }
            // Some servers leave out the last event, but say the usage before it.
            (Form::Events(_), _) if protocol == Protocol::ChatCompletions => self.payment.complete(),
            // Its streams have no last event; one that just ends before the reply does is cut.
            (Form::Events(_), _) if self.finished => self.payment.complete(),
            (Form::Events(_) | Form::Whole | Form::Unknown, _) => {}
        }
    }
}

/// Remembers how much the provider keeps of a response that the next request may go on from.
fn keep(protocol: Protocol, json: &str, payment: &Payment, seat: &Seat) {
    if protocol == Protocol::Responses
        && let Some(counted) = payment.reported
        && let Some(id) = responses::id(json)
    {
        seat.keep(id, counted.usage);
    }
}

fn count(protocol: Protocol, json: &str, payment: &mut Payment) {
    let mut counted: Counted = payment.reported.unwrap_or_default();
    if protocol.count(json, &mut counted) {
        payment.reported = Some(counted);
    }
}
