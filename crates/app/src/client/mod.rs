//! The command line as a client of the daemon: finds it, starts it when none runs, speaks to it, and says plainly when it
//! does not answer.

pub mod events;
mod http;

use std::{
    io::{self, BufRead, BufReader, ErrorKind, IsTerminal},
    os::unix::net::UnixStream,
    sync::mpsc::{self, RecvTimeoutError, Sender},
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
    terminal,
};

/// How long the daemon may think about a request: to hand over a large repository takes its time.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long an onlooker waits, who only wants to know whether the daemon answers at all.
const ONLOOKER_PATIENCE: Duration = Duration::from_secs(5);
/// When a person at a terminal is told that they wait for the daemon.
const SLOW_AFTER: Duration = Duration::from_secs(5);
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
    patience: Duration,
}

impl Client {
    /// Starts a daemon when none runs.
    pub fn new(home: Home) -> Self {
        Self { home, absent: Absent::Start, versions: Versions::MustMatch, patience: PATIENCE }
    }

    /// Only looks at what is there, whatever its version, and not for long.
    pub fn onlooker(home: Home) -> Self {
        Self { home, absent: Absent::Report, versions: Versions::MayDiffer, patience: ONLOOKER_PATIENCE }
    }

    pub fn home(&self) -> &Home {
        &self.home
    }

    pub fn get(&self, path: &str) -> Result<Answer, Fault> {
        self.send(&Request { path: &rooted(path), ..self.request() })
    }

    pub fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Fault> {
        read_json(&self.body(self.get(path)?)?)
    }

    /// Sends once, however often the connection breaks: the key tells the daemon what it has seen.
    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, Fault> {
        let key = uuid::Uuid::now_v7().to_string();
        let body = write_json(body)?;
        let path = rooted(path);
        let request =
            Request { method: "POST", path: &path, body: Some(&body), idempotency_key: Some(&key), ..self.request() };
        self.body(self.send(&request)?)
    }

    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, Fault> {
        let body = write_json(body)?;
        self.body(self.send(&Request { method: "PUT", path: &rooted(path), body: Some(&body), ..self.request() })?)
    }

    pub fn delete(&self, path: &str) -> Result<Vec<u8>, Fault> {
        self.body(self.send(&Request { method: "DELETE", path: &rooted(path), ..self.request() })?)
    }

    /// Follows a stream of events from `after` on (empty: from its start), over broken connections and daemons that die.
    pub fn follow(&self, path: &str, after: &str) -> Result<Stream<'_>, Fault> {
        let mut stream = Stream { client: self, path: rooted(path), last: after.to_owned(), body: None };
        stream.connect()?;
        Ok(stream)
    }

    /// Asks for work that takes long, and hands its events to `each` until that returns what the work came to. What
    /// is shared with others goes on without this process.
    pub fn work<T>(
        &self,
        path: &str,
        asked: &impl Serialize,
        mut each: impl FnMut(Event) -> Result<Option<T>, Fault>,
    ) -> Result<T, Fault> {
        let (path, body) = (rooted(path), write_json(asked)?);
        let request =
            Request { method: "POST", path: &path, body: Some(&body), patience: STREAM_PATIENCE, ..self.request() };
        let mut stream = self.send(&request)?.into_body();
        loop {
            let event = match events::next(&mut stream) {
                Ok(Some(event)) => event,
                Ok(None) => return Err(self.went_away(&ErrorKind::UnexpectedEof.into())),
                Err(error) => return Err(self.went_away(&error)),
            };
            if event.name == "problem" {
                return Err(read_json::<Problem>(event.data.as_bytes())?.into());
            }
            if let Some(end) = each(event)? {
                return Ok(end);
            }
        }
    }

    /// Makes a connection of its own to something about a task. What is read and written on it is no longer HTTP.
    pub fn upgrade(&self, path: &str, protocol: &str, asked: &impl Serialize) -> Result<BufReader<UnixStream>, Fault> {
        let (path, body) = (rooted(path), write_json(asked)?);
        let request =
            Request { method: "POST", path: &path, body: Some(&body), upgrade: Some(protocol), ..self.request() };
        let answer = self.send(&request)?;
        if answer.status != 101 {
            return Err(Fault::bug(format!("the daemon answered {} to an upgrade", answer.status)));
        }
        let connection = answer.into_connection();
        let patient = |error: io::Error| self.went_away(&error);
        connection.get_ref().set_read_timeout(None).map_err(patient)?;
        connection.get_ref().set_write_timeout(None).map_err(patient)?;
        Ok(connection)
    }

    /// The whole body of an answer.
    pub fn body(&self, answer: Answer) -> Result<Vec<u8>, Fault> {
        answer.into_bytes().map_err(|error| self.went_away(&error))
    }

    fn request(&self) -> Request<'static> {
        Request {
            method: "GET",
            path: "/",
            body: None,
            idempotency_key: None,
            events_after: None,
            upgrade: None,
            patience: self.patience,
        }
    }

    /// One exchange. A daemon that is not there or goes away before it answers is started (again) once.
    fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let socket = self.home.socket();
        let _answered = self.tell_if_slow(request.patience);
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

    /// Says that there is no answer yet, unless what this returns is dropped before.
    fn tell_if_slow(&self, patience: Duration) -> Option<Sender<()>> {
        if patience <= SLOW_AFTER || !io::stderr().is_terminal() {
            return None;
        }
        let (answered, slow) = mpsc::channel();
        let home = self.home.clone();
        thread::spawn(move || {
            if slow.recv_timeout(SLOW_AFTER) == Err(RecvTimeoutError::Timeout) {
                let who = lock::holder(&home).map_or_else(String::new, |pid| format!(" (process {pid})"));
                let (after, patience) = (SLOW_AFTER.as_secs(), patience.as_secs());
                terminal::print_error(&format!(
                    "the daemon{who} has not answered for {after} s; waiting for it, {patience} s at most\n"
                ));
            }
        });
        Some(answered)
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
        let request = Request {
            path: &self.path,
            events_after: Some(&self.last),
            patience: STREAM_PATIENCE,
            ..self.client.request()
        };
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_daemon_that_does_not_answer_is_told_with_the_end_of_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path()).unwrap();
        std::fs::write(home.log_file(), "the last thing it did\n").unwrap();
        // Connections are taken by the kernel, and nobody ever reads them.
        let _silent = UnixListener::bind(home.socket()).unwrap();
        let _lock = lock::Lock::take(&home, Duration::ZERO).unwrap();
        let client = Client { patience: Duration::from_millis(20), ..Client::new(home) };
        let fault = client.get("tasks").unwrap_err();
        assert!(fault.what.contains(&format!("process {}", std::process::id())), "{fault}");
        assert!(fault.what.contains("has not answered") && fault.what.contains("the last thing it did"), "{fault}");
        assert!(fault.hint.unwrap().contains("overnight daemon stop"));
    }

    #[test]
    fn an_onlooker_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let fault = Client::onlooker(Home::at(dir.path()).unwrap()).get("status").unwrap_err();
        assert!(fault.what.contains("no daemon runs"), "{fault}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn queries_are_escaped() {
        assert_eq!(escape("/a b/ü&c=1"), "/a%20b/%C3%BC%26c%3D1");
    }
}
