//! Markdown files that begin with fields in YAML, between lines of `---`.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A file taken apart.
#[derive(Debug)]
pub(super) struct Paper {
    /// Empty where the file has none.
    pub fields: Map<String, Value>,
    /// What stands below the fields, trimmed.
    pub body: String,
}

/// The error says why the fields cannot be read, in a line.
pub(super) fn read(content: &[u8]) -> Result<Paper, String> {
    let text = String::from_utf8_lossy(content);
    let (fields, body) = parts(&text);
    let fields = match fields {
        Some(fields) => mapping(fields).or_else(|why| mapping(&quoted(fields)).map_err(|_| why))?,
        None => Map::new(),
    };
    Ok(Paper { fields, body: body.trim().to_owned() })
}

/// A field that is one text.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A field that is a list, or words with commas between them.
pub(super) fn words<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<Vec<Cow<'a, str>>> {
    match fields.get(name)? {
        Value::String(text) => {
            let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
            Some(words.map(Cow::Borrowed).collect())
        }
        Value::Array(items) => {
            let word = |item: &'a Value| item.as_str().map_or_else(|| item.to_string().into(), Cow::Borrowed);
            Some(items.iter().map(word).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    }
}

fn parts(text: &str) -> (Option<&str>, &str) {
    let text = text.trim_start_matches('\u{feff}');
    let Some(rest) =
        text.strip_prefix("---").and_then(|rest| rest.trim_start_matches([' ', '\t', '\r']).strip_prefix('\n'))
    else {
        return (None, text);
    };
    let mut at = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return (Some(&rest[..at]), &rest[at + line.len()..]);
        }
        at += line.len();
    }
    (None, text)
}

fn mapping(yaml: &str) -> Result<Map<String, Value>, String> {
    if yaml.trim().is_empty() {
        return Ok(Map::new());
    }
    serde_saphyr::from_str(yaml).map_err(|error| {
        let told = error.to_string();
        told.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("its fields are no YAML").to_owned()
    })
}

/// The same with what is no YAML behind a `key:` of the first level taken as it is written. Many such files have a description with
/// `: ` in it, which their own programs take for a text.
fn quoted(yaml: &str) -> String {
    let line = |line: &str| match line.split_once(": ") {
        Some((key, value))
            if !key.is_empty()
                && key.chars().all(|letter| letter.is_alphanumeric() || "-_".contains(letter))
                && (value.contains(": ")
                    || value.trim_end().ends_with(':')
                    || value.trim_start().starts_with(['*', '&', '!', '@', '`', '%']))
                && !value.trim_start().starts_with(['"', '\'', '[', '{', '|', '>']) =>
        {
            format!("{key}: {}", Value::from(value.trim()))
        }
        _ => line.to_owned(),
    };
    yaml.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_body_are_told_apart() {
        let paper =
            read(b"\xef\xbb\xbf---\r\nname: a\r\ntools: Read, Grep\r\n---\r\n\r\nDo it.\r\n---\r\nmore\r\n").unwrap();
        assert_eq!(text(&paper.fields, "name"), Some("a"));
        assert_eq!(words(&paper.fields, "tools").unwrap(), ["Read", "Grep"]);
        assert_eq!(paper.body, "Do it.\r\n---\r\nmore");
        for plain in ["No fields.", "---\nname: a\nwithout an end", "--- a\n---\n"] {
            let paper = read(plain.as_bytes()).unwrap();
            assert!(paper.fields.is_empty() && paper.body == plain.trim(), "{plain}");
        }
        assert!(read(b"---\n---\nBody").unwrap().fields.is_empty());
    }

    #[test]
    fn descriptions_that_are_no_yaml_are_taken_as_they_are_written() {
        let loose =
            "---\nname: reviewer\ndescription: Use when: \"done\". Example: <a>b: c</a>\ntools:\n  - Read\n---\nBody";
        let paper = read(loose.as_bytes()).unwrap();
        assert_eq!(text(&paper.fields, "description"), Some("Use when: \"done\". Example: <a>b: c</a>"));
        assert_eq!(words(&paper.fields, "tools").unwrap(), ["Read"]);
        for bad in ["---\na: [\n---\n", "---\n- a\n---\n", "---\nname: a\nname: b\n---\n"] {
            let why = read(bad.as_bytes()).unwrap_err();
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
    }
}
