//! The connections to providers: one request, and what comes back.

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use domain::{Fault, ports::Clock, redact::Redactor};
use reqwest::{Client, Method, Response, StatusCode, Url, header::HeaderMap, redirect::Policy};

use crate::{
    dialect::Complaint,
    patience::{Patience, Retry},
    providers::KEYS,
    windows::Windows,
};

/// The most of an error's body that is kept.
const ERROR_BYTES: usize = 256 << 10;

/// How long a provider may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// To open a connection.
    pub connect: Duration,
    /// From the request to the first byte of the answer.
    pub answer: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
    /// For one reply in all, retries included.
    pub reply: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            // Models that think before they speak are silent for minutes.
            answer: Duration::from_secs(300),
            idle: Duration::from_secs(120),
            reply: Duration::from_secs(15 * 60),
        }
    }
}

/// What is sent.
pub(crate) struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Outgoing {
    /// Takes the key that goes out with this out of what comes back: some providers repeat it when they refuse it.
    pub fn without_key(&self, said: Bytes) -> Bytes {
        let keys = KEYS.into_iter().flat_map(|name| self.headers.get_all(name)).filter_map(|key| key.to_str().ok());
        let keys = keys.map(|key| ("KEY", key.strip_prefix("Bearer ").unwrap_or(key)));
        Redactor::new(keys).redact(&said).map_or(said, Bytes::from)
    }
}

/// An answer that is no success, after all retries that could help.
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub complaint: Complaint,
}

impl Refusal {
    /// Whether another try may fare better.
    pub fn is_passing(&self) -> bool {
        match self.status.as_u16() {
            429 => !self.complaint.is_out_of_money(),
            408 | 409 | 425 => true,
            status => status >= 500,
        }
    }

    /// Whether nobody need ask for some time: the account's quota is used up, or its provider overloaded.
    pub fn is_about_quota(&self) -> bool {
        matches!(self.status.as_u16(), 429 | 529) || self.complaint.is_about_quota()
    }

    /// Of a key that was refused before.
    pub fn dead(said: &str) -> Self {
        let complaint = Complaint::of(said.to_owned());
        Self { status: StatusCode::UNAUTHORIZED, headers: HeaderMap::new(), body: Bytes::new(), complaint }
    }

    /// Whether the key, or the account behind it, is of no use.
    pub fn is_about_the_key(&self) -> bool {
        matches!(self.status.as_u16(), 401..=403)
            || self.complaint.is_about_the_key()
            || (self.status == 429 && self.complaint.is_out_of_money())
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status.as_u16(), self.complaint)
    }
}

/// Clients with their connection pools. Each is made at its first use: reading the machine's root certificates takes memory.
pub(crate) struct Upstream {
    deadlines: Deadlines,
    retry: Retry,
    clock: Arc<dyn Clock>,
    windows: Arc<Windows>,
    near: OnceLock<Client>,
    far: OnceLock<Client>,
}

impl Upstream {
    pub fn new(deadlines: Deadlines, retry: Retry, clock: Arc<dyn Clock>) -> Self {
        let windows = Windows::new(Arc::clone(&clock), retry.first);
        Self { deadlines, retry, clock, windows, near: OnceLock::new(), far: OnceLock::new() }
    }

    pub fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub fn patience(&self) -> Patience {
        Patience::new(self.retry)
    }

    /// Prices are of days.
    pub fn today(&self) -> jiff::civil::Date {
        self.clock.now().to_zoned(jiff::tz::TimeZone::UTC).date()
    }

    pub fn clock(&self) -> &dyn Clock {
        self.clock.as_ref()
    }

    pub fn windows(&self) -> &Arc<Windows> {
        &self.windows
    }

    /// Sends once. `Err`: no connection can be made from this machine at all. Inner `Err`: no answer came.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Result<Response, Failed>, Fault> {
        let Outgoing { method, url, headers, body } = outgoing;
        let client = self.client(url)?;
        let sending = client.request(method.clone(), url.clone()).headers(headers.clone()).body(body.clone()).send();
        Ok(match tokio::time::timeout(self.deadlines.answer, sending).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Failed { sent: !error.is_connect() && !error.is_builder(), why: chain(&error) }),
            Err(_) => Err(Failed { sent: true, why: format!("no answer within {:?}", self.deadlines.answer) }),
        })
    }

    /// Reads what an error says; a body that does not come is none.
    pub async fn refusal(&self, outgoing: &Outgoing, mut response: Response) -> Refusal {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match self.body(&mut response, ERROR_BYTES).await {
            Ok(body) | Err((_, body)) => outgoing.without_key(body),
        };
        let text = String::from_utf8_lossy(&body);
        let complaint = Complaint::read(&text).unwrap_or_else(|| Complaint::of(crate::dialect::excerpt(&text)));
        Refusal { status, headers, body, complaint }
    }

    /// Reads a body up to `most` bytes. `Err`: why it ended early, and what came.
    pub async fn body(&self, response: &mut Response, most: usize) -> Result<Bytes, (String, Bytes)> {
        let mut body = BytesMut::new();
        loop {
            match self.piece(response).await {
                Ok(Some(piece)) if body.len() + piece.len() <= most => body.extend_from_slice(&piece),
                Ok(None) => return Ok(body.freeze()),
                Ok(Some(_)) => return Err((format!("longer than {most} bytes"), body.freeze())),
                Err(why) => return Err((why, body.freeze())),
            }
        }
    }

    /// The next piece of a body; `None` at its end. `Err`: why there is none.
    pub async fn piece(&self, response: &mut Response) -> Result<Option<Bytes>, String> {
        match tokio::time::timeout(self.deadlines.idle, response.chunk()).await {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(chain(&error)),
            Err(_) => Err(format!("nothing came for {:?}", self.deadlines.idle)),
        }
    }

    fn client(&self, url: &Url) -> Result<&Client, Fault> {
        let (cell, near) = if is_near(url) { (&self.near, true) } else { (&self.far, false) };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        let builder = Client::builder()
            .connect_timeout(self.deadlines.connect)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(60))
            // A key is for the host it was given for.
            .redirect(Policy::none());
        // This machine is reached without a proxy and without certificates.
        let builder = if near { builder.no_proxy().tls_certs_only([]) } else { builder };
        let client = builder.build().map_err(|error| {
            Fault::environment(format!("no secure connection can be made from this machine: {}", chain(&error)))
                .hint("install its root certificates, on Debian with `apt install ca-certificates`")
        })?;
        Ok(cell.get_or_init(|| client))
    }
}

/// A try that got no answer.
pub(crate) struct Failed {
    pub why: String,
    /// Whether the provider may have received the request.
    pub sent: bool,
}

/// Without its port.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// Whether an address is on this machine and spoken to in the open.
fn is_near(url: &Url) -> bool {
    let host = host(url).trim_matches(['[', ']']);
    url.scheme() == "http" && (host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()))
}

/// An error with its causes; the address, which may hold a password, is left out.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        let words = error.to_string();
        // Many errors repeat their cause.
        if !text.ends_with(&words) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&words);
        }
        cause = error.source();
    }
    if text.is_empty() { "the request failed".to_owned() } else { text }
}
