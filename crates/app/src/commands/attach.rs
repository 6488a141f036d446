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

/// Runs what a pipe brings as a script: nothing of it is echoed, and no shell prompts for it.
const SCRIPT: &str = "stty -echo 2>/dev/null; cat | sh";
/// Changed paths that are listed.
const LISTED: usize = 40;

pub fn attach(context: &Context, args: Attach) -> Result<Exit, Fault> {
    let (task, judged) = (args.of.task, !args.argv.is_empty() || !io::stdin().is_terminal());
    let interactive = io::stdin().is_terminal();
    let argv = match (args.argv.is_empty(), interactive) {
        (true, false) => ["sh", "-c", SCRIPT].map(str::to_owned).to_vec(),
        (true, true) | (false, _) => args.argv,
    };
    let term = env::var("TERM").ok().filter(|term| interactive && !term.is_empty());
    let size = size().filter(|_| interactive);
    let asked = wire::Attach { attempt: args.attempt, argv, term, size };
    let connection = context.client.upgrade(&of_task(task, "attach"), TERMINAL_PROTOCOL, &asked)?;
    let left = session(context, connection, interactive)?;
    match context.form {
        Form::Json => terminal::print(&format!("{}\n", serde_json::json!(left))),
        Form::Text => terminal::print_error(&told(&left)),
    }
    Ok(if judged && left.code != Some(0) { Exit::Badly } else { Exit::Well })
}

/// From the connection's first frame to its last.
fn session(context: &Context, connection: BufReader<UnixStream>, interactive: bool) -> Result<Left, Fault> {
    let lost = |error: io::Error| {
        Fault::transient(format!("the connection to the daemon broke off: {error}"))
            .hint("what was changed is kept in the workspace; attach again to see it")
    };
    let keys = connection.get_ref().try_clone().map_err(lost)?;
    let keys = Arc::new(Mutex::new(keys));
    let raw = interactive.then(RawTerminal::enter).transpose()?;
    if interactive {
        let keys = Arc::clone(&keys);
        terminal::on_resize(move || {
            if let Some(size) = size() {
                send(&keys, &Frame::Resize(size));
            }
        })?;
    }
    thread::spawn(move || type_in(&keys));
    let end = show(connection, context.form).map_err(lost);
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

/// Prints what the terminal there shows, until the daemon says how it was left.
fn show(mut connection: BufReader<UnixStream>, form: Form) -> io::Result<Result<Left, Problem>> {
    let invalid = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    loop {
        let mut head = [0; FRAME_HEAD];
        connection.read_exact(&mut head)?;
        let (kind, length) = Frame::head(head).map_err(invalid)?;
        let mut content = vec![0; length];
        connection.read_exact(&mut content)?;
        match Frame::decode(kind, content).map_err(invalid)? {
            Frame::Data(bytes) => {
                // A reader that went away (`| head`) does not end the work: the daemon is to say what became of it.
                let mut out = io::stdout().lock();
                let _ = out.write_all(&bytes).and_then(|()| out.flush());
            }
            Frame::Notes(notes) if form == Form::Text => {
                // The terminal may be raw: a line break alone would not go back to the margin.
                let notes: String =
                    notes.iter().map(|note| format!("{}\r\n", clean(note).replace('\n', "\r\n"))).collect();
                terminal::print_error(&notes);
            }
            Frame::Left(left) => return Ok(Ok(*left)),
            Frame::Problem(problem) => return Ok(Err(*problem)),
            Frame::Notes(_) | Frame::Resize(_) | Frame::EndOfInput => {}
        }
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
