//! Answers of the proxy's own: one line of text that says what was not done, and why.

use bytes::Bytes;
use domain::ports::egress::Refusal;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
};

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;
pub(crate) type Answer = Response<Body>;

/// Marks a refusal, and says why.
const REFUSED: &str = "x-overnight-refused";

pub(crate) fn body(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

/// The request is not what a proxy takes, or the upstream server did not do its part.
pub(crate) fn failed(status: StatusCode, why: &str) -> Answer {
    let mut answer = Response::new(body(format!("overnight: {why}\n")));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

pub(crate) fn refused(refusal: &Refusal) -> Answer {
    let Refusal { host, port, why, entry, .. } = refusal;
    let mend = match entry {
        Some(entry) => format!("; the entry that would allow it: {entry}"),
        None => String::new(),
    };
    let mut answer = failed(StatusCode::FORBIDDEN, &format!("{host}:{port} is refused: {why}{mend}"));
    let why = HeaderValue::from_str(why).unwrap_or(HeaderValue::from_static("refused"));
    answer.headers_mut().insert(REFUSED, why);
    answer
}
