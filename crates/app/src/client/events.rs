//! Server-sent events, as a client reads them.

use std::io::{self, BufRead};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: Option<String>,
}

/// The next event; `None` at the proper end of the stream. A stream that breaks off is an error.
pub fn next(stream: &mut impl BufRead) -> io::Result<Option<Event>> {
    let mut event = Event::default();
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            if event != Event::default() {
                return Ok(Some(event));
            }
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => event.id = Some(value.to_owned()),
            "data" => {
                if !event.data.is_empty() {
                    event.data.push('\n');
                }
                event.data.push_str(value);
            }
            // A comment keeps the stream alive; other fields are not ours.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_and_comments_are_skipped() {
        let mut stream: &[u8] = b": hi\n\nevent: line\nid: 7\ndata: {\"a\":\ndata:1}\n\n:\n\ndata: x\r\n\r\ndata: cut";
        let first = Event { name: "line".into(), data: "{\"a\":\n1}".into(), id: Some("7".into()) };
        assert_eq!(next(&mut stream).unwrap(), Some(first));
        assert_eq!(next(&mut stream).unwrap(), Some(Event { data: "x".into(), ..Event::default() }));
        assert_eq!(next(&mut stream).unwrap(), None);
    }
}
