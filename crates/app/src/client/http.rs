//! One HTTP/1.1 exchange over a unix socket, blocking: all that a short-lived client needs, and quick to start.

use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use api::wire;

/// The longest line of a head or chunk size that a sound server sends.
const MAX_LINE: u64 = 16 << 10;

#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// From the root, with the query.
    pub path: &'a str,
    /// JSON.
    pub body: Option<&'a [u8]>,
    pub idempotency_key: Option<&'a str>,
    /// Asks for server-sent events after this one; empty: from the start.
    pub events_after: Option<&'a str>,
    /// Asks that the connection become this protocol.
    pub upgrade: Option<&'a str>,
    /// How long the other side may be silent.
    pub patience: Duration,
}

/// The head of an answer; the body is read as it comes.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Answer {
    /// By its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn into_body(self) -> BufReader<Body> {
        BufReader::new(self.body)
    }

    /// The connection itself, after a 101: what was read of it beyond the head comes first.
    pub fn into_connection(self) -> BufReader<UnixStream> {
        self.body.stream
    }

    pub fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Connects, sends, and reads the head of the answer. An error of kind `UnexpectedEof`, `ConnectionReset` or `BrokenPipe`
/// means that the other side went away before it answered.
pub fn exchange(socket: &Path, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(request.patience))?;
    stream.set_write_timeout(Some(request.patience))?;
    stream.write_all(&head(request))?;
    if let Some(body) = request.body {
        // A server may refuse a body before it has read all of it; its answer then says more than a broken pipe.
        match stream.write_all(body) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    read_head(BufReader::new(stream), request.method)
}

fn head(request: &Request) -> Vec<u8> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nhost: overnight\r\nuser-agent: {}{}\r\n",
        request.method,
        request.path,
        wire::COMMAND_LINE_AGENT,
        env!("CARGO_PKG_VERSION"),
    );
    let mut header = |name: &str, value: &str| {
        head.push_str(name);
        head.push_str(": ");
        head.push_str(value);
        head.push_str("\r\n");
    };
    match request.upgrade {
        Some(protocol) => {
            header("connection", "upgrade");
            header("upgrade", protocol);
        }
        None => header("connection", "close"),
    }
    if let Some(body) = request.body {
        header("content-type", "application/json");
        header("content-length", &body.len().to_string());
    } else if request.method != "GET" {
        header("content-length", "0");
    }
    if let Some(key) = request.idempotency_key {
        header(wire::IDEMPOTENCY_HEADER, key);
    }
    if let Some(after) = request.events_after {
        header("accept", "text/event-stream");
        if !after.is_empty() {
            header("last-event-id", after);
        }
    }
    head.push_str("\r\n");
    head.into_bytes()
}

fn read_head(mut stream: BufReader<UnixStream>, method: &str) -> io::Result<Answer> {
    let status_line = read_line(&mut stream)?;
    let status = status_line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| garbled("status line", &status_line))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut stream)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| garbled("header", &line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let framing = if method == "HEAD" || status == 204 || status == 304 {
        Framing::Length(0)
    } else if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        Framing::Chunk(0)
    } else if let Some(length) = value("content-length") {
        Framing::Length(length.parse().map_err(|_| garbled("content-length", length))?)
    } else {
        Framing::UntilClosed
    };
    Ok(Answer { status, headers, body: Body { stream, framing } })
}

fn garbled(what: &str, found: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("unreadable {what} `{}`", found.escape_debug()))
}

/// One line without its end. A stream that closes before the end is an error.
fn read_line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|error| garbled("line", &String::from_utf8_lossy(error.as_bytes())))
}

/// Reads the body of an answer, whatever its framing. A body that is cut off is an error, not an end.
#[derive(Debug)]
pub struct Body {
    stream: BufReader<UnixStream>,
    framing: Framing,
}

#[derive(Debug)]
enum Framing {
    /// Bytes that are left.
    Length(u64),
    /// Bytes that are left of this chunk.
    Chunk(u64),
    UntilClosed,
    Over,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let left = match self.framing {
            Framing::Over | Framing::Length(0) => return Ok(0),
            Framing::UntilClosed => return self.stream.read(buffer),
            Framing::Length(left) => left,
            Framing::Chunk(0) => match self.next_chunk()? {
                0 => return Ok(0),
                left => left,
            },
            Framing::Chunk(left) => left,
        };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.stream.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let left = left - count as u64;
        match &mut self.framing {
            Framing::Length(length) => *length = left,
            Framing::Chunk(chunk) => {
                *chunk = left;
                if left == 0 {
                    read_line(&mut self.stream)?;
                }
            }
            Framing::UntilClosed | Framing::Over => {}
        }
        Ok(count)
    }
}

impl Body {
    /// The size of the next chunk; 0 at the end of the body.
    fn next_chunk(&mut self) -> io::Result<u64> {
        let line = read_line(&mut self.stream)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| garbled("chunk size", &line))?;
        self.framing = Framing::Chunk(size);
        if size == 0 {
            // Trailers, if any, say nothing that is needed here.
            while !read_line(&mut self.stream)?.is_empty() {}
            self.framing = Framing::Over;
        }
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::net::UnixListener, thread};

    use super::*;

    /// What a client reads of an answer with these bytes, the connection closed after them.
    fn read(answer: &'static [u8]) -> io::Result<(u16, Vec<u8>)> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            String::from_utf8(request[..count].to_vec()).unwrap()
        });
        let request = Request {
            method: "GET",
            path: "/x",
            body: None,
            idempotency_key: None,
            events_after: None,
            upgrade: None,
            patience: Duration::from_secs(10),
        };
        let result = exchange(&socket, &request).and_then(|answer| Ok((answer.status, answer.into_bytes()?)));
        assert!(server.join().unwrap().starts_with("GET /x HTTP/1.1\r\nhost: overnight\r\n"));
        result
    }

    #[test]
    fn bodies_of_every_framing_are_read() {
        let length = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        assert_eq!(length, (200, b"hello".to_vec()));
        let chunked =
            read(b"HTTP/1.1 422 X\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\n\r\n").unwrap();
        assert_eq!(chunked, (422, b"hello".to_vec()));
        let closed = read(b"HTTP/1.1 200 OK\r\n\r\nhello").unwrap();
        assert_eq!(closed, (200, b"hello".to_vec()));
        assert_eq!(read(b"HTTP/1.1 304 Not Modified\r\n\r\n").unwrap(), (304, Vec::new()));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let cut: [&[u8]; 4] = [
            b"",
            b"HTTP/1.1 200 OK\r\ncontent-le",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ];
        for answer in cut {
            assert_eq!(read(answer).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
        assert_eq!(read(b"SSH-2.0-x\r\n").unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
