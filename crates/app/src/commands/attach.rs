//! `attach`: a person's terminal in a task's sandbox. Keys go there as they are pressed; the terminal is given back on every way out.

use std::{
    env,
    io::{self, BufReader, IsTerminal, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use api::wire::{
    self, Problem,
    attach::{FRAME_HEAD, Frame, Left, Size, TERMINAL_PROTOCOL},
};
use domain::{Fault, ports::workspace::ChangeKind};

use super::{Context, console};
use crate::{
    Exit,
    cli::Attach,
    client::of_task,
    terminal::{self, Form, RawTerminal, clean},
};

/// Runs what a pipe brings as a script: nothing of it is echoed, no shell prompts for it, and lines end as they do in files. Says
/// when it is ready to be typed to.
const SCRIPT: &str = r"stty -echo -onlcr 2>/dev/null; printf '\006'; cat | sh";
const READY: u8 = 6;
/// Changed paths that are listed.
const LISTED: usize = 40;

/// How standard input is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// A terminal's keys, as they are pressed.
    Keys,
    /// What a pipe brings, for the command that was named.
    Pipe,
    /// What a pipe brings, to be run.
    Script,
}

pub fn attach(context: &Context, args: Attach) -> Result<Exit, Fault> {
    let input = match (io::stdin().is_terminal(), args.argv.is_empty()) {
        (true, _) => Input::Keys,
        (false, false) => Input::Pipe,
        (false, true) => Input::Script,
    };
    // How a person's shell ended says nothing.
    let judged = input == Input::Script || !args.argv.is_empty();
    let argv = if input == Input::Script { ["sh", "-c", SCRIPT].map(str::to_owned).to_vec() } else { args.argv };
    let term = env::var("TERM").ok().filter(|term| input == Input::Keys && !term.is_empty());
    let size = size().filter(|_| input == Input::Keys);
    let asked = wire::Attach { attempt: args.attempt, argv, term, size };
    let connection = context.client.upgrade(&of_task(args.of.task, "attach"), TERMINAL_PROTOCOL, &asked)?;
    let left = session(context.form, connection, input)?;
    match context.form {
        Form::Json => terminal::print(&format!("{}\n", serde_json::json!(left))),
        Form::Text => terminal::print_error(&told(&left)),
    }
    Ok(if judged && left.code != Some(0) { Exit::Badly } else { Exit::Well })
}

/// From the connection's first frame to its last.
fn session(form: Form, connection: BufReader<UnixStream>, input: Input) -> Result<Left, Fault> {
    let lost = |error: io::Error| {
        Fault::transient(format!("the connection to the daemon broke off: {error}"))
            .hint("what was changed is kept in the workspace; attach again to see it")
    };
    let keys = Arc::new(Mutex::new(connection.get_ref().try_clone().map_err(lost)?));
    let raw = if input == Input::Keys { Some(RawTerminal::enter()?) } else { None };
    if input == Input::Keys {
        let keys = Arc::clone(&keys);
        terminal::on_resize(move || {
            if let Some(size) = size() {
                send(&keys, &Frame::Resize(size));
            }
        })?;
    }
    let mut screen = Screen { connection, form, keys: Some(keys) };
    if input != Input::Script {
        screen.begin_typing();
    }
    let end = screen.show().map_err(lost);
    // Before a word more is printed.
    drop(raw);
    match end? {
        Ok(left) => Ok(left),
        Err(problem) => Err(problem.into()),
    }
}

/// Hands on what standard input brings. A daemon that is gone is noticed where its frames are read.
fn type_in(keys: &Mutex<UnixStream>) {
    let mut buffer = vec![0; 16 << 10];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return send(keys, &Frame::EndOfInput),
            Ok(count) => send(keys, &Frame::Data(buffer[..count].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return send(keys, &Frame::EndOfInput),
        }
    }
}

fn send(keys: &Mutex<UnixStream>, frame: &Frame) {
    let mut connection = keys.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = connection.write_all(&frame.encode());
}

/// What the terminal there shows.
struct Screen {
    connection: BufReader<UnixStream>,
    form: Form,
    /// Until typing has begun.
    keys: Option<Arc<Mutex<UnixStream>>>,
}

impl Screen {
    fn begin_typing(&mut self) {
        if let Some(keys) = self.keys.take() {
            thread::spawn(move || type_in(&keys));
        }
    }

    /// Prints until the daemon says how it was left.
    fn show(&mut self) -> io::Result<Result<Left, Problem>> {
        loop {
            match self.next()? {
                Frame::Data(mut bytes) => {
                    if self.keys.is_some() {
                        self.begin_typing();
                        bytes.retain(|byte| *byte != READY);
                    }
                    // A reader that went away (`| head`) does not end the work: the daemon is to say what became of it.
                    let mut out = io::stdout().lock();
                    let _ = out.write_all(&bytes).and_then(|()| out.flush());
                }
                Frame::Notes(notes) if self.form == Form::Text => {
                    // The terminal may be raw: a line break alone would not go back to the margin.
                    let lines = notes.iter().map(|note| format!("{}\r\n", clean(note).replace('\n', "\r\n")));
                    terminal::print_error(&lines.collect::<String>());
                }
                Frame::Left(left) => return Ok(Ok(*left)),
                Frame::Problem(problem) => return Ok(Err(*problem)),
                Frame::Notes(_) | Frame::Resize(_) | Frame::EndOfInput => {}
            }
        }
    }

    fn next(&mut self) -> io::Result<Frame> {
        let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let mut head = [0; FRAME_HEAD];
        self.connection.read_exact(&mut head)?;
        let (kind, length) = Frame::head(head).map_err(invalid)?;
        let mut content = vec![0; length];
        self.connection.read_exact(&mut content)?;
        Frame::decode(kind, content).map_err(invalid)
    }
}

fn size() -> Option<Size> {
    terminal::size().map(|(rows, columns)| Size { rows, columns })
}

fn told(left: &Left) -> String {
    let mut text = String::new();
    for change in left.changed.iter().take(LISTED) {
        let mark = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'M',
            ChangeKind::Deleted => 'D',
            ChangeKind::TypeChanged => 'T',
        };
        let lines =
            if change.binary { "binary".to_owned() } else { format!("+{} −{}", change.added, change.deleted) };
        text.push_str(&format!("  {mark} {}  {lines}\n", clean(&change.path)));
    }
    let more = left.changed_total.saturating_sub(LISTED.min(left.changed.len()));
    if more > 0 {
        text.push_str(&format!("  … and {} more\n", console::grouped(more as u64)));
    }
    text.push_str(&format!("{}\n", clean(&left.said)));
    text
}
