//! Writing for people: colours and widths only on a terminal, and nothing that untrusted text could do to one.

use std::{
    borrow::Cow,
    env, fmt,
    io::{self, BufRead, IsTerminal, Write},
    process, thread,
};

use domain::{Fault, FaultClass};
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
        let width = tty.then(|| rustix::termios::tcgetwinsize(io::stdout()).ok()).flatten();
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

/// Whether a person can be asked: both ends are a terminal.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// From now on Ctrl-C does this, and ends the process with 130.
pub fn on_interrupt(last_words: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let unheard = |error: io::Error| Fault::environment(format!("Ctrl-C cannot be heard: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(unheard)?;
    let mut interrupts = {
        let _inside = runtime.enter();
        signal(SignalKind::interrupt()).map_err(unheard)?
    };
    thread::spawn(move || {
        runtime.block_on(interrupts.recv());
        last_words();
        process::exit(130);
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
