//! Cutting long texts: the head and the tail of an output with the elided count, the head of a summary.

use domain::ports::sandbox::Output;

/// How much of an output is kept, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub head: usize,
    /// The tail also takes what the head leaves over.
    pub tail: usize,
}

/// A part of an output, as text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Clip {
    /// Bytes that are not UTF-8 are shown as `U+FFFD`, a run of them as one.
    pub text: String,
    /// Bytes left out in the middle, where the text says so.
    pub elided: u64,
}

/// What `output` holds from byte `seen` on, cut to `room`.
pub(crate) fn since(output: &Output, seen: u64, room: Room) -> Clip {
    let head = &output.head[index(seen).min(output.head.len())..];
    let tail_at = output.total.saturating_sub(output.tail.len() as u64);
    let tail = &output.tail[index(seen.saturating_sub(tail_at)).min(output.tail.len())..];
    let gap = tail_at.saturating_sub(seen.max(output.head.len() as u64));
    if gap == 0 && head.len() + tail.len() <= room.head + room.tail {
        return Clip { text: lossy(&[head, tail].concat()), elided: 0 };
    }

    // Where nothing is missing between the two, the head may reach into the tail and the other way round.
    let joined = if gap == 0 { [head, tail].concat() } else { Vec::new() };
    let (front, back) = if gap == 0 { (&joined[..], &joined[..]) } else { (head, tail) };
    let front = &front[..floor(front, room.head)];
    let back = &back[ceil(back, back.len().saturating_sub(room.head + room.tail - front.len()))..];
    let elided = output.total.saturating_sub(seen).saturating_sub((front.len() + back.len()) as u64);
    Clip { text: format!("{}\n[… {elided} bytes elided …]\n{}", lossy(front), lossy(back)), elided }
}

/// Head and tail of `text`, as much as `room` has for them.
pub(crate) fn middle(text: &str, room: Room) -> String {
    if text.len() <= room.head + room.tail {
        return text.to_owned();
    }
    let (head, tail) = (text.floor_char_boundary(room.head), text.ceil_char_boundary(text.len() - room.tail));
    format!("{}\n[… {} bytes elided …]\n{}", &text[..head], tail - head, &text[tail..])
}

/// The first `max` bytes of `text` at most, with a mark where it was cut.
pub(crate) fn head(text: &str, max: usize) -> String {
    const MARK: &str = "\n[… cut]";
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(max.saturating_sub(MARK.len()))])
}

fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// The largest character boundary that is not above `at`.
fn floor(bytes: &[u8], at: usize) -> usize {
    if at >= bytes.len() {
        return bytes.len();
    }
    (at.saturating_sub(3)..=at).rev().find(|&at| !is_continuation(bytes[at])).unwrap_or(at)
}

/// The smallest character boundary that is not below `at`.
fn ceil(bytes: &[u8], at: usize) -> usize {
    (at..bytes.len().min(at + 4)).find(|&at| !is_continuation(bytes[at])).unwrap_or(at)
}

fn is_continuation(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() && !text.ends_with(char::REPLACEMENT_CHARACTER) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Room = Room { head: 4, tail: 6 };

    /// An output as a sandbox with `keep` bytes for head and for tail would give it.
    fn output(bytes: &[u8], keep: usize) -> Output {
        let head = &bytes[..bytes.len().min(keep)];
        let rest = &bytes[head.len()..];
        let tail = &rest[rest.len().saturating_sub(keep)..];
        Output { head: head.to_vec().into(), tail: tail.to_vec().into(), total: bytes.len() as u64, file: None }
    }

    #[test]
    fn what_fits_is_whole_whatever_the_seam() {
        for keep in 5..12 {
            let clip = since(&output(b"0123456789", keep), 0, ROOM);
            assert_eq!(clip, Clip { text: "0123456789".to_owned(), elided: 0 });
            assert_eq!(since(&output(b"0123456789", keep), 7, ROOM).text, "789");
            assert_eq!(since(&output(b"0123456789", keep), 10, ROOM).text, "");
        }
    }

    #[test]
    fn the_middle_is_elided_and_counted() {
        for keep in [8, 10, 13, 30] {
            let clip = since(&output(b"0123456789abcdefghijklmno", keep), 0, ROOM);
            assert_eq!(clip, Clip { text: "0123\n[… 15 bytes elided …]\njklmno".to_owned(), elided: 15 }, "{keep}");
        }
        let late = since(&output(b"0123456789abcdefghijklmno", 10), 12, ROOM);
        assert_eq!(late, Clip { text: "\n[… 3 bytes elided …]\nfghijklmno".to_owned(), elided: 3 });
    }

    #[test]
    fn characters_are_not_cut_and_wrong_bytes_are_shown_once() {
        let clip = since(&output("aééééééééééb".as_bytes(), 64), 0, ROOM);
        assert_eq!(clip.text, "aé\n[… 12 bytes elided …]\néééb");
        assert_eq!(since(&output(b"a\xff\xfe\x80b", 64), 0, ROOM).text, "a\u{fffd}b");
        let garbage = since(&output(&[0x80; 40], 64), 0, ROOM);
        assert!(garbage.elided > 20 && garbage.text.contains('\u{fffd}'));
    }

    #[test]
    fn the_middle_of_a_text_is_elided() {
        assert_eq!(middle("0123456789", ROOM), "0123456789");
        assert_eq!(middle("0123456789abcdef", ROOM), "0123\n[… 6 bytes elided …]\nabcdef");
        assert_eq!(middle("éééééééé", Room { head: 3, tail: 3 }), "é\n[… 12 bytes elided …]\né");
    }

    #[test]
    fn a_head_never_exceeds_its_bound() {
        assert_eq!(head("short", 16), "short");
        let cut = head(&"é".repeat(40), 32);
        assert!(cut.len() <= 32 && cut.ends_with("[… cut]"), "{cut}");
    }
}
