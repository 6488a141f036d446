//! Writing for people: colours and widths only on a terminal, and nothing that untrusted text could do to one.

use std::{
    borrow::Cow,
    env, fmt,
    future::poll_fn,
    io::{self, BufRead, IsTerminal, Write},
    process,
    task::Poll,
    thread,
};

use domain::{Fault, FaultClass};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// How standard output is to be written to.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Whether a terminal shows it.
    pub tty: bool,
    colour: bool,
    /// Columns; 100 where nobody knows.
    pub width: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Screen {
    pub fn of_stdout() -> Self {
        let tty = io::stdout().is_terminal();
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = tty.then(|| tcgetwinsize(io::stdout()).ok()).flatten();
        let width = width.map(|size| usize::from(size.ws_col)).filter(|columns| *columns >= 40).unwrap_or(100);
        Self { tty, colour: tty && !plain, width }
    }

    pub fn paint(&self, paint: Paint, text: impl fmt::Display) -> String {
        if !self.colour {
            return text.to_string();
        }
        let code = match paint {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Cyan => "36",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Makes untrusted text harmless to a terminal: control and direction-changing characters become visible marks; line breaks
/// and tabs stay.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hostile) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|char| if is_hostile(char) { visible(char) } else { char }).collect())
}

/// The same on one line, at most `width` characters.
pub fn clean_line(text: &str, width: usize) -> String {
    let line: String = clean(text).split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= width {
        return line;
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn is_hostile(char: char) -> bool {
    let steers =
        matches!(char, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    steers || (char.is_control() && char != '\n' && char != '\t')
}

/// The Unicode picture of a control character.
fn visible(char: char) -> char {
    match u32::from(char) {
        code @ 0..=0x1f => char::from_u32(0x2400 + code).unwrap_or('\u{fffd}'),
        0x7f => '\u{2421}',
        _ => '\u{fffd}',
    }
}

/// Writes to standard output. A reader that went away (`| head`) ends the process quietly.
pub fn print(text: &str) {
    print_bytes(text.as_bytes());
}

pub fn print_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        if error.kind() != io::ErrorKind::BrokenPipe {
            print_error(&format!("error: standard output cannot be written: {error}\n"));
            process::exit(1);
        }
        process::exit(0);
    }
}

/// Writes to standard error, whatever becomes of it: there is nowhere left to complain.
pub fn print_error(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// How a fault reaches its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
}

/// Tells a fault on standard error.
pub fn print_fault(fault: &Fault, form: Form) {
    if form == Form::Json {
        let line = serde_json::to_string(&serde_json::json!({ "error": fault })).unwrap_or_default();
        return print_error(&format!("{line}\n"));
    }
    let mark = if fault.class == FaultClass::Bug { "error (our mistake)" } else { "error" };
    let mut text = format!("{mark}: {}\n", clean(&fault.what));
    if let Some(hint) = &fault.hint {
        text.push_str(&format!("hint: {}\n", clean(hint)));
    }
    print_error(&text);
}

/// Asks on the terminal; anything but yes is no.
pub fn confirm(question: &str) -> bool {
    print(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// One line that is typed and not shown. `None` when it is empty. Standard input must be a terminal.
pub fn read_hidden(prompt: &str) -> Result<Option<String>, Fault> {
    let unreadable = |error: io::Error| Fault::input(format!("the {prompt} cannot be read: {error}"));
    let stdin = io::stdin();
    print_error(&format!("{prompt} (not shown): "));
    let usual = tcgetattr(&stdin).map_err(|error| unreadable(error.into()))?;
    let mut silent = usual.clone();
    let mended = usual.clone();
    on_interrupt(move || {
        // A terminal that stays silent would be worse than this going unsaid.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &mended);
        print_error("\n");
    })?;
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| unreadable(error.into()))?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &usual).map_err(|error| unreadable(error.into()))?;
    print_error("\n");
    read.map_err(unreadable)?;
    Ok(Some(line.trim().to_owned()).filter(|line| !line.is_empty()))
}

/// Standard input's terminal, handing on every key as it is pressed. Put back as it was when dropped, and when the process is
/// asked to end.
#[derive(Debug)]
pub struct RawTerminal {
    usual: Termios,
}

impl RawTerminal {
    pub fn enter() -> Result<Self, Fault> {
        let unusable = |error: io::Error| Fault::environment(format!("the terminal cannot be used: {error}"));
        let usual = tcgetattr(io::stdin()).map_err(|error| unusable(error.into()))?;
        let mended = usual.clone();
        on_signals(
            &[SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit()],
            move || {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &mended);
                process::exit(130);
            },
        )
        .map_err(unusable)?;
        let mut raw = usual.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw).map_err(|error| unusable(error.into()))?;
        Ok(Self { usual })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // What is left to do about a terminal that is gone is nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.usual);
    }
}

/// The size of the terminal that standard output or input is, in rows and columns.
pub fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Calls `each` after every change of the terminal's size.
pub fn on_resize(each: impl FnMut() + Send + 'static) -> Result<(), Fault> {
    on_signals(&[SignalKind::window_change()], each)
        .map_err(|error| Fault::environment(format!("changes of the terminal's size cannot be heard: {error}")))
}

/// Whether a person can be asked: both ends are a terminal.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// From now on Ctrl-C does this, and ends the process with 130.
pub fn on_interrupt(last_words: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let mut last_words = Some(last_words);
    on_signals(&[SignalKind::interrupt()], move || {
        if let Some(last_words) = last_words.take() {
            last_words();
        }
        process::exit(130);
    })
    .map_err(|error| Fault::environment(format!("Ctrl-C cannot be heard: {error}")))
}

/// Calls `each` on a thread of its own whenever one of these comes, from now on.
fn on_signals(kinds: &[SignalKind], mut each: impl FnMut() + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        kinds.iter().map(|kind| signal(*kind)).collect::<io::Result<Vec<_>>>()?
    };
    thread::spawn(move || {
        loop {
            runtime.block_on(poll_fn(|context| {
                let came = signals.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
                if came { Poll::Ready(()) } else { Poll::Pending }
            }));
            each();
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_steer_a_terminal() {
        assert_eq!(clean("plain\n\ttext"), "plain\n\ttext");
        assert_eq!(clean("\x1b[2Jgone\x07\r"), "␛[2Jgone␇␍");
        assert_eq!(clean("a\u{202e}b\u{9b}c"), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn a_line_is_cut_by_characters() {
        assert_eq!(clean_line("  one\n two ", 20), "one two");
        assert_eq!(clean_line("äöüß", 3), "äö…");
    }
}
