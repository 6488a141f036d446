//! Services of a sandbox: started together, each awaited until it is ready or will not be.

use std::time::{Duration, Instant};

use domain::{
    Fault,
    environment::{Readiness, Service},
    ports::sandbox::{Exit, Process, Sandbox},
};
use futures::future::join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use crate::{
    furnish::Furnished,
    line::{ending, exec, last_lines},
};

/// Between two looks at a service: short at first, as most are ready soon.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// One look, at most.
const LOOK: Duration = Duration::from_secs(10);
/// A service that nobody can look at has this long to fail at once.
const SETTLED: Duration = Duration::from_millis(100);
/// A service runs as long as its sandbox.
const ENDLESS: Duration = Duration::MAX;

/// Starts all of them and waits until each is ready. What is not is told in notes: no service is worth losing a task.
pub(crate) async fn start(furnished: &Furnished, services: &[Service]) -> Vec<String> {
    let sandbox = &**furnished.sandbox();
    let started = join_all(services.iter().map(|service| start_one(sandbox, service))).await;
    let (mut running, mut notes) = (Vec::new(), Vec::new());
    for (process, note) in started {
        running.extend(process);
        notes.extend(note);
    }
    furnished.keep(running);
    notes
}

async fn start_one(sandbox: &dyn Sandbox, service: &Service) -> (Option<Box<dyn Process>>, Option<String>) {
    let name = &service.name;
    let mut process = match sandbox.spawn(exec(&service.command, ENDLESS)).await {
        Ok(process) => process,
        Err(fault) => return (None, Some(format!("The service {name} could not be started: {fault}."))),
    };
    let deadline = Instant::now() + service.ready_within;
    let mut pause = FIRST_PAUSE;
    let what = loop {
        let Some(ready) = &service.ready else {
            match process.wait(SETTLED).await {
                None | Some(Exit::Code(0)) => return (Some(process), None),
                Some(exit) => break format!("ended at once with {}", ending(exit)),
            }
        };
        if let Some(exit) = process.wait(Duration::ZERO).await {
            break format!("ended with {} before it was ready", ending(exit));
        }
        let seen = match timeout(LOOK, look(sandbox, ready)).await {
            Ok(Ok(())) => return (Some(process), None),
            Ok(Err(why)) => why,
            Err(_) => format!("no answer within {} s", LOOK.as_secs()),
        };
        if Instant::now() >= deadline {
            break format!("was not ready within {} s: {seen}", service.ready_within.as_secs());
        }
        // Also wakes where the service ends.
        process.wait(pause.min(deadline.saturating_duration_since(Instant::now()))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    };
    let output = process.output();
    let last = last_lines(&[&output.head[..], &output.tail[..]].concat());
    let printed = if last.is_empty() { "It printed nothing.".to_owned() } else { format!("Its last words:\n{last}") };
    (Some(process), Some(format!("The service {name} (`{}`) {what}. {printed}", service.command)))
}

/// `Err`: why it does not look ready.
async fn look(sandbox: &dyn Sandbox, ready: &Readiness) -> Result<(), String> {
    match ready {
        Readiness::Port(port) => connect(sandbox, *port).await.map(drop),
        Readiness::Http { port, path } => {
            let told = |error: std::io::Error| format!("no answer on port {port}: {error}");
            let mut stream = connect(sandbox, *port).await?;
            let request = format!("GET {path} HTTP/1.0\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.map_err(told)?;
            let mut answer = Vec::new();
            // A status line: `HTTP/1.1 200 OK`. There may be no end to what comes after it.
            BufReader::new(stream.take(64)).read_until(b'\n', &mut answer).await.map_err(told)?;
            status(&answer)
        }
        Readiness::Command(command) => {
            let told = |fault: Fault| format!("`{command}` could not be started: {fault}");
            let mut process = sandbox.spawn(exec(command, LOOK)).await.map_err(told)?;
            match process.wait(LOOK).await {
                Some(Exit::Code(0)) => Ok(()),
                Some(exit) => Err(format!("`{command}` ended with {}", ending(exit))),
                None => Err(format!("`{command}` did not end")),
            }
        }
    }
}

async fn connect(sandbox: &dyn Sandbox, port: u16) -> Result<TcpStream, String> {
    let stream = sandbox.connect(port).await.map_err(|fault| fault.what)?;
    TcpStream::from_std(stream).map_err(|error| format!("port {port}: {error}"))
}

fn status(answer: &[u8]) -> Result<(), String> {
    let line = answer.split(|byte| *byte == b'\r' || *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let code =
        line.strip_prefix("HTTP/").and_then(|rest| rest.split(' ').nth(1)).and_then(|code| code.parse::<u16>().ok());
    match code {
        Some(code) if code < 500 => Ok(()),
        Some(_) => Err(format!("it answers `{line}`")),
        None => Err(format!("it answers `{line}`, which is no HTTP")),
    }
}
