//! Connections that stop being HTTP: a person's terminal in a sandbox, and a look at a service in one.

use std::{
    io,
    sync::{Mutex, PoisonError},
};

use axum::{
    body::Body as AnswerBody,
    extract::{FromRequestParts, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use domain::{
    Fault,
    ids::{AttemptNo, TaskId},
    ports::sandbox::{Exit, Terminal, WindowSize},
};
use engine::{Look, TakeOver, TakeOverRequest};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, copy_bidirectional},
    net::{TcpStream, unix::pipe},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    App,
    door::Stop,
    extract::{Body, Caller, Id},
    problem::Failure,
    wire::{
        self, Problem,
        attach::{BYTES_PROTOCOL, FRAME_HEAD, Frame, Left, TERMINAL_PROTOCOL},
    },
};

/// How much of a terminal's output one frame takes.
const CHUNK: usize = 16 << 10;
/// How many of them are taken once the command has ended.
const LAST_CHUNKS: usize = 64;
/// How many frames may wait for a command that does not read what is typed.
const TYPED_AHEAD: usize = 256;
/// How many changed paths are told by name.
const NAMED: usize = 1_000;
/// Ctrl-D: what a terminal takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// A connection that asks to become something else.
pub(crate) struct Upgrade {
    on: Option<OnUpgrade>,
    to: Option<HeaderValue>,
}

impl FromRequestParts<App> for Upgrade {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Failure> {
        Ok(Self { on: parts.extensions.remove(), to: parts.headers.get(header::UPGRADE).cloned() })
    }
}

impl Upgrade {
    /// Errors: 426 unless the client asks for `protocol`.
    fn to(self, protocol: &'static str) -> Result<OnUpgrade, Failure> {
        match self.on {
            Some(on) if self.to.as_ref().is_some_and(|to| to == protocol) => Ok(on),
            Some(_) | None => {
                let fault = Fault::input(format!("this route speaks `{protocol}` only"))
                    .hint(format!("send `Connection: Upgrade` and `Upgrade: {protocol}`"));
                Err(Failure::with(StatusCode::UPGRADE_REQUIRED, fault))
            }
        }
    }
}

fn switched(protocol: &'static str) -> Response {
    let headers = [(header::UPGRADE, protocol), (header::CONNECTION, "upgrade")];
    (StatusCode::SWITCHING_PROTOCOLS, headers, AnswerBody::empty()).into_response()
}

pub(crate) async fn attach(
    State(app): State<App>,
    Id(task): Id,
    caller: Caller,
    upgrade: Upgrade,
    Body(asked): Body<wire::Attach>,
) -> Result<Response, Failure> {
    let upgraded = upgrade.to(TERMINAL_PROTOCOL)?;
    let request = TakeOverRequest {
        task,
        attempt: asked.attempt.map(AttemptNo),
        by: caller.actor,
        via: caller.via,
        argv: asked.argv,
        term: asked.term,
        size: asked.size.unwrap_or_default().into(),
    };
    let taken = app.handle.take_over(request).await?;
    let stop = app.stop.clone();
    app.sessions.spawn(async move {
        match upgraded.await {
            Ok(connection) => terminal(task, taken, TokioIo::new(connection), stop).await,
            Err(error) => {
                tracing::info!(%task, %error, "a person hung up before their terminal was there");
                if let Err(fault) = taken.leave().await {
                    tracing::error!(%task, %fault, "a terminal that nobody used was not left well");
                }
            }
        }
    });
    Ok(switched(TERMINAL_PROTOCOL))
}

type Connection = TokioIo<Upgraded>;

/// A terminal from its first frame to its last.
async fn terminal(task: TaskId, mut taken: TakeOver, connection: Connection, stop: Stop) {
    let (frames, mut out) = tokio::io::split(connection);
    let notes = Frame::Notes(std::mem::take(&mut taken.notes));
    let served = async {
        out.write_all(&notes.encode()).await?;
        serve(taken.terminal(), frames, &mut out, &stop).await
    };
    let served = served.await;
    // Whatever became of the connection, what was done in the sandbox is kept.
    let left = taken.leave().await;
    if let Err(fault) = &left {
        tracing::error!(%task, %fault, "what a person did by hand was not kept");
    }
    let last = match (left, served) {
        (Ok(left), Ok(exit)) => {
            let code = if let Exit::Code(code) = exit { Some(code) } else { None };
            let (changed_total, mut changed) = (left.changed.len(), left.changed);
            changed.truncate(NAMED);
            Frame::Left(Box::new(Left { code, changed, changed_total, said: left.said }))
        }
        (Err(fault), _) => Frame::Problem(Box::new(Problem::from(fault))),
        (Ok(_), Err(error)) => {
            return tracing::info!(%task, %error, "a person hung up on their terminal");
        }
    };
    if let Err(error) = async {
        out.write_all(&last.encode()).await?;
        out.shutdown().await
    }
    .await
    {
        tracing::info!(%task, %error, "a person hung up before they were told what became of their work");
    }
}

/// Types and prints until the command ends. Errors: the person hung up, or the terminal cannot be used; the command is then dead.
async fn serve(
    terminal: &mut dyn Terminal,
    frames: ReadHalf<Connection>,
    out: &mut WriteHalf<Connection>,
    stop: &Stop,
) -> io::Result<Exit> {
    // A terminal is no pipe, but is read and written like one.
    let screen = pipe::Receiver::from_owned_fd_unchecked(terminal.io()?)?;
    let keyboard = pipe::Sender::from_owned_fd_unchecked(terminal.io()?)?;
    let (sizes, mut resized) = mpsc::channel(1);
    let (ended, over) = watch::channel(false);
    let ending = async {
        let exit = loop {
            tokio::select! {
                exit = terminal.wait() => break exit,
                Some(size) = resized.recv() => terminal.resize(size),
                () = stop.asked() => {
                    terminal.kill().await;
                    break terminal.wait().await;
                }
            }
        };
        ended.send_replace(true);
        exit
    };
    let session = async {
        let (exit, printed) = tokio::join!(ending, print(screen, over, out));
        printed.map(|()| exit)
    };
    let served = tokio::select! {
        served = session => served,
        hung_up = type_in(keyboard, frames, sizes) => Err(hung_up),
    };
    if served.is_err() {
        terminal.kill().await;
    }
    served
}

/// Prints what the terminal shows, until the command has ended and what it printed is told.
async fn print(
    mut screen: pipe::Receiver,
    mut over: watch::Receiver<bool>,
    out: &mut WriteHalf<Connection>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        tokio::select! {
            read = screen.read(&mut buffer) => match read {
                // EIO: nobody holds the terminal any more.
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => out.write_all(&Frame::Data(buffer[..count].to_vec()).encode()).await?,
            },
            _ = over.changed() => break,
        }
    }
    // What is in the terminal still; processes left behind may print for ever, and are not waited for.
    for _ in 0..LAST_CHUNKS {
        match rustix::io::read(&screen, &mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(count) => out.write_all(&Frame::Data(buffer[..count].to_vec()).encode()).await?,
        }
    }
    Ok(())
}

/// Types what the person does. Resolves only when the person is gone, to the reason: that is noticed though the command reads
/// nothing of what was typed.
async fn type_in(
    mut keyboard: pipe::Sender,
    frames: ReadHalf<Connection>,
    sizes: mpsc::Sender<WindowSize>,
) -> io::Error {
    let (typed, mut waiting) = mpsc::channel::<Vec<u8>>(TYPED_AHEAD);
    let typing = async {
        while let Some(bytes) = waiting.recv().await {
            if let Err(error) = keyboard.write_all(&bytes).await {
                // The command has ended or soon will; how it did is told elsewhere.
                tracing::debug!(%error, "typed into a terminal that is closed");
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        gone = hear(frames, typed, sizes) => gone,
        gone = typing => gone,
    }
}

/// Takes the person's frames until there are no more, and says why.
async fn hear(
    mut frames: ReadHalf<Connection>,
    typed: mpsc::Sender<Vec<u8>>,
    sizes: mpsc::Sender<WindowSize>,
) -> io::Error {
    let mut last = b'\n';
    loop {
        // Once the command has ended nobody listens, which is as well.
        let _ = match read_frame(&mut frames).await {
            Ok(Frame::Data(bytes)) => {
                last = bytes.last().copied().unwrap_or(last);
                typed.send(bytes).await.is_ok()
            }
            Ok(Frame::EndOfInput) => {
                // In the middle of a line the first one only sends off what there is of it.
                let times = if last == b'\n' { 1 } else { 2 };
                typed.send(vec![END_OF_INPUT; times]).await.is_ok()
            }
            Ok(Frame::Resize(size)) => sizes.send(size.into()).await.is_ok(),
            Ok(Frame::Notes(_) | Frame::Left(_) | Frame::Problem(_)) => {
                return io::Error::new(io::ErrorKind::InvalidData, "a client does not send such frames");
            }
            Err(error) => return error,
        };
    }
}

async fn read_frame(frames: &mut ReadHalf<Connection>) -> io::Result<Frame> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut head = [0; FRAME_HEAD];
    frames.read_exact(&mut head).await?;
    let (kind, length) = Frame::head(head).map_err(invalid)?;
    let mut content = vec![0; length];
    frames.read_exact(&mut content).await?;
    Frame::decode(kind, content).map_err(invalid)
}

/// One connection to a service, for as long as either side wants it.
pub(crate) async fn preview(
    State(app): State<App>,
    Id(task): Id,
    upgrade: Upgrade,
    Body(asked): Body<wire::Preview>,
) -> Result<Response, Failure> {
    let upgraded = upgrade.to(BYTES_PROTOCOL)?;
    let Look { stream, open } = app.handle.preview(task, asked.attempt.map(AttemptNo), asked.port).await?;
    let mut service = stream
        .set_nonblocking(true)
        .and_then(|()| TcpStream::from_std(stream))
        .map_err(|error| Fault::environment(format!("a connection into the sandbox cannot be used: {error}")))?;
    let stop = app.stop.clone();
    app.sessions.spawn(async move {
        let forwarded = async {
            let mut client = TokioIo::new(upgraded.await.map_err(io::Error::other)?);
            copy_bidirectional(&mut client, &mut service).await
        };
        tokio::select! {
            // Either side may hang up as it likes; there is nobody to tell.
            forwarded = forwarded => tracing::debug!(%task, ?forwarded, "a look at a service has ended"),
            () = stop.asked() => {}
        }
        drop(open);
    });
    Ok(switched(BYTES_PROTOCOL))
}

/// Connections that outlive their request.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<JoinSet<()>>);

impl Sessions {
    fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while sessions.try_join_next().is_some() {}
        sessions.spawn(session);
    }

    /// Resolves when all have ended. No new ones may come meanwhile.
    pub async fn ended(&self) {
        let sessions = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        sessions.join_all().await;
    }
}
