//! The endpoint of a replay: an agent's own client gets the bytes that it got before.

use std::{io, sync::Arc};

use futures::{StreamExt, stream};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::{
    Request, StatusCode,
    body::{Frame as Piece, Incoming},
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};

use super::reel::{Frame, Reel};
use crate::{
    dialect::{Protocol, Wire},
    proxy::{
        listen::{Host, Response, respond, whole},
        server::{self, REQUEST_BYTES, Wish},
    },
};

pub(super) struct Screen {
    reel: Arc<Reel>,
    token: String,
}

impl Screen {
    pub fn new(reel: Arc<Reel>, token: &str) -> Self {
        Self { reel, token: token.to_owned() }
    }
}

impl Host for Screen {
    async fn answer(&self, request: Request<Incoming>) -> Response {
        let path = server::path(&request);
        let Some((wish, protocol)) = server::wish(request.method(), &path, request.headers()) else {
            return refuse(Protocol::Messages, StatusCode::NOT_FOUND, &format!("the replay has no {path}"));
        };
        let (key, query) = match server::query(protocol, request.uri().query()) {
            Ok(split) => split,
            Err(why) => return refuse(protocol, StatusCode::BAD_REQUEST, &why),
        };
        if server::token(request.headers()).or(key) != Some(&*self.token) {
            return refuse(protocol, StatusCode::UNAUTHORIZED, "the replay does not know this token");
        }
        let path = format!("{path}{query}");
        let Ok(body) = Limited::new(request.into_body(), REQUEST_BYTES).collect().await else {
            return refuse(protocol, StatusCode::BAD_REQUEST, "the request broke off, or is too long");
        };
        let asked = self.reel.request(body.to_bytes());
        let fits = |frame: &Frame| frame.exchange.protocol == protocol && frame.exchange.path == path;
        let frame = match wish {
            Wish::Reply => self.reel.play(fits, |_| &asked),
            Wish::Free => self.reel.look_up(fits, &asked),
        };
        match frame {
            Some(frame) => shown(frame),
            None => refuse(protocol, StatusCode::NOT_FOUND, "the record has no such call"),
        }
    }
}

/// The recorded answer. One that was cut is cut again.
fn shown(Frame { exchange, .. }: &Frame) -> Response {
    let mut headers = HeaderMap::new();
    if let Ok(kind) = HeaderValue::from_str(&exchange.content_type) {
        headers.insert(CONTENT_TYPE, kind);
    }
    let response = exchange.response.clone();
    let body = if exchange.whole {
        whole(response)
    } else {
        let cut = stream::once(async {
            // What was sent before goes out when there is nothing to do; only then the connection ends.
            tokio::task::yield_now().await;
            Err(io::Error::other("the recorded answer was cut off here"))
        });
        StreamBody::new(stream::once(async { Ok(Piece::data(response)) }).chain(cut)).boxed_unsync()
    };
    respond(StatusCode::from_u16(exchange.status).unwrap_or(StatusCode::BAD_GATEWAY), headers, body)
}

fn refuse(protocol: Protocol, status: StatusCode, why: &str) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-should-retry", HeaderValue::from_static("false"));
    respond(status, headers, whole(protocol.dialect().error_body(status, "not_found_error", why)))
}
