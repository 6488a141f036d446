//! Takes secret values out of bytes before anyone outside sees them: as they are, and in the encodings that programs print.

use std::{fmt, ops::Range};

/// Values shorter than this are not looked for: they would be found everywhere.
const SHORTEST: usize = 6;

/// What to look for. `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a value is not left in part where another one is the beginning of it.
    patterns: Vec<Pattern>,
    /// Whether a pattern begins with this byte.
    starts: Box<[u64; 4]>,
    longest: usize,
}

#[derive(Clone)]
struct Pattern {
    name: String,
    bytes: Vec<u8>,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.patterns.iter().map(|pattern| pattern.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        f.debug_set().entries(names).finish()
    }
}

impl Redactor {
    /// From names and values. A value is also looked for line by line, in base64 (both alphabets, at every offset), in hexadecimal
    /// and percent-encoded.
    pub fn new<'a>(secrets: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut patterns = Vec::new();
        for (name, value) in secrets {
            let whole = value.trim();
            let lines =
                whole.lines().map(str::trim).filter(|line| line.len() < whole.len() && line.len() >= 2 * SHORTEST);
            for value in [whole].into_iter().chain(lines) {
                if value.len() >= SHORTEST {
                    let forms = forms(value.as_bytes()).into_iter().filter(|form| form.len() >= SHORTEST);
                    patterns.extend(forms.map(|bytes| Pattern { name: name.to_owned(), bytes }));
                }
            }
        }
        patterns.sort_by(|a, b| (b.bytes.len(), &a.bytes).cmp(&(a.bytes.len(), &b.bytes)));
        patterns.dedup_by(|a, b| a.bytes == b.bytes);
        let mut starts = Box::new([0; 4]);
        for first in patterns.iter().filter_map(|pattern| pattern.bytes.first()) {
            starts[usize::from(first >> 6)] |= 1u64 << (first & 63);
        }
        let longest = patterns.first().map_or(0, |pattern| pattern.bytes.len());
        Self { patterns, starts, longest }
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The length of the longest pattern: how much of a stream's end must be held back until more of it has come, less one.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// Where values are in `bytes`, one after the other, each with its secret's name.
    pub fn found<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (Range<usize>, &'a str)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            while at < bytes.len() {
                let start = at;
                match self.at(&bytes[start..]) {
                    Some(pattern) => {
                        at += pattern.bytes.len();
                        return Some((start..at, pattern.name.as_str()));
                    }
                    None => at += 1,
                }
            }
            None
        })
    }

    /// `bytes` with every value replaced by `[NAME redacted]`; `None` where there is none in it.
    pub fn redact(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        let mut kept = 0;
        for (place, name) in self.found(bytes) {
            let out = out.get_or_insert_with(|| Vec::with_capacity(bytes.len()));
            out.extend_from_slice(&bytes[kept..place.start]);
            out.extend_from_slice(format!("[{name} redacted]").as_bytes());
            kept = place.end;
        }
        if let Some(out) = &mut out {
            out.extend_from_slice(&bytes[kept..]);
        }
        out
    }

    /// As [`Self::redact`], for text.
    pub fn redact_text(&self, text: &str) -> Option<String> {
        self.redact(text.as_bytes()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How many bytes at the start of `bytes` can be passed on while more may follow: what comes after them may be the beginning
    /// of a value. Never splits a value that is whole.
    pub fn settled(&self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self.at(rest) {
                // A longer value may begin here too.
                Some(_) if self.may_begin(rest) => return at,
                Some(pattern) => at += pattern.bytes.len(),
                None if self.may_begin(rest) => return at,
                None => at += 1,
            }
        }
        at
    }

    /// The longest pattern that `rest` begins with.
    fn at(&self, rest: &[u8]) -> Option<&Pattern> {
        let first = *rest.first()?;
        if self.starts[usize::from(first >> 6)] & (1 << (first & 63)) == 0 {
            return None;
        }
        self.patterns.iter().find(|pattern| rest.starts_with(&pattern.bytes))
    }

    /// Whether all of `rest` is the beginning of a longer pattern.
    fn may_begin(&self, rest: &[u8]) -> bool {
        rest.len() < self.longest
            && self.patterns.iter().any(|pattern| pattern.bytes.len() > rest.len() && pattern.bytes.starts_with(rest))
    }
}

/// A value as programs print it.
fn forms(value: &[u8]) -> Vec<Vec<u8>> {
    let mut forms =
        vec![value.to_vec(), hexadecimal(value, b"0123456789abcdef"), hexadecimal(value, b"0123456789ABCDEF")];
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let percent = value.iter().flat_map(|byte| match unreserved(*byte) {
            true => vec![*byte],
            false => vec![b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]],
        });
        forms.push(percent.collect());
    }
    // As JSON and most languages quote it.
    forms.push(
        value.iter().flat_map(|byte| if b"\"\\".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] }).collect(),
    );
    for offset in 0..3 {
        for alphabet in [STANDARD, URL_SAFE] {
            forms.push(base64_middle(value, offset, alphabet));
        }
    }
    forms
}

fn hexadecimal(value: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    value.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The characters of a base64 text that this value alone decides, when `offset` (0 to 2) other bytes stand before it in its group
/// of three.
fn base64_middle(value: &[u8], offset: usize, alphabet: &[u8; 64]) -> Vec<u8> {
    let first = (offset * 8).div_ceil(6);
    let last = (offset + value.len()) * 8 / 6;
    let bit = |at: usize| match at.checked_sub(offset * 8) {
        Some(at) => value.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1),
        None => 0,
    };
    (first..last)
        .map(|character| alphabet[usize::from((0..6).fold(0u8, |sum, at| sum << 1 | bit(character * 6 + at)))])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::Redactor;

    const SECRET: &str = "s3cr3t/Value+with=odd \"chars\"";

    fn redactor() -> Redactor {
        Redactor::new([("TOKEN", SECRET), ("SHORT", "abc"), ("LONGER", "s3cr3t/Value+with=odd \"chars\" and more")])
    }

    #[test]
    fn values_are_found_as_programs_print_them() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let percent: String = SECRET
            .bytes()
            .map(
                |byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") },
            )
            .collect();
        // `printf '%s' VALUE | base64`, then with `x` and with `xy` before it.
        let texts = [
            SECRET.to_owned(),
            hex,
            percent,
            "czNjcjN0L1ZhbHVlK3dpdGg9b2RkICJjaGFycyI=".to_owned(),
            "eHMzY3IzdC9WYWx1ZSt3aXRoPW9kZCAiY2hhcnMi".to_owned(),
            "eHlzM2NyM3QvVmFsdWUrd2l0aD1vZGQgImNoYXJzIg==".to_owned(),
            r#"s3cr3t/Value+with=odd \"chars\""#.to_owned(),
        ];
        for text in texts {
            let told = redactor().redact_text(&format!("before {text} after")).unwrap_or_default();
            assert!(told.contains("[TOKEN redacted]"), "{text} became {told:?}");
            assert!(told.starts_with("before ") && told.ends_with(" after"), "{told:?}");
        }
        assert_eq!(redactor().redact(b"abc is too short to be a secret"), None);
        assert_eq!(
            redactor().redact_text(&format!("{SECRET} and more!")).as_deref(),
            Some("[LONGER redacted]!"),
            "the longest wins"
        );
    }

    #[test]
    fn a_stream_in_any_pieces_is_redacted_as_one() {
        let redactor = redactor();
        let text = format!("a{SECRET}b{SECRET} and morec {SECRET} and");
        let whole = redactor.redact(text.as_bytes()).unwrap();
        for size in 1..text.len() {
            let (mut held, mut out) = (Vec::new(), Vec::new());
            let pass = |bytes: &[u8], out: &mut Vec<u8>| {
                out.extend(redactor.redact(bytes).unwrap_or_else(|| bytes.to_vec()));
            };
            for piece in text.as_bytes().chunks(size) {
                held.extend_from_slice(piece);
                let settled = redactor.settled(&held);
                pass(&held[..settled], &mut out);
                held.drain(..settled);
            }
            pass(&held, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole), "in pieces of {size}");
        }
    }

    #[test]
    fn lines_of_a_long_value_are_secret_too() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\n-----END KEY-----\n";
        let told = Redactor::new([("KEY", key)]).redact_text("x MIIEvQIBADANBgkqhkiG9w0 y");
        assert_eq!(told.as_deref(), Some("x [KEY redacted] y"));
    }
}
