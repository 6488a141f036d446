//! The command line as a client of the daemon: finds it, starts it when none runs, speaks to it, and says plainly when it
//! does not answer.

pub mod events;
mod http;

use std::{
    io::{self, BufRead, BufReader, ErrorKind},
    thread,
    time::Duration,
};

use api::wire::{Problem, VERSION_HEADER};
use domain::{Fault, ids::TaskId};
use serde::{Serialize, de::DeserializeOwned};

pub use self::http::Answer;
use self::{
    events::Event,
    http::{Body, Request, exchange},
};
use crate::{
    daemon::{lock, start},
    home::Home,
};

/// How long the daemon may think about one request. Generous: handing over a large repository takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a stream may be silent; the daemon writes something every few seconds.
const STREAM_PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for a daemon that comes back, before a follower gives up.
const RECONNECT_TRIES: u32 = 60;
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);

/// What a client does when no daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    Start,
    Report,
}

/// What a client does when the daemon is of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Versions {
    MustMatch,
    MayDiffer,
}

#[derive(Clone, Debug)]
pub struct Client {
    home: Home,
    absent: Absent,
    versions: Versions,
}

impl Client {
    /// Starts a daemon when none runs.
    pub fn new(home: Home) -> Self {
        Self { home, absent: Absent::Start, versions: Versions::MustMatch }
    }

    /// Only looks at what is there, whatever its version.
    pub fn onlooker(home: Home) -> Self {
        Self { home, absent: Absent::Report, versions: Versions::MayDiffer }
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    pub fn get(&self, path: &str) -> Result<Answer, Fault> {
        self.send(&Request { method: "GET", path: &rooted(path), ..EMPTY })
    }

    pub fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        read_json(&self.body(self.get(path)?)?)
    }

    /// Sends once, however often the connection breaks: the key tells the daemon what it has seen.
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, Fault> {
        let key = uuid::Uuid::now_v7().to_string();
        let body = write_json(body)?;
        let path = rooted(path);
        let request = Request { method: "POST", path: &path, body: Some(&body), idempotency_key: Some(&key), ..EMPTY };
        self.body(self.send(&request)?)
    }

    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, Fault> {
        let body = write_json(body)?;
        self.body(self.send(&Request { method: "PUT", path: &rooted(path), body: Some(&body), ..EMPTY })?)
    }

    pub fn delete(&self, path: &str) -> Result<Vec<u8>, Fault> {
        self.body(self.send(&Request { method: "DELETE", path: &rooted(path), ..EMPTY })?)
    }

    /// Follows a stream of events from `after` on (empty: from its start), over broken connections and daemons that die.
    pub fn follow(&self, path: &str, after: &str) -> Result<Stream<'_>, Fault> {
        let mut stream = Stream { client: self, path: rooted(path), last: after.to_owned(), body: None };
        stream.connect()?;
        Ok(stream)
    }

    /// The whole body of an answer.
    pub fn body(&self, answer: Answer) -> Result<Vec<u8>, Fault> {
        answer.into_bytes().map_err(|error| self.went_away(&error))
    }

    /// One exchange. A daemon that is not there or goes away before it answers is started (again) once.
    fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let socket = self.home.socket();
        let mut started = false;
        loop {
            let error = match exchange(&socket, request) {
                Ok(answer) => return self.accept(answer),
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused if self.absent == Absent::Report => {
                    return Err(Fault::not_found(format!("no daemon runs for {}", self.home.path().display()))
                        .hint("`overnight daemon start` starts one"));
                }
                ErrorKind::NotFound
                | ErrorKind::ConnectionRefused
                | ErrorKind::UnexpectedEof
                | ErrorKind::ConnectionReset
                | ErrorKind::BrokenPipe
                    if !started =>
                {
                    start::start(&self.home)?;
                    started = true;
                }
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(self.silent(request.patience)),
                _ => return Err(self.went_away(&error)),
            }
        }
    }

    /// Judges the head of an answer.
    fn accept(&self, answer: Answer) -> Result<Answer, Fault> {
        let version = answer.header(VERSION_HEADER).unwrap_or("unknown");
        if self.versions == Versions::MustMatch && version != env!("CARGO_PKG_VERSION") {
            return Err(Fault::conflict(format!(
                "the daemon's version is {version}, this program's {}",
                env!("CARGO_PKG_VERSION")
            ))
            .hint("`overnight daemon stop`, then again: a new one is started, and all tasks go on"));
        }
        if answer.status < 400 {
            return Ok(answer);
        }
        let status = answer.status;
        let body = self.body(answer)?;
        Err(match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => problem.into(),
            Err(_) => Fault::bug(format!("the daemon answered {status}: {}", String::from_utf8_lossy(&body))),
        })
    }

    fn silent(&self, patience: Duration) -> Fault {
        let who = lock::holder(&self.home).map_or_else(String::new, |pid| format!(" (process {pid})"));
        let silent = format!("the daemon{who} has not answered for {} s", patience.as_secs());
        self.with_log(Fault::transient(silent))
            .hint("`overnight daemon stop` ends it, and the next command starts a new one; tasks go on where they were")
    }

    fn went_away(&self, error: &io::Error) -> Fault {
        let what = format!("the daemon of {} went away while it answered: {error}", self.home.path().display());
        self.with_log(Fault::transient(what))
            .hint("say it again: the next command starts a new daemon, and tasks go on")
    }

    fn with_log(&self, mut fault: Fault) -> Fault {
        let tail = self.home.log_tail();
        if !tail.is_empty() {
            fault.what.push_str(&format!("\nthe end of {}:\n{tail}", self.home.log_file().display()));
        }
        fault
    }
}

const EMPTY: Request<'static> =
    Request { method: "GET", path: "/", body: None, idempotency_key: None, events_after: None, patience: PATIENCE };

fn rooted(path: &str) -> String {
    format!("/api/v1/{path}")
}

/// The path of something about a task.
pub fn of_task(task: TaskId, what: &str) -> String {
    match what {
        "" => format!("tasks/{task}"),
        what => format!("tasks/{task}/{what}"),
    }
}

/// Escapes a value for a query.
pub fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/,".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn write_json(body: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(body).map_err(|error| Fault::bug(format!("a request cannot be written as JSON: {error}")))
}

pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| Fault::bug(format!("the daemon's answer cannot be read: {error}")))
}

/// Events as they come. Goes on by itself where it was when the connection breaks.
#[derive(Debug)]
pub struct Stream<'a> {
    client: &'a Client,
    path: String,
    last: String,
    body: Option<BufReader<Body>>,
}

impl Stream<'_> {
    /// The next event, waiting for it.
    ///
    /// Errors: `Transient` when the daemon was stopped and none comes in its place.
    pub fn next(&mut self) -> Result<Event, Fault> {
        loop {
            let Some(body) = self.body.as_mut() else {
                self.reconnect()?;
                continue;
            };
            match events::next(body) {
                Ok(Some(event)) => {
                    if let Some(id) = &event.id {
                        self.last.clone_from(id);
                    }
                    return Ok(event);
                }
                // A stream has no end of its own: the daemon stops, or is gone.
                Ok(None) | Err(_) => self.body = None,
            }
        }
    }

    fn connect(&mut self) -> Result<(), Fault> {
        let request = Request { path: &self.path, events_after: Some(&self.last), patience: STREAM_PATIENCE, ..EMPTY };
        self.body = Some(self.client.send(&request)?.into_body());
        Ok(())
    }

    /// A daemon that died is started again; one that a person stopped is left alone, though one may come in its place.
    fn reconnect(&mut self) -> Result<(), Fault> {
        for _ in 0..RECONNECT_TRIES {
            thread::sleep(RECONNECT_PAUSE);
            if !lock::was_stopped(self.client.home()) {
                return self.connect();
            }
        }
        Err(Fault::transient("the daemon was stopped")
            .hint("tasks go on when it starts again: `overnight daemon start`"))
    }
}

/// Reads an answer line by line, as it comes.
pub fn for_each_line(answer: Answer, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut body = answer.into_body();
    let mut line = Vec::new();
    while body.read_until(b'\n', &mut line)? > 0 {
        each(&line);
        line.clear();
    }
    Ok(())
}
