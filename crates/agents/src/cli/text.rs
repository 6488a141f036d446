//! Text for people, as a program prints it: to the transcript in pieces, and its end kept.

use domain::ports::agent::EntryBody;

use crate::updates::Updates;

/// What goes to the transcript at a time, and in all; of the rest the last part follows at the end.
const PIECE: usize = 4 * 1024;
const LIVE: usize = 256 * 1024;
/// The last part that is kept.
const TAIL: usize = 64 * 1024;

/// Everything that was printed, as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Text {
    /// Not yet in the transcript.
    piece: String,
    told: usize,
    elided: usize,
    tail: String,
}

impl Text {
    pub fn line(&mut self, line: &str, updates: &mut Updates<'_>) {
        let line = line.trim_end();
        self.tail.push_str(line);
        self.tail.push('\n');
        if self.tail.len() > 2 * TAIL {
            self.tail.drain(..self.tail.ceil_char_boundary(self.tail.len() - TAIL));
        }
        self.piece.push_str(line);
        self.piece.push('\n');
        if self.told >= LIVE {
            self.elided += self.piece.len();
            self.piece.clear();
        } else if self.piece.len() >= PIECE {
            self.tell(updates);
        }
    }

    /// Writes what is left.
    pub fn end(&mut self, updates: &mut Updates<'_>) {
        if self.elided > 0 {
            let tail = self.last(TAIL).to_owned();
            let elided = self.elided.saturating_sub(tail.len());
            self.piece = format!("[… {elided} bytes elided …]\n{tail}");
        }
        if !self.piece.is_empty() {
            self.tell(updates);
        }
    }

    /// At most the last `bytes`, from the beginning of a line where there is one.
    pub fn last(&self, bytes: usize) -> &str {
        let text = self.tail.trim_end();
        if text.len() <= bytes {
            return text.trim_start();
        }
        let text = &text[text.ceil_char_boundary(text.len() - bytes)..];
        text.split_once('\n').map_or(text, |(_, lines)| lines)
    }

    fn tell(&mut self, updates: &mut Updates<'_>) {
        let mut text = std::mem::take(&mut self.piece);
        // One line may be as long as the transport lets it be.
        if text.len() > 2 * TAIL {
            let cut = text.len() - 2 * TAIL;
            text.truncate(text.floor_char_boundary(2 * TAIL));
            text.push_str(&format!("[… {cut} bytes elided …]\n"));
        }
        self.told += text.len();
        updates.journal.write(updates.rounds(), EntryBody::Output { text });
    }
}
