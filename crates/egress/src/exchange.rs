//! One request to an allowed host, and its answer.
//!
//! Nothing of a client's bytes is passed on as it is: what was read is looked at and written anew, so that there is one
//! reading only of where a message ends and whom it is for.

use std::{net::SocketAddr, sync::Arc};

use http_body_util::{BodyExt, Empty};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Uri,
    body::{Body as _, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Mutex,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

use crate::{
    answer::{self, Answer, Body},
    connection,
    entry::Access,
    gate::Guard,
    policy::{Rule, Target},
    reach::Unreached,
    redacted::Redacted,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Plain,
    Tls,
}

/// Where requests go, once the policy has allowed it.
pub(crate) struct Destination {
    pub(crate) target: Target,
    pub(crate) wire: Wire,
    pub(crate) rule: Rule,
    /// Those looked at when the tunnel was opened; `None`: not looked up yet.
    pub(crate) addresses: Option<Vec<SocketAddr>>,
}

/// The exchanges of one client's connection, one after the other.
pub(crate) struct Exchange {
    guard: Arc<Guard>,
    /// Kept for the next request to the same target.
    line: Mutex<Option<Line>>,
}

/// A connection to an upstream server.
struct Line {
    target: Target,
    wire: Wire,
    sender: SendRequest<Body>,
    /// Ends with it.
    _driver: JoinSet<()>,
}

/// Between two ends of one connection: never passed on (RFC 9110, 7.6.1), in either direction.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// With these a server may take one method for another.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

impl Exchange {
    pub(crate) fn new(guard: Arc<Guard>) -> Self {
        Self { guard, line: Mutex::default() }
    }

    pub(crate) async fn carry(&self, request: Request<Incoming>, to: &Destination) -> Answer {
        let (parts, body) = request.into_parts();
        let refuse = |why: String, entry| self.guard.refuse(to.target.name.as_str(), to.target.port, why, entry);
        if let Err(why) = to.rule.examine(&parts.method, &parts.uri, &parts.headers) {
            return refuse(why, Some(to.target.entry()));
        }
        let upgrades = parts.headers.get_all(header::UPGRADE).iter();
        if upgrades.into_iter().any(|to| to.as_bytes().to_ascii_lowercase().starts_with(b"websocket")) {
            return refuse("a websocket cannot be looked into".to_owned(), None);
        }
        let outgoing = match outgoing(parts, to) {
            Ok(outgoing) => outgoing,
            Err(why) => return answer::failed(StatusCode::BAD_REQUEST, why),
        };
        match self.send(outgoing, body, to).await {
            Ok(response) => self.answer(response, to),
            Err(why) => self.guard.unreached(&to.target, why),
        }
    }

    async fn send(
        &self,
        outgoing: Request<()>,
        body: Incoming,
        to: &Destination,
    ) -> Result<Response<Incoming>, Unreached> {
        // A server may close a line that waits just as it is used again. What surely did nothing is sent once more.
        let safe = matches!(*outgoing.method(), Method::GET | Method::HEAD) && body.is_end_stream();
        let again =
            safe.then(|| outgoing.clone().map(|()| Empty::new().map_err(|never| match never {}).boxed_unsync()));
        let mut request = outgoing.map(|()| body.boxed_unsync());
        let mut line = self.line.lock().await;
        if let Some(open) = line.as_mut()
            && (&open.target, open.wire) == (&to.target, to.wire)
            && open.sender.ready().await.is_ok()
        {
            request = match open.sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message().or(again) {
                    Some(unsent) => unsent,
                    None => return Err(silent(&error.into_error())),
                },
            };
        }
        let open = line.insert(self.open(to).await?);
        open.sender.send_request(request).await.map_err(|error| silent(&error))
    }

    async fn open(&self, to: &Destination) -> Result<Line, Unreached> {
        let Guard { reach, ends, limits, .. } = &*self.guard;
        let looked_up;
        let addresses = match &to.addresses {
            Some(addresses) => addresses,
            None => {
                looked_up = reach.look_up(&to.target).await?;
                &looked_up
            }
        };
        let socket = reach.connect(addresses).await?;
        let (target, wire) = (to.target.clone(), to.wire);
        let failed = |why: &dyn std::fmt::Display| Unreached::Failed(format!("fails at TLS: {why}"));
        let (sender, driver) = match (to.wire, ends) {
            (Wire::Plain, _) => shake_hands(socket).await,
            (Wire::Tls, None) => return Err(failed(&"this gate ends no TLS")),
            (Wire::Tls, Some(ends)) => {
                let name = ServerName::try_from(target.name.to_string()).map_err(|error| failed(&error))?;
                let secured = TlsConnector::from(Arc::clone(&ends.client)).connect(name, socket);
                let secured = tokio::time::timeout(limits.patience, secured).await;
                let secured = secured.map_err(|_| failed(&"it took too long"))?.map_err(|error| failed(&error))?;
                shake_hands(secured).await
            }
        }
        .map_err(|error| silent(&error))?;
        Ok(Line { target, wire, sender, _driver: driver })
    }

    fn answer(&self, response: Response<Incoming>, to: &Destination) -> Answer {
        let (parts, body) = response.into_parts();
        let failed = |why: &str| {
            let why = format!("{}:{} {why}", to.target.name, to.target.port);
            answer::failed(StatusCode::BAD_GATEWAY, &why)
        };
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return failed("changed the protocol without being asked");
        }
        let mut headers = parts.headers;
        strip(&mut headers);
        let body = if to.rule.stamps.is_empty() {
            body.boxed_unsync()
        } else {
            if headers.get_all(header::CONTENT_ENCODING).iter().any(|encoding| encoding != "identity") {
                return failed(
                    "answered in an encoding that was not asked for, in which a secret cannot be looked for",
                );
            }
            // What is taken out changes the length.
            headers.remove(header::CONTENT_LENGTH);
            for value in headers.values_mut() {
                if let Some(redacted) = self.guard.policy.redactor().redact(value.as_bytes()) {
                    *value = HeaderValue::from_bytes(&redacted).unwrap_or(HeaderValue::from_static("[redacted]"));
                }
            }
            Redacted::new(body, Arc::clone(&self.guard.policy)).boxed_unsync()
        };
        // Nothing else of the response is kept: its reason phrase, say, is the server's own text.
        let mut answer = Response::new(body);
        *answer.status_mut() = parts.status;
        *answer.headers_mut() = headers;
        answer
    }
}

fn silent(error: &hyper::Error) -> Unreached {
    Unreached::Silent(format!("did not answer: {error}"))
}

/// The request as the upstream server sees it, but for its body.
fn outgoing(parts: Parts, to: &Destination) -> Result<Request<()>, &'static str> {
    let mut headers = parts.headers;
    strip(&mut headers);
    // Written anew from the body's own length.
    headers.remove(header::CONTENT_LENGTH);
    let default = match to.wire {
        Wire::Plain => 80,
        Wire::Tls => 443,
    };
    let host = match to.target.port {
        port if port == default => to.target.name.to_string(),
        port => format!("{}:{port}", to.target.name),
    };
    headers.insert(header::HOST, HeaderValue::try_from(host).map_err(|_| "the host cannot be written")?);
    if to.rule.access == Access::Fetch {
        METHOD_OVERRIDES.iter().for_each(|name| drop(headers.remove(*name)));
    }
    for (name, value) in &to.rule.stamps {
        headers.insert(name.clone(), value.clone());
    }
    if !to.rule.stamps.is_empty() {
        // A secret that is echoed must be seen whole and in the clear to be taken out.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        [header::RANGE, header::IF_RANGE].iter().for_each(|name| drop(headers.remove(name)));
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut outgoing = Request::new(());
    *outgoing.method_mut() = parts.method;
    *outgoing.uri_mut() = path.parse::<Uri>().map_err(|_| "the path cannot be read")?;
    *outgoing.headers_mut() = headers;
    Ok(outgoing)
}

/// Takes out what is between two ends, and what `Connection` says is.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    named.iter().for_each(|name| drop(headers.remove(name)));
    HOP_BY_HOP.iter().for_each(|name| drop(headers.remove(*name)));
}

async fn shake_hands<T>(io: T) -> hyper::Result<(SendRequest<Body>, JoinSet<()>)>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::Builder::new().max_buf_size(connection::HEAD_BYTES).handshake(TokioIo::new(io)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // What goes wrong is told to the request that it goes wrong for.
        let _ = connection.await;
    });
    Ok((sender, driver))
}
