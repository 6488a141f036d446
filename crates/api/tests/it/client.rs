//! A plain HTTP client on a unix socket, one connection per request.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

#[derive(Clone, Debug)]
pub struct Client(PathBuf);

#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body, after making sure that the request went well.
    #[track_caller]
    pub fn ok<T: DeserializeOwned>(&self) -> T {
        assert!(self.status.is_success(), "{self:?}");
        self.json()
    }

    /// The problem, after making sure that it is one in every respect.
    #[track_caller]
    pub fn problem(&self, status: u16) -> api::wire::Problem {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: api::wire::Problem = self.json();
        assert_eq!(problem.status, status);
        assert!(problem.kind.starts_with("urn:overnight:") && !problem.title.is_empty() && !problem.detail.is_empty());
        problem
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Client {
    pub fn new(socket: &Path) -> Self {
        Self(socket.to_owned())
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, &[], Some(body)).await
    }

    /// [`Client::post`] that borrows nothing.
    pub fn send_owned(&self, path: &str, body: Value) -> impl Future<Output = Reply> + use<> {
        let (client, path) = (self.clone(), path.to_owned());
        async move { client.post(&path, body).await }
    }

    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Reply {
        let content = body.map(|body| serde_json::to_vec(&body).unwrap());
        let json = [("content-type", "application/json")];
        let headers: Vec<_> =
            headers.iter().copied().chain(content.is_some().then_some(json).into_iter().flatten()).collect();
        self.send_bytes(method, path, &headers, content.unwrap_or_default()).await
    }

    pub async fn send_bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], content: Vec<u8>) -> Reply {
        let response = self.open(method, path, headers, content).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status, headers: head.headers, body }
    }

    async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], content: Vec<u8>) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.0).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}")).header("host", "overnight");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(Bytes::from(content))).unwrap()).await.unwrap()
    }

    /// Asks for a connection of its own. Returns it with the head of the answer, body and all where it was refused.
    pub async fn upgrade(&self, path: &str, protocol: &str, asked: Value) -> (UnixStream, String) {
        let mut stream = UnixStream::connect(&self.0).await.unwrap();
        let body = asked.to_string();
        let head = format!(
            "POST /api/v1{path} HTTP/1.1\r\nhost: overnight\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        (stream, String::from_utf8(answer).unwrap())
    }

    /// Asks for work that is told of while it goes on.
    pub async fn work(&self, path: &str, asked: Value) -> Events {
        let json = [("content-type", "application/json")];
        Self::stream(self.open("POST", path, &json, asked.to_string().into_bytes()).await)
    }

    /// Opens a stream of server-sent events.
    pub async fn events(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        Self::stream(self.open("GET", path, headers, Vec::new()).await)
    }

    fn stream(response: Response<Incoming>) -> Events {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: response.into_body(), buffer: String::new() }
    }
}

/// A stream of server-sent events, read strictly.
pub struct Events {
    body: Incoming,
    buffer: String,
}

#[derive(Clone, Debug, Default)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    #[track_caller]
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Events {
    /// The next event; `None` when the stream has closed.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.find("\n\n") {
                let block: String = self.buffer.drain(..end + 2).collect();
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => event.name = name.to_owned(),
                        Some(("id", id)) => event.id = id.to_owned(),
                        Some(("data", data)) => event.data = data.to_owned(),
                        _ => {}
                    }
                }
                if !event.name.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
        }
    }
}
