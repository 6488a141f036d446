//! Watching an answer pass, to learn what it cost.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};
use hyper::body::Frame;
use reqwest::{Response, header::CONTENT_TYPE};

use crate::{dialect::Dialect, payment::Payment, prices::Counted, sse::Events, upstream::Upstream};

/// The most that is kept of an answer in one piece; usage stands at the end of it.
const WHOLE_BYTES: usize = 64 << 20;

/// An answer under way. Dropping it, at whatever point, settles the call.
struct Meter {
    dialect: Dialect,
    payment: Payment,
    form: Form,
}

enum Form {
    Events(Events),
    /// One JSON document.
    Whole(Vec<u8>),
    /// Neither; there is nothing to learn from it.
    Unknown,
}

/// The body of `response` as it comes, metered. A cut upstream is a cut downstream.
pub(super) fn metered(
    upstream: Arc<Upstream>,
    response: Response,
    dialect: Dialect,
    payment: Payment,
) -> impl Stream<Item = io::Result<Frame<Bytes>>> {
    let streamed = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("text/event-stream")));
    let form = if streamed { Form::Events(Events::default()) } else { Form::Whole(Vec::new()) };
    let meter = Meter { dialect, payment, form };
    stream::try_unfold((upstream, response, meter), |(upstream, mut response, mut meter)| async move {
        match upstream.piece(&mut response).await {
            Ok(Some(piece)) => {
                meter.take(&piece);
                Ok(Some((Frame::data(piece), (upstream, response, meter))))
            }
            Ok(None) => {
                meter.end();
                Ok(None)
            }
            Err(why) => Err(io::Error::other(why)),
        }
    })
}

impl Meter {
    fn take(&mut self, piece: &[u8]) {
        let Self { dialect, payment, form } = self;
        let known = match form {
            Form::Events(events) => events
                .take(piece, |data| {
                    if memchr::memmem::find(data.as_bytes(), br#""usage""#).is_some() {
                        count(*dialect, data, payment);
                    }
                    // The client may leave as soon as it has this, and all is said.
                    if dialect.ends(data) {
                        payment.complete();
                    }
                })
                .is_ok(),
            Form::Whole(whole) => {
                whole.extend_from_slice(piece);
                whole.len() <= WHOLE_BYTES
            }
            Form::Unknown => true,
        };
        if !known {
            *form = Form::Unknown;
        }
    }

    /// The body has come to its proper end.
    fn end(&mut self) {
        match &self.form {
            Form::Whole(whole) => {
                if let Ok(json) = str::from_utf8(whole) {
                    count(self.dialect, json, &mut self.payment);
                }
                self.payment.complete();
            }
            // Some servers leave out the last event, but say the usage before it.
            Form::Events(_) if self.dialect == Dialect::OpenAi => self.payment.complete(),
            Form::Events(_) | Form::Unknown => {}
        }
    }
}

fn count(dialect: Dialect, json: &str, payment: &mut Payment) {
    let mut counted: Counted = payment.reported.unwrap_or_default();
    if dialect.count(json, &mut counted) {
        payment.reported = Some(counted);
    }
}
