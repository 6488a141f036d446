//! JSON as editors write it: with comments and with commas that nothing follows.

use domain::Fault;
use serde_json::{Map, Value};

use super::mistake;

/// The object that a file holds.
pub(super) fn object(path: &str, text: &str) -> Result<Map<String, Value>, Fault> {
    match serde_json::from_str(&plain(text)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(mistake(path, text, None, "is not an object: write `{ … }`")),
        Err(error) => Err(Fault::input(format!("{path}:{}: {error}", error.line()))),
    }
}

/// The same text with what JSON does not know replaced by spaces, so that every place keeps its line.
fn plain(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    let mut comma = None;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let skipped = match rest {
            [b'"', ..] => {
                comma = None;
                at += string(rest);
                continue;
            }
            [b'/', b'/', ..] => rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => {
                rest.windows(2).skip(2).position(|pair| pair == b"*/").map_or(rest.len(), |end| end + 4)
            }
            [b',', ..] => {
                comma = Some(at);
                0
            }
            [b'}' | b']', ..] => {
                if let Some(comma) = comma.take() {
                    bytes[comma] = b' ';
                }
                0
            }
            [byte, ..] if byte.is_ascii_whitespace() => 0,
            _ => {
                comma = None;
                0
            }
        };
        bytes[at..at + skipped].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        at += skipped.max(1);
    }
    // Whole comments went, so what is left is as valid as the text was.
    String::from_utf8(bytes).unwrap_or_default()
}

/// The length of the string that `rest` begins with, quotes included.
fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A port written as a number, or as text that ends with `:3000`.
pub(super) fn port(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.rsplit(':').next()?.parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    u16::try_from(number).ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_last_commas_are_no_mistakes() {
        let text =
            "{\n// one, \"two\"\n\"a\": \"x // no /* comment */ \\\" ,}\", /* three\n, */ \"b\": [1, 2, /**/ ],\n}\n";
        let object = object("f.json", text).unwrap();
        assert_eq!(object["a"], "x // no /* comment */ \" ,}");
        assert_eq!(object["b"], serde_json::json!([1, 2]));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let fault = object("f.json", "{\n// comment\n\"a\": nonsense\n}").unwrap_err();
        assert!(fault.what.starts_with("f.json:3: expected"), "{fault}");
        assert!(object("f.json", "[]").unwrap_err().what.contains("f.json: is not an object"));
        assert!(object("f.json", "{ \"open").is_err() && object("f.json", "{ /* open").is_err());
    }
}
